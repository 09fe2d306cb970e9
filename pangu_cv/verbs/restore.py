"""``pangu-cv restore``: images repaired by a pretrained encoder and its decoder."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from PIL import Image

from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import Skipped, read_ahead
from pangu_cv.pretrain.restore import Restorer
from pangu_cv.progress import bar
from pangu_cv.report.page import Page
from pangu_cv.report.picture import Picture, Row
from pangu_cv.report.skipped import add_skipped
from pangu_cv.staging import staged_folder
from pangu_runtime.decode import decode
from pangu_runtime.images import list_images

_SHOWN = 12


def restore(
    model: Path,
    images: Path,
    *,
    out: Path,
    report: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Free images of noise, blur and compression, as a backbone learnt to in pretraining.

    Parameters
    ----------
    model
        A run of 'pangu-cv pretrain joint_repair', or another one with a decoder.
    images
        An image or a folder, searched with its sub-folders.
    out
        A new folder for the restored images: PNG in RGB, under the names that the images have in their folder.
    report
        Also write a page with some of the images before and after.
    as_json
        Print JSON.
    """
    paths = list_images(images)
    _require_apart(images, out)
    restorer = Restorer.load(model)
    page = Page(f"Restored: {images.resolve().name}", f"by {model}")
    with staged_folder(out) as staging:
        names, skipped = _restore(restorer, paths, images, staging, page)
    if report is not None:
        add_skipped(page, tuple(skipped))
        page.write(report)
    if as_json:
        restored = [{"image": str(path), "restored": str(out / name)} for path, name in names.items()]
        print(json.dumps({"restored": restored, "skipped": [str(one.path) for one in skipped]}))
        return
    print(f"restored {len(names)} of {len(paths)} images: {out}" + (f"\nreport   {report}" if report else ""))


def _require_apart(images: Path, out: Path) -> None:
    """Raise DataError where results would lie among the images: the next run would take them for such."""
    source, target = (images if images.is_dir() else images.parent).resolve(), out.resolve()
    if source.is_relative_to(target) or (images.is_dir() and target.is_relative_to(source)):
        raise DataError(f"--out '{out}': holds the images or lies among them; name a new folder apart from '{source}'")


def _restore(
    restorer: Restorer, paths: Sequence[Path], images: Path, folder: Path, page: Page
) -> tuple[dict[Path, Path], list[Skipped]]:
    """Write each image, show the first ones; the name each has below the folder, and those that cannot be read."""
    names, skipped = _names(paths, images if images.is_dir() else images.parent), list[Skipped]()
    decoded = read_ahead(paths, lambda path: decode(path, spec=restorer.decode_spec))
    with bar("restoring") as progress:
        for done, (path, image) in enumerate(zip(paths, decoded, strict=True), start=1):
            if isinstance(image, ImageError):
                print(f"skipped: {image}", file=sys.stderr)
                skipped.append(Skipped(path, image.reason, str(image)))
                del names[path]
            else:
                restored, target = restorer.restore(image), folder / names[path]
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(restored).save(target)
                if done - len(skipped) <= _SHOWN:
                    page.pairs([Row((Picture(image, "before"), Picture(restored, "after")), str(names[path]))])
            progress(done, len(paths))
    if not names:
        raise DataError(f"none of the {len(paths)} images can be read")
    return names, skipped


def _names(paths: Sequence[Path], root: Path) -> dict[Path, Path]:
    """The PNG of each image below the folder of results: ``a.png``, where that is taken ``a.jpg.png``."""
    names: dict[Path, Path] = {}
    taken: set[Path] = set()
    for path in paths:
        name, longer = path.relative_to(root).with_suffix(".png"), path.name
        while name in taken:
            longer += ".png"
            name = name.with_name(longer)
        taken.add(name)
        names[path] = name
    return names
