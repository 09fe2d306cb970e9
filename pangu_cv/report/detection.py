"""The report of a detector: figures, then images with the boxes that were found, missed and imagined."""

from collections.abc import Callable
from pathlib import PurePath

import numpy as np

from pangu_cv.metrics.detection import COCO_MOST, DetectionOutcome, Found, matched
from pangu_cv.report import plots
from pangu_cv.report.boxes import Drawn, draw_boxes, drawn_names, key_of
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.picture import ImageArray, Picture
from pangu_cv.report.text import percent, shortened, with_band

LoadImage = Callable[[str], ImageArray]
_SHOWN = 9
_HIT, _MISSED, _IMAGINED = (44, 160, 75), (255, 196, 0), (214, 39, 40)
_SIDE_PX = 420


def detection_report(page: Page, outcome: DetectionOutcome, *, load_image: LoadImage) -> None:
    """Append figures, curves and pictures; ``load_image`` gives uint8 RGB of one of the outcome's paths."""
    _key_figures(page, outcome)
    _classes(page, outcome)
    _calibration(page, outcome)
    hits, truth, found = outcome.hits_N3.T
    errors = truth + found - 2 * hits
    told = f"Green was found, yellow missed, red imagined, at a score of {outcome.threshold:g} or more and IoU 0.5."
    page.section("Where it errs most", told)
    worst = [int(i) for i in np.argsort(-errors, kind="stable")[:_SHOWN] if errors[i]]
    page.gallery([_picture(outcome, i, load_image) for i in worst])
    best = [int(i) for i in np.argsort(errors - hits, kind="stable")[:_SHOWN] if hits[i] and i not in worst]
    if best:
        page.section("Where it does best", told)
        page.gallery([_picture(outcome, i, load_image) for i in best])


def _key_figures(page: Page, outcome: DetectionOutcome) -> None:
    found = outcome.intervals
    at = f"at the threshold {outcome.threshold:.3g}"
    tiles = (
        ("AP50", "ap50", outcome.ap50, "average precision at IoU 0.5"),
        ("AP", "ap", outcome.ap, "mean over IoU 0.5 to 0.95, as COCO counts it"),
        ("Recall", "recall", outcome.recall, f"of boxes, {at}"),
        ("Precision", "precision", outcome.precision, "of what was found there"),
        ("F1", "f1", outcome.f1_interval.mean, ""),
    )
    page.tiles([Tile(label, _share(value), with_band(note, found[name])) for label, name, value, note in tiles])
    if outcome.most_found > COCO_MOST:
        most = f"up to {outcome.most_found} of a class in an image, where COCO counts the best {COCO_MOST}"
        page.note(f"All found boxes count in AP: {most}.")


def _classes(page: Page, outcome: DetectionOutcome) -> None:
    every, loose, strict = outcome.ap_C(), outcome.ap_C(0.5), outcome.ap_C(0.75)
    labels = np.concatenate([one.label_K for one in outcome.truth]).astype(int)
    counts = np.bincount(labels, minlength=len(outcome.classes))
    rows = [
        (name, int(counts[c]), *(_share(None if np.isnan(ap[c]) else float(ap[c])) for ap in (every, loose, strict)))
        for c, name in enumerate(outcome.classes)
    ]
    page.section("Classes")
    page.table(["class", "boxes", "AP", "AP50", "AP75"], rows)
    recall = np.linspace(0, 1, 101)
    precision = outcome.precision_TRC[0]
    curves = {
        shortened(name): (recall, precision[:, c])
        for c, name in enumerate(outcome.classes)
        if counts[c] and precision.shape[1] > c
    }
    page.plots([Plot(plots.lines(curves, x_label="recall", y_label="precision"), "Precision against recall, IoU 0.5.")])


def _calibration(page: Page, outcome: DetectionOutcome) -> None:
    stats = outcome.score_reliability(10)
    if stats.expected_error is None:
        return
    page.section("What a score is worth", "Of the boxes with a score like this one, the share that is true at IoU 0.5.")
    drawing = plots.calibration(stats, x_label="score of the box", y_label="share that was true")
    caption = (
        "Each dot is a range of scores from 0.05 up, its area the share of boxes. On the dashed line a score is the "
        f"chance to be true; the mean gap is {percent(outcome.score_reliability().expected_error)}."
    )
    page.plot(drawing, caption)


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _picture(outcome: DetectionOutcome, index: int, load_image: LoadImage) -> Picture:
    hits, truth, found = (int(n) for n in outcome.hits_N3[index])
    drawn = compared(
        load_image(outcome.paths[index]),
        outcome.truth[index],
        outcome.found[index],
        classes=outcome.classes,
        threshold=outcome.threshold,
    )
    caption = f"{hits} of {truth} found, {found - hits} imagined"
    note = " · ".join(filter(None, (key(outcome, index), shortened(PurePath(outcome.paths[index]).name, 40))))
    return Picture(drawn, caption, note, "good" if hits == truth == found else "bad")


def key(outcome: DetectionOutcome, index: int) -> str:
    """What the numbers stand for that ``compared`` writes for names its font lacks; empty where there are none."""
    truth, found = outcome.truth[index], outcome.found[index]
    numbers = {*truth.label_K.tolist(), *found.label_K[found.score_K >= outcome.threshold].tolist()}
    return key_of(outcome.classes, [outcome.classes[int(number)] for number in numbers])


def compared(
    image_HW3: ImageArray, truth: Found, found: Found, *, classes: tuple[str, ...], threshold: float
) -> ImageArray:
    """The image, at most 420 pixels a side, with true boxes that were missed and found ones, right and wrong."""
    counts, names = found.score_K >= threshold, list(drawn_names(classes).values())
    hit = matched(found, truth, counts)
    right = Found(found.boxes_K4[hit], found.label_K[hit], found.score_K[hit])
    is_reached = matched(truth, right, np.ones(len(truth.label_K), bool))
    boxes = [Drawn(truth.boxes_K4[at], names[int(truth.label_K[at])], _MISSED) for at in np.flatnonzero(~is_reached)]
    for at in np.flatnonzero(counts):
        text = f"{names[int(found.label_K[at])]} {found.score_K[at]:.0%}"
        boxes.append(Drawn(found.boxes_K4[at], text, _HIT if hit[at] else _IMAGINED))
    return draw_boxes(image_HW3, boxes, most_px=_SIDE_PX)
