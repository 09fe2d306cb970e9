from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate import Loaders, evaluate_segment, require_same_masks
from pangu_cv.report.segmentation import compared
from pangu_runtime.decode import DEFAULT_SPEC


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


def half(folder: Path, value: int) -> Sample:
    """Four by four pixels, the upper half of which has this value in the mask."""
    image, mask = folder / "image.png", folder / "mask.png"
    Image.new("RGB", (4, 4), (90, 90, 90)).save(image)
    truth = np.zeros((4, 4), np.uint8)
    truth[:2] = value
    Image.fromarray(truth).save(mask)
    return Sample(image, mask=mask)


def test_how_sure_every_pixel_was_is_kept_beside_the_decisions(tmp_path: Path) -> None:
    sample = half(tmp_path, 1)
    decided = np.zeros((4, 4), np.uint8)
    decided[1:3] = 1
    decider = Fixed(decided, confidence_HW=np.array([[0.55], [0.9], [0.7], [0.99]]) * np.ones((4, 4)))
    classes = ("background", "crack")
    summary = evaluate_segment(decider, [sample], classes=classes, decode_spec=DEFAULT_SPEC).outcome.summary()
    # by probability: row 1 (0.9, there), row 2 (0.7, not), row 0 (0.45, there), row 3 (0.01, not)
    assert summary["average_precision_per_class"] == [None, pytest.approx((1 + 2 / 3) / 2)]
    assert summary["expected_calibration_error"] == pytest.approx((0.1 + 0.7 + 0.55) / 3, abs=1e-3)


def test_pixels_that_do_not_count_are_no_mistakes_and_reject_no_image(tmp_path: Path) -> None:
    sample = half(tmp_path, 255)
    classes = ("background", "crack", "spall")
    decided = np.zeros((4, 4), np.uint8)
    decided[0] = 1
    decider = Fixed(decided, confidence_HW=np.where(decided > 0, 0.9, 0.2))

    outcome = evaluate_segment(decider, [sample], classes=classes, decode_spec=DEFAULT_SPEC).outcome
    assert outcome.defect_confidence_N.tolist() == [0.0]  # type: ignore[union-attr]
    assert outcome.is_defect_N.tolist() == [False]
    assert outcome.f1 == 1
    assert outcome.pixels.precision_recall(1) is None  # type: ignore[union-attr]
    shown, true, found = Loaders(decider, DEFAULT_SPEC, [sample]).masks(str(sample.path), len(classes))
    assert (true.dtype, found.dtype, true.any(), found.any()) == (np.uint8, np.uint8, False, False)
    assert np.array_equal(compared(shown, true, found), shown)


class Fixed:
    """Decides every image the same way."""

    def __init__(self, mask_HW: NDArray[np.uint8], *, confidence_HW: NDArray[np.float64]) -> None:
        self.outputs = {"mask": mask_HW[None], "confidence": confidence_HW[None]}

    def run(self, images_NHW3: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        """Outputs by name."""
        return self.outputs


def test_of_an_image_no_matrix_of_all_classes_is_kept(tmp_path: Path) -> None:
    classes = ("background", *(f"defect{at}" for at in range(99)))
    decided = np.full((4, 4), 7, np.uint8)
    samples = [half(tmp_path, 3)] * 5
    decider = Fixed(decided, confidence_HW=np.full((4, 4), 0.9))
    outcome = evaluate_segment(decider, samples, classes=classes, decode_spec=DEFAULT_SPEC).outcome
    assert outcome.pixels_N3C.nbytes == 5 * 3 * 100 * 4
    assert outcome.pixels_N3C[:, 1, 3].tolist() == [8] * 5
    assert outcome.pixels_N3C[:, 2, 7].tolist() == [16] * 5
    assert (outcome.confusion_CC[3, 7], outcome.confusion_CC[0, 7], outcome.confusion_CC.sum()) == (40, 40, 80)
