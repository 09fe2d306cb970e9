from pathlib import Path

import pytest

from pangu_cv.data.sample import Dataset
from pangu_cv.errors import DataError
from pangu_cv.evaluate import require_same_masks


def masks(*classes: str) -> Dataset:
    return Dataset(Path("/d"), "image_masks", (), mask_classes=classes)


def test_numbers_in_masks_must_mean_what_they_mean_to_the_model() -> None:
    require_same_masks(masks("background", "crack", "spall"), ("background", "crack", "spall"))
    with pytest.raises(DataError, match=r"0 background, 1 defect; .* 2 spall.*measure on masks of the model's classes"):
        require_same_masks(masks(), ("background", "crack", "spall"))
    with pytest.raises(DataError, match=r"1 spall, 2 crack; .* 1 crack, 2 spall.*in the model's order"):
        require_same_masks(masks("background", "spall", "crack"), ("background", "crack", "spall"))


def test_one_class_of_defects_may_be_named_or_not() -> None:
    require_same_masks(masks(), ("background", "crack"))
    require_same_masks(masks("background", "crack"), ("background", "defect"))
    with pytest.raises(DataError, match="1 crack; to the model they mean 0 background, 1 spall"):
        require_same_masks(masks("background", "crack"), ("background", "spall"))
