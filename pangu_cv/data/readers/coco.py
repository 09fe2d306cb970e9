"""COCO's layout: ``annotations/instances_<split>.json`` beside the images, or ``<split>/_annotations.coco.json``."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pangu_cv.data.outlines import Outline, Outlined, Outlines, Polygon, Runs, polygon, runs_from
from pangu_cv.data.readers.annotation import Notes, fitted_to, inside, known, numbers, split_of
from pangu_cv.data.readers.folders import describe
from pangu_cv.data.readers.labelme_shapes import holds_shapes
from pangu_cv.data.readers.rotation import upright
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError

_ROBOFLOW = "_annotations.coco.json"
_CROWDS = (
    "crowds were left out; CVAT exports masks of its brush and ellipses as crowds: convert them to polygons before the "
    "export"
)
_Boxes = dict[str | None, list[tuple[str, tuple[float, ...]]]]  # by the image's id; empty where it has crowds alone


def recognises(path: Path) -> bool:
    """Whether there is a file of annotations in one of the known places."""
    return bool(_files(path)) if path.is_dir() else path.suffix.lower() == ".json"


def read(path: Path, *, root: Path | None = None) -> Dataset:
    """Samples with their boxes; an image without annotations counts as one without objects.

    Headers of images with boxes are read: boxes drawn on another size are not believed, and those images unlabelled.
    Crowds and faulty boxes are left out, and an image that has no others is unlabelled. Of an image in several files
    the boxes are joined. Raises DataError on a file that is not of this form, when no image it names is there, and for
    an image in two splits.
    """
    files = [path] if path.is_file() else _files(path)
    if not files:
        raise DataError(f"{path}: no annotations/*.json of COCO and no <split>/{_ROBOFLOW}; found {describe(path)}")
    base = root or _root_of(path)
    notes = Notes()
    samples = _joined(((file, *found) for file in files for found in _samples(file, base, notes)), notes)
    if not samples:
        raise DataError(f"{files[0]}: none of the images it names is below '{base}'; give their folder as root")
    return Dataset(base, "coco", samples, notes.lines, box_faults=tuple(notes.box_faults.items()))


def _files(path: Path) -> list[Path]:
    placed = sorted(path.glob(f"*/{_ROBOFLOW}")) + sorted(path.glob(_ROBOFLOW))
    inner = sorted(file for file in (path / "annotations").glob("*.json") if not file.name.startswith("."))
    instances = [file for file in inner if file.name.startswith("instances")]
    is_labelme = not instances and holds_shapes(path / "annotations", [file.name for file in inner])
    return placed or instances or ([] if is_labelme else inner)


def _root_of(path: Path) -> Path:
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "annotations" else path.parent


def _samples(file: Path, root: Path, notes: Notes) -> Iterator[tuple[Sample, bool]]:
    """Every image, and whether the file says anything of it."""
    tree = _tree(file)
    names = _categories(tree, file)
    boxes = _boxes(tree, names, file, notes)
    listed = _listed(tree, file)
    if any(boxes.values()) and boxes.keys().isdisjoint(set(listed) - {None}):
        raise DataError(
            f"{file}: none of its annotations is of an image it lists: the first has the image_id "
            f"{next(iter(boxes))!r}, the images have the ids {', '.join(map(str, listed[:8])) or '(none)'}; write the "
            "same ids in both"
        )
    _leave_strays(boxes, listed, file, notes)
    # A part's folder names the part; the dataset's own may be called anything.
    part = "" if file.parent.resolve() == root.resolve() else file.parent.name
    split = split_of(part if file.name == _ROBOFLOW else file.stem)
    for image, name, found, stated_px in _images(tree, file, root, notes):
        own = boxes.get(image)
        kept = fitted_to(found, own or (), stated_px=stated_px, place=name, notes=notes)
        yield Sample(found, split=split, boxes=kept), own is not None


def _images(
    tree: dict[str, Any], file: Path, root: Path, notes: Notes
) -> Iterator[tuple[str | None, str, Path, tuple[float, float]]]:
    """The id of every image that is there, its name, its path, its stated width and height; infinite where not said."""
    places = _places(file, root)
    for entry in _entries(tree, "images", file):
        name = str(entry.get("file_name", ""))
        if not name:
            raise DataError(f"{file}: an image (id {entry.get('id')}) has no file_name")
        found = next((p for place in places if (p := inside(place, name, place=str(file))).is_file()), None)
        if found is None:
            notes.add(f"images named in {file.name} do not exist and were left out", name)
            continue
        sides = [entry.get(side) or float("inf") for side in ("width", "height")]
        width, height = numbers(sides, count=2, place=f"{file}: width and height of {name}")
        yield _id(entry, "id", file), name, found, (width, height)


def outlines(path: Path, *, root: Path | None = None) -> Outlines:
    """The outlines of every image, those of crowds among them; see ``read``.

    Raises DataError for an outline that is none.
    """
    found: dict[Path, Outlined] = {}
    notes = Notes()
    for file in [path] if path.is_file() else _files(path):
        tree = _tree(file)
        objects = _objects(tree, _categories(tree, file), file)
        _leave_strays(objects, _listed(tree, file), file, notes)
        for image, _, at, stated_px in _images(tree, file, root or _root_of(path), notes):
            before, own = found.setdefault(at.resolve(), Outlined(())), objects.get(image)
            if own:
                found[at.resolve()] = Outlined((*before.objects, *own), (*before.stated_px, stated_px))
    for place, one in found.items():
        if not one.objects:
            notes.add("images have no annotation and are taken as showing nothing", place.name)
    return Outlines(found, notes.lines)


def _objects(tree: dict[str, Any], names: dict[str | None, str], file: Path) -> dict[str | None, list[Outline]]:
    found: dict[str | None, list[Outline]] = {}
    for entry in _entries(tree, "annotations", file):
        label = names.get(_id(entry, "category_id", file))
        # Reading boxes has refused unknown classes of objects, but of crowds: what they show is not known.
        shape = None if label is None else _shape(entry.get("segmentation"), f"{file}: annotation {entry.get('id')}")
        found.setdefault(_id(entry, "image_id", file), []).append(Outline(label or "", shape))
    return found


def _shape(told: Any, place: str) -> tuple[Polygon, ...] | Runs | None:
    """Polygons (several are one object in parts), run lengths as numbers or compressed; None where nothing is told.

    Tracing leaves parts of no point, one or two, which are none.
    """
    if not told:
        return None
    try:
        if isinstance(told, dict):
            height, width = (int(side) for side in told["size"])
            counts = told["counts"]
            runs = (
                runs_from(counts) if isinstance(counts, str) else np.array([int(count) for count in counts], np.int64)
            )
            return Runs(height, width, runs)
        parts = told if isinstance(told[0], list) else [told]
        return tuple(polygon(part) for part in parts if len(part) not in (0, 2, 4)) or None
    except (TypeError, ValueError, KeyError, OverflowError, IndexError) as error:
        raise DataError(
            f"{place}: its segmentation is neither polygons [[x, y, x, y, ...], ...] nor run lengths with 'size' and "
            f"'counts' ({error})"
        ) from None


def _joined(found: Iterable[tuple[Path, Sample, bool]], notes: Notes) -> tuple[Sample, ...]:
    """Each image once: some tools write a file per class. A file that is named for no split leaves it to the others."""
    kept: dict[Path, Sample] = {}
    annotated: set[Path] = set()
    for file, sample, is_annotated in found:
        place = sample.path.resolve()
        if is_annotated:
            annotated.add(place)
        first = kept.setdefault(place, sample)
        if first is sample:
            continue
        if first.split and sample.split and first.split != sample.split:
            raise DataError(
                f"{file}: '{sample.path.name}' is in {sample.split}, but in {first.split} by another file of "
                "annotations; keep it in one of them, or what is tested was trained on"
            )
        both = None if first.boxes is None or sample.boxes is None else (*first.boxes, *sample.boxes)
        boxes = None if both is None else tuple(dict.fromkeys(both))  # two files may hold the same annotation
        kept[place] = replace(first, split=first.split or sample.split, boxes=boxes)
    samples = tuple(
        replace(one, boxes=known(one.boxes, was_annotated=place in annotated, image=one.path, notes=notes))
        for place, one in kept.items()
    )
    for place, one in kept.items():
        if place not in annotated:
            notes.add("images have no annotation and are taken as showing nothing", one.path.name)
    return samples


def _boxes(tree: dict[str, Any], names: dict[str | None, str], file: Path, notes: Notes) -> _Boxes:
    found: _Boxes = {}
    for entry in _entries(tree, "annotations", file):
        place = f"{file}: annotation {entry.get('id')}"
        of_image = found.setdefault(_id(entry, "image_id", file), [])
        if entry.get("iscrowd"):
            notes.add(_CROWDS, place)
            continue
        label = names.get(_id(entry, "category_id", file))
        if label is None:
            raise DataError(f"{place}: category {entry.get('category_id')!r} is not among {sorted(names.values())}")
        x, y, width, height = numbers(entry.get("bbox") or (), count=4, place=place)
        corners = (x, y, x + width, y + height)
        of_image.append((label, upright(corners, _rotation(entry), place=place, notes=notes)))
    return found


def _rotation(entry: dict[str, Any]) -> Any:
    """As it is written, None where there is none; the box of an outline is around the outline as it was turned."""
    attributes = entry.get("attributes")
    return attributes.get("rotation") if isinstance(attributes, dict) and not entry.get("segmentation") else None


def _listed(tree: dict[str, Any], file: Path) -> list[str | None]:
    return [_id(entry, "id", file) for entry in _entries(tree, "images", file)]


def _leave_strays(found: dict[str | None, list[Any]], listed: Iterable[str | None], file: Path, notes: Notes) -> None:
    """Leaves out what is of images that are not listed."""
    ids = set(listed) - {None}
    for image in [one for one in found if one not in ids]:
        for _ in found.pop(image):
            kind = f"annotations are of images that {file.name} does not list and were left out"
            notes.add(kind, f"image_id {image}")


def _id(entry: dict[str, Any], name: str, file: Path) -> str | None:
    """As text, since some tools write 7 here and "7" there; raises DataError for what is neither number nor name."""
    found = entry.get(name)
    if found is None:
        return None
    if not isinstance(found, int | float | str):
        raise DataError(f"{file}: {name} must be a number or a name; found {str(found)[:80]}")
    return str(int(found)) if isinstance(found, float) and found.is_integer() else str(found)


def _places(file: Path, root: Path) -> list[Path]:
    """Folders an image's name may start from, the likeliest first."""
    stem = file.stem.removeprefix("instances_")
    split = split_of(stem) or ""
    named = (root / stem, root / split, root / "images" / stem, root / "images" / split, root / "images", root)
    return list(dict.fromkeys([file.parent, *named]))


def _tree(file: Path) -> dict[str, Any]:
    try:
        tree = json.loads(file.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error})") from None
    if not isinstance(tree, dict) or not {"images", "annotations", "categories"} <= set(tree):
        found = sorted(tree)[:8] if isinstance(tree, dict) else type(tree).__name__
        raise DataError(f"{file}: is no COCO file: it needs images, annotations and categories; found {found}")
    return tree


def _entries(tree: dict[str, Any], name: str, file: Path) -> list[dict[str, Any]]:
    entries = tree[name]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"{file}: '{name}' must be a list of objects")
    return entries


def _categories(tree: dict[str, Any], file: Path) -> dict[str | None, str]:
    return {_id(entry, "id", file): str(entry.get("name")) for entry in _entries(tree, "categories", file)}
