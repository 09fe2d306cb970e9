"""Every image below a folder, for those who need no labels: a mask is no picture of the plant."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pangu_cv.data.readers import image_masks, mvtec
from pangu_cv.data.readers.voc_masks import FOLDERS as VOC_MASKS
from pangu_cv.errors import DataError
from pangu_runtime.images import list_images


def _has_voc_images(path: Path) -> bool:
    return (path / "JPEGImages").is_dir()  # CVAT's masks come without Annotations/


_MASKS: dict[str, Callable[[Path], bool]] = {
    "ground_truth": mvtec.recognises,
    "masks": image_masks.recognises,
    **dict.fromkeys(VOC_MASKS, _has_voc_images),
    "SegmentationClassVisualization": _has_voc_images,
    "SegmentationObject": _has_voc_images,
}


def pictures_below(path: Path) -> tuple[Path, ...]:
    """``list_images`` without what lies in the folders of masks of a dataset, at ``path`` or below it.

    A folder of such a name is one of masks only where the folder around it has that layout; ``path`` itself is taken as
    it is. Raises DataError if ``path`` does not exist or holds no image, or nothing else than masks.
    """
    images = list_images(path)
    kept = without_masks(path, images)
    if not kept:
        raise DataError(f"{path}: its {len(images)} images are the masks of a dataset; name its images")
    return kept


def without_masks(path: Path, images: Sequence[Path]) -> tuple[Path, ...]:
    """Of images below ``path`` those that lie in no folder of masks."""
    below = {folder for image in images for folder in image.relative_to(path).parents if folder.name}
    masks = {folder for folder in below if _holds_masks(Path(path) / folder)}
    return tuple(image for image in images if masks.isdisjoint(image.relative_to(path).parents))


def _holds_masks(folder: Path) -> bool:
    recognises = _MASKS.get(folder.name)
    return recognises is not None and recognises(folder.parent)
