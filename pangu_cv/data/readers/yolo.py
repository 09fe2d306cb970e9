"""YOLO's layout: a ``data.yaml``, images below ``images/`` and boxes in ``labels/`` as shares of the image's sides."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.data.outlines import Outline, Outlined, Outlines, polygon
from pangu_cv.data.readers import yolo_table
from pangu_cv.data.readers.annotation import Notes, fitted, known, numbers, read_utf8, upright_size
from pangu_cv.data.readers.folders import describe, split_folders
from pangu_cv.data.sample import Box, Dataset, Sample, Split
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images


def recognises(path: Path) -> bool:
    """Whether a file is a table of this kind, or a folder holds one or has images beside labels."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml")
    labels = (file for file in (path / "labels").rglob("*.txt") if file.name != "classes.txt")
    is_plain = (path / "images").is_dir() and any(labels)
    return is_plain or yolo_table.table_in(path) is not None


def read(path: Path) -> Dataset:
    """Samples with their boxes; headers of images are read, since boxes are shares of their size.

    An empty file of labels says that nothing is in the image; where the file is lacking the image is unlabelled. Of
    outlines (polygons) the box around them is taken, of poses the box. Raises DataError on a malformed table or file of
    labels, and for an image in two splits.
    """
    table = path if path.is_file() else yolo_table.table_in(path)
    root = table.parent if table else path
    if table is None and (root / "data.yaml").is_file():
        yolo_table.load(root / "data.yaml")  # tells why it is none: passed over, the classes would lose their names
    tree = yolo_table.load(table) if table else {}
    notes = Notes()
    labels = _labels(root, tree, table, notes)
    found = _once(yolo_table.split_images(tree, table, notes) if table else _plain(root))
    samples = tuple(Sample(image, split=split, boxes=labels.boxes(image)) for image, split in found)
    if not samples:
        told = "".join(f" ({line})" for line in notes.lines)
        raise DataError(f"{path}: no image in the folders or lists named by it{told}; found {describe(root)}")
    return Dataset(root, "yolo", samples, notes.lines)


def outlines(path: Path) -> Outlines:
    """The outlines of every image with a file of labels; see ``read``."""
    table = path if path.is_file() else yolo_table.table_in(path)
    root = table.parent if table else path
    tree = yolo_table.load(table) if table else {}
    notes = Notes()
    labels = _labels(root, tree, table, notes)
    found = _once(yolo_table.split_images(tree, table, notes) if table else _plain(root))
    told = [(image, labels.outlines(image)) for image, _ in found]
    return Outlines({image.resolve(): outlined for image, outlined in told if outlined is not None}, notes.lines)


def _labels(root: Path, tree: dict[str, Any], table: Path | None, notes: Notes) -> "_Labels":
    points = yolo_table.point_values(tree, table) if table else None
    return _Labels(root, yolo_table.class_names(tree, root), points, notes)


def _plain(root: Path) -> Iterator[tuple[Path, Split | None]]:
    splits: dict[Path, Split | None] = {**split_folders(root / "images")}
    for folder, split in (splits or {root / "images": None}).items():
        for image in find_images(folder):
            yield image, split


def _once(found: Iterable[tuple[Path, Split | None]]) -> Iterable[tuple[Path, Split | None]]:
    kept: dict[Path, tuple[Path, Split | None]] = {}
    for image, split in found:
        _, first = kept.setdefault(image.resolve(), (image, split))
        if first != split:
            raise DataError(
                f"{image}: is in {split}, but in {first} too; keep it in one of them, or what is tested was trained "
                "on. Where both name one folder, leave one of the two lines out: without it a part is held out"
            )
    return kept.values()


@dataclass(frozen=True, slots=True)
class _Labels:
    """The files of labels of a dataset; ``point_values`` follow the box of each object where it is of poses."""

    root: Path
    names: dict[int, str] | None
    point_values: int | None
    notes: Notes

    def boxes(self, image: Path) -> tuple[Box, ...] | None:
        place = image.relative_to(self.root).as_posix()
        rows = self._rows(image)
        if rows is None:
            kind = "images have no file of labels and are taken as unlabelled (empty file: no object)"
            self.notes.add(kind, place)
            return None
        shares = [self._box(row, place_of_row) for row, place_of_row in rows]
        if not shares:
            return ()
        size_px = upright_size(image)
        if size_px is None:
            self.notes.add("images are of a size that cannot be read and are taken as unlabelled", place)
            return None
        width, height = size_px
        found = [(label, (x0 * width, y0 * height, x1 * width, y1 * height)) for label, (x0, y0, x1, y1) in shares]
        boxes = fitted(found, width_px=width, height_px=height, place=place, notes=self.notes)
        return known(boxes, was_annotated=True, image=image, notes=self.notes)

    def outlines(self, image: Path) -> Outlined | None:
        """Of every object; None where there is no file of labels, or no size to take shares of."""
        rows, size_px = self._rows(image), upright_size(image)
        if rows is None or size_px is None:
            return None
        objects = []
        for (number, *shares), place in rows:
            label, shape = self._label(number, place), None
            if self.point_values is None and _is_outline(shares):
                points = numbers(shares, count=len(shares), place=place)
                with suppress(ValueError):  # no numbers: an object, but nobody knows where
                    shape = (polygon(points) * size_px,)
            objects.append(Outline(label, shape))
        return Outlined(tuple(objects))

    def _rows(self, image: Path) -> list[tuple[list[str], str]] | None:
        """The words of every line, and where it stands."""
        file = _label_file(image, self.root)
        if not file.is_file():
            return None
        try:
            rows = [line.split() for line in read_utf8(file).splitlines() if line.strip()]
        except OSError as error:
            raise DataError(f"{file}: cannot be read ({error})") from None
        return [(row, f"{file}:{line}") for line, row in enumerate(rows, start=1)]

    def _label(self, number: str, place: str) -> str:
        label = self.names.get(_whole(number)) if self.names is not None else number
        if label is None:
            raise DataError(f"{place}: class '{number}' is not among {self.names}")
        return label

    def _box(self, row: list[str], place: str) -> tuple[str, tuple[float, ...]]:
        """The label, and left, top, right and bottom as shares."""
        number, *shares = row
        label = self._label(number, place)
        if self.point_values is not None:
            shares = self._without_points(shares, place)
        elif _is_outline(shares):
            self.notes.add("outlines were replaced by the box around them", place)
            points = numbers(shares, count=len(shares), place=place)
            xs, ys = points[::2], points[1::2]
            return label, (min(xs), min(ys), max(xs), max(ys))
        x, y, w, h = numbers(shares, count=4, place=place)
        return label, (x - w / 2, y - h / 2, x + w / 2, y + h / 2)

    def _without_points(self, shares: list[str], place: str) -> list[str]:
        if len(shares) != 4 + (self.point_values or 0):
            raise DataError(
                f"{place}: {len(shares)} numbers found; a box is 4, and kpt_shape says that {self.point_values} "
                "for its key points follow. Mend the line, or kpt_shape"
            )
        self.notes.add("poses were replaced by their box", place)
        return shares[:4]


def _is_outline(shares: Sequence[str]) -> bool:
    return len(shares) >= 6 and len(shares) % 2 == 0


def _label_file(image: Path, root: Path) -> Path:
    parts = list(image.relative_to(root).parts)
    at = max((i for i, part in enumerate(parts[:-1]) if part == "images"), default=None)
    if at is None:
        return image.with_suffix(".txt")
    parts[at] = "labels"
    return root.joinpath(*parts).with_suffix(".txt")


def _whole(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else -1
