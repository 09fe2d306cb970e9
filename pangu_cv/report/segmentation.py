"""The report of a segmenter: figures, curves, then images with what was found, missed and imagined."""

from collections.abc import Callable, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics.pixel_confidence import PixelConfidence
from pangu_cv.metrics.segmentation import SegmentationOutcome
from pangu_cv.report import curves, plots
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.picture import ImageArray, Picture, Row
from pangu_cv.report.text import percent, shortened, with_band

LoadMasks = Callable[[str], tuple[ImageArray, NDArray[np.uint8], NDArray[np.uint8]]]
_SHOWN = 6
_HIT, _MISSED, _IMAGINED = (44, 160, 75), (255, 196, 0), (214, 39, 40)
_OF_TWO = "All pixels by the probability of the class, at every threshold."
_OF_MORE = "Pixels by the probability of the class they were decided to be; a curve ends at the recall of the masks."


def segmentation_report(page: Page, outcome: SegmentationOutcome, *, load_masks: LoadMasks) -> None:
    """Append figures, curves and pictures; ``load_masks`` gives image, truth and found mask of an outcome's path."""
    _key_figures(page, outcome)
    _classes(page, outcome)
    _confidence(page, outcome)
    order = np.argsort(outcome.f1_per_image_N, kind="stable")
    worst, best = order[:_SHOWN], order[::-1][:_SHOWN]
    told = "Green was found, yellow missed, red imagined."
    page.section("Where it errs most", told)
    page.pairs([_row(outcome, int(i), load_masks) for i in worst])
    if len(order) > _SHOWN:
        page.section("Where it does best", told)
        page.pairs([_row(outcome, int(i), load_masks) for i in best if i not in worst])


def _key_figures(page: Page, outcome: SegmentationOutcome) -> None:
    found = outcome.intervals
    page.tiles(
        [
            Tile("F1", percent(outcome.f1), with_band("of pixels, without the background", found["f1"])),
            Tile("Mean IoU", percent(outcome.mean_iou), with_band("over classes and background", found["mean_iou"])),
            Tile("F1 per image", percent(float(outcome.f1_per_image_N.mean())), "every image counting alike"),
        ]
    )


def _classes(page: Page, outcome: SegmentationOutcome) -> None:
    figures: dict[str, Any] = outcome.summary()
    names = ("iou_per_class", "f1_per_class", "precision_per_class", "recall_per_class", "average_precision_per_class")
    rows = [(label, *(_share(figures[name][number]) for name in names)) for number, label in enumerate(outcome.classes)]
    page.section("Classes", "Over all pixels of all images.")
    page.table(["class", "IoU", "F1", "precision", "recall", "average precision"], rows)


def _confidence(page: Page, outcome: SegmentationOutcome) -> None:
    if outcome.pixels is None:
        return
    drawings = [*_curves(outcome.classes, outcome.pixels), *_calibration(outcome.pixels)]
    if drawings:
        page.section("How sure it is of its pixels", _OF_TWO if len(outcome.classes) == 2 else _OF_MORE)
        page.plots(drawings)


def _curves(classes: Sequence[str], pixels: PixelConfidence) -> list[Plot]:
    found = {c: curve for c in range(1, len(classes)) if (curve := pixels.precision_recall(c))}
    weakest = sorted(found, key=lambda c: pixels.average_precision(c) or 0)[: curves.MOST_CURVES]
    if not weakest:
        return []
    which = f"the {len(weakest)} weakest classes" if len(weakest) < len(classes) - 1 else "every class"
    drawing = curves.shares({classes[c]: found[c] for c in weakest}, x_label="recall", y_label="precision")
    return [Plot(drawing, f"Precision against recall of the pixels of {which}, the surest first.")]


def _calibration(pixels: PixelConfidence) -> list[Plot]:
    error = pixels.reliability().expected_error
    if error is None:
        return []
    words = {"x_label": "probability of the class", "y_label": "share of pixels that show it"}
    caption = (
        "Each dot is a range of probabilities from 0.05 up, its area the share of pixels. On the dashed line a "
        f"probability is kept; the mean gap is {percent(error)}."
    )
    return [Plot(plots.calibration(pixels.reliability(10), **words), caption)]


def _share(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"


def _row(outcome: SegmentationOutcome, index: int, load_masks: LoadMasks) -> Row:
    path = outcome.paths[index]
    image, truth, found = load_masks(path)
    pictures = (Picture(image, "image"), Picture(compared(image, truth, found), "found, missed, imagined"))
    title = f"F1 {percent(float(outcome.f1_per_image_N[index]))}"
    return Row(pictures, title, shortened(PurePath(path).name, 40))


def compared(image_HW3: ImageArray, truth_HW: NDArray[np.uint8], found_HW: NDArray[np.uint8]) -> ImageArray:
    """The image, paler: right pixels green, missed ones yellow, imagined ones and those of a wrong class red."""
    drawn = 0.5 * image_HW3 + 0.5 * image_HW3.mean(2, keepdims=True)
    for colour, where in (
        (_HIT, (truth_HW == found_HW) & (truth_HW > 0)),
        (_MISSED, (truth_HW > 0) & (found_HW == 0)),
        (_IMAGINED, (found_HW > 0) & (found_HW != truth_HW)),
    ):
        drawn[where] = 0.25 * drawn[where] + 0.75 * np.array(colour)
    return np.asarray(drawn.round().clip(0, 255), np.uint8)
