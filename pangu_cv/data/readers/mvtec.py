"""MVTec AD's layout: ``train/good``, ``test/good``, ``test/<defect>``, ``ground_truth/<defect>/<stem>_mask.png``."""

from pathlib import Path

from pangu_cv.data.readers.folders import describe, loose_images, split_folders, subfolders
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError
from pangu_runtime.images import find_images

NORMAL = "good"


def recognises(path: Path) -> bool:
    """Whether ``train`` holds the folder ``good`` and no other, and ``test`` is there."""
    return [p.name for p in subfolders(path / "train")] == [NORMAL] and (path / "test").is_dir()


def read(path: Path) -> Dataset:
    """Samples labelled by folder, defects with their mask where there is one.

    A mask is named as its image, with ``_mask`` or without. Masks without an image and defects without a mask are
    counted in the notes. Raises DataError if a training or test image is lacking, or ``train`` holds defects.
    """
    defects = [p.name for p in subfolders(path / "train") if p.name != NORMAL and find_images(p)]
    if defects:
        raise DataError(
            f"{path / 'train'}: holds {', '.join(defects)}; anomaly training takes normal images in 'good' only"
        )
    masks = _masks(path / "ground_truth")
    samples: list[Sample] = []
    notes: list[str] = []
    for folder, split in split_folders(path).items():
        for kind in subfolders(folder):
            for image in find_images(kind):
                mask = _take(masks, kind.name, image.relative_to(kind)) if split != "train" else None
                samples.append(Sample(image, label=kind.name, split=split, mask=mask))
        if loose := loose_images(folder):
            notes.append(f"{loose} images lie directly in {folder.name}: not read")
    for name in ("train", "test"):
        if not any(s.split == name for s in samples):
            raise DataError(
                f"{path}: no image in {name}; allowed is train/good/*.png, test/good/*.png, test/<defect>/*.png, "
                f"ground_truth/<defect>/<stem>_mask.png; found {describe(path)}"
            )
    return Dataset(path, "mvtec", tuple(samples), (*notes, *_mask_notes(samples, masks, path)))


def _masks(folder: Path) -> dict[tuple[str, str], Path]:
    """Masks by defect and by the image's path inside the defect's folder, without its suffix."""
    return {
        (kind.name, mask.relative_to(kind).with_suffix("").as_posix()): mask
        for kind in subfolders(folder)
        for mask in find_images(kind)
    }


def _take(masks: dict[tuple[str, str], Path], kind: str, image: Path) -> Path | None:
    stem = image.with_suffix("").as_posix()
    return masks.pop((kind, stem + "_mask"), None) or masks.pop((kind, stem), None)


def _mask_notes(samples: list[Sample], orphans: dict[tuple[str, str], Path], root: Path) -> list[str]:
    notes = []
    if bare := [s for s in samples if s.label != NORMAL and s.mask is None]:
        notes.append(f"{len(bare)} defective images have no mask, first {bare[0].path.relative_to(root).as_posix()}")
    if orphans:
        first = next(iter(orphans.values())).relative_to(root).as_posix()
        notes.append(f"{len(orphans)} masks have no image, first {first}")
    return notes
