"""Every image below a folder, for those who need no labels: a mask is no picture of the plant."""

from pathlib import Path
from types import ModuleType

from pangu_cv.data.readers import image_masks, mvtec, voc
from pangu_cv.errors import DataError
from pangu_runtime.images import list_images

_MASKS: dict[str, ModuleType] = {
    "ground_truth": mvtec,
    "masks": image_masks,
    "SegmentationClass": voc,
    "SegmentationObject": voc,
}


def pictures_below(path: Path) -> tuple[Path, ...]:
    """``list_images`` without what lies in the folders of masks of a dataset, at ``path`` or below it.

    A folder of such a name is one of masks only where the folder around it has that layout; ``path`` itself is taken as
    it is. Raises DataError if
    ``path`` does not exist or holds no image, or nothing else than masks.
    """
    images = list_images(path)
    below = {folder for image in images for folder in image.relative_to(path).parents if folder.name}
    masks = {folder for folder in below if _holds_masks(Path(path) / folder)}
    kept = tuple(image for image in images if masks.isdisjoint(image.relative_to(path).parents)) if masks else images
    if not kept:
        raise DataError(f"{path}: its {len(images)} images are masks, in {', '.join(sorted(map(str, masks)))}")
    return kept


def _holds_masks(folder: Path) -> bool:
    layout = _MASKS.get(folder.name)
    return layout is not None and bool(layout.recognises(folder.parent))
