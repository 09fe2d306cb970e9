import re

import numpy as np
import pytest

from pangu_cv.metrics.pixel_confidence import PixelConfidence
from pangu_cv.metrics.segmentation import SegmentationOutcome, confusion, pixels_of_classes
from pangu_cv.report import Page
from pangu_cv.report.segmentation import segmentation_report


def report(classes: tuple[str, ...], *, pixels: PixelConfidence | None) -> str:
    truth = (np.arange(64).reshape(8, 8) % len(classes)).astype(np.uint8)
    found = truth.copy()
    found[:2] = 1
    if pixels is not None:
        pixels.update(truth, found, np.linspace(0.5, 1, 64).reshape(8, 8))
    counts_CC = confusion(truth, found, classes=len(classes))
    outcome = SegmentationOutcome(classes, ("x",), counts_CC, pixels_of_classes(counts_CC)[None], None, pixels)
    page = Page("t")
    segmentation_report(page, outcome, load_masks=lambda _: (np.zeros((8, 8, 3), np.uint8), truth, found))
    return page.html()


@pytest.mark.parametrize(
    ("classes", "told"), [(("none", "crack"), "at every threshold"), (("none", "a", "b"), "ends at the recall")]
)
def test_curve_and_calibration_of_pixels_are_drawn(classes: tuple[str, ...], told: str) -> None:
    document = report(classes, pixels=PixelConfidence(len(classes)))
    assert "Precision against recall of the pixels of every class" in document
    assert "the mean gap is" in document
    assert told in document
    assert document.count("<svg") == 2


def test_where_nobody_asked_how_sure_it_was_nothing_is_drawn() -> None:
    assert "How sure" not in report(("none", "crack"), pixels=None)


def test_every_figure_of_a_class_stands_in_its_column() -> None:
    document = report(("none", "a", "b"), pixels=None)
    headers = re.findall(r"<th\b[^>]*>(.*?)</th>", document)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", document, re.DOTALL)]
    assert headers == ["class", "IoU", "F1", "precision", "recall", "average precision"]
    assert ["none", "72.7%", "84.2%", "100.0%", "72.7%", "–"] in rows  # 16 of 22 pixels found, none imagined
    assert ["a", "65.6%", "79.2%", "65.6%", "100.0%", "–"] in rows  # all 21 pixels found, 11 imagined
