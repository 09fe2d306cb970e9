"""Pictures of a plant below a folder: a dataset's masks are none, folders that are only named alike are kept."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.check import read_or_list
from pangu_cv.data.readers import pictures_below, read_dataset, read_images
from pangu_cv.errors import DataError
from pangu_cv.iterate.mine.stage import images_of


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4, 3), 90, np.uint8)).save(root / name)


def named(paths: tuple[Path, ...], root: Path) -> list[str]:
    return [path.relative_to(root).as_posix() for path in paths]


def test_masks_of_a_dataset_and_of_datasets_below_are_left_out(tmp_path: Path) -> None:
    plain = ["bolt/train/good/1.png", "bolt/test/scratch/2.png", "cracks/images/a/3.png", "loose/masks/4.png"]
    masks = ["bolt/ground_truth/scratch/2_mask.png", "cracks/masks/a/3.png"]
    write(tmp_path, *plain, *masks)
    assert named(pictures_below(tmp_path), tmp_path) == sorted(plain)
    assert [s.path for s in read_images(tmp_path / "loose")] == [tmp_path / plain[3]]
    labelled = [s.path.relative_to(tmp_path).as_posix() for s in read_dataset(tmp_path, layout="class_folders")]
    assert sorted(labelled) == sorted(plain)
    assert named(images_of(tmp_path / "bolt"), tmp_path) == [plain[1], plain[0]]


@pytest.mark.parametrize("beside", ["Annotations", "ImageSets"])
def test_voc_masks_are_left_out_and_those_that_cvat_exports_alone(tmp_path: Path, beside: str) -> None:
    write(tmp_path, "JPEGImages/1.png", "SegmentationClass/1.png", "SegmentationObject/1.png")
    (tmp_path / beside).mkdir()
    assert named(pictures_below(tmp_path), tmp_path) == ["JPEGImages/1.png"]
    assert [sample.path.parent.name for sample in read_or_list(tmp_path)] == ["JPEGImages"]


def test_folders_that_are_only_named_as_those_of_voc_are_kept(tmp_path: Path) -> None:
    write(tmp_path, "SegmentationClass/1.png")
    assert named(pictures_below(tmp_path), tmp_path) == ["SegmentationClass/1.png"]


def test_a_folder_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, "images/1.png", "masks/1.png")
    assert named(pictures_below(tmp_path / "masks"), tmp_path) == ["masks/1.png"]
    assert pictures_below(tmp_path / "images" / "1.png") == (tmp_path / "images" / "1.png",)


def test_masks_alone_are_no_pictures(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    write(tmp_path, "masks/1.png")
    with pytest.raises(DataError, match="its 1 images are the masks of a dataset"):
        pictures_below(tmp_path)
