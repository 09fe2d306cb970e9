"""The report of an anomaly detector: whether its threshold holds what was asked, what it finds, what it misses."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pangu_cv.metrics import AnomalyOutcome
from pangu_cv.metrics.interval import FloatArray
from pangu_cv.report import curves, plots
from pangu_cv.report.heat_map import outline, overlay
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.palette import Tone
from pangu_cv.report.picture import ImageArray, Picture, Row
from pangu_cv.report.text import counted, decimal, percent, percent_range, with_band

_DETECTIONS_SHOWN = 4
_ERRORS_SHOWN = 6
_FULLY = {"asked": "asked for", "certified": "certified"}


@dataclass(frozen=True)
class Loaders:
    """How a path of the outcome becomes uint8 RGB, a map of scores, and a mask (None where there is none)."""

    image: Callable[[str], ImageArray]
    map: Callable[[str], FloatArray]
    mask: Callable[[str], NDArray[np.generic] | None]


def anomaly_report(
    page: Page,
    outcome: AnomalyOutcome,
    *,
    load_image: Callable[[str], ImageArray],
    load_map: Callable[[str], FloatArray],
    load_mask: Callable[[str], NDArray[np.generic] | None],
    rate_is: Literal["asked", "certified"] = "asked",
) -> None:
    """Append the figures of ``outcome``, its scores against the threshold, and rows of image, heat map and truth.

    The loaders take one of the outcome's paths and are called for the images shown only. ``rate_is`` says what the
    outcome's rate of false alarms is: what was wished for, or what the threshold keeps.
    """
    loaders = Loaders(load_image, load_map, load_mask)
    page.verdict(*_false_alarm_verdict(outcome, rate_is))
    _key_figures(page, outcome, rate_is)
    _separation(page, outcome)
    _kinds(page, outcome)
    found = outcome.is_anomalous_N
    strongest = np.argsort(-outcome.scores_N, kind="stable")
    detections = _one_of_each_first([i for i in strongest if outcome.is_defect_N[i] and found[i]], outcome.defect_N)
    missed = [i for i in strongest[::-1] if outcome.is_defect_N[i] and not found[i]]
    alarms = [i for i in strongest if not outcome.is_defect_N[i] and found[i]]
    _pictures(page, outcome, loaders, "Strongest detections", detections, "good", "the clearest of each kind first")
    _pictures(page, outcome, loaders, "Missed defects", missed, "bad", "the least conspicuous first")
    _pictures(page, outcome, loaders, "False alarms", alarms, "warn", "the strongest first")


def _one_of_each_first(ranked: list[int], kinds: Sequence[str]) -> list[int]:
    firsts = list({kinds[i]: i for i in reversed(ranked)}.values())
    return sorted(firsts, key=ranked.index) + [i for i in ranked if i not in firsts]


def _false_alarm_verdict(outcome: AnomalyOutcome, rate_is: str) -> tuple[str, Tone]:
    alarms, rate = outcome.false_alarm_interval, _rate(outcome)
    if alarms is None or alarms.low is None or alarms.high is None:
        return "There is no normal image here, so false alarms could not be measured.", "neutral"
    seen = (
        f"{round(alarms.mean * alarms.n)} of {counted(alarms.n, 'normal image')} raised a false alarm "
        f"({percent(alarms.mean)}; 95 % interval {percent_range(alarms)})"
    )
    if outcome.asked_false_alarm_rate < alarms.low:
        return f"More false alarms than {_FULLY[rate_is]}: {seen}, where {rate} was {rate_is}.", "bad"
    if outcome.asked_false_alarm_rate > alarms.high:
        return f"Fewer false alarms than allowed: {seen}, where {rate} was {rate_is}.", "good"
    return f"False alarms are in keeping with the {rate} {_FULLY[rate_is]}: {seen}.", "good"


def _rate(outcome: AnomalyOutcome) -> str:
    return f"{100 * outcome.asked_false_alarm_rate:.3g} %"


def _key_figures(page: Page, outcome: AnomalyOutcome, rate_is: str) -> None:
    recall, alarms, pixels = outcome.recall_interval, outcome.false_alarm_interval, outcome.pixels
    tiles = [
        Tile(
            "Defects found",
            percent(outcome.recall),
            f"{round(recall.mean * recall.n)} of {recall.n}; 95 % interval {percent_range(recall)}" if recall else "",
        ),
        Tile(
            "False alarms",
            percent(outcome.false_alarm_rate),
            f"{rate_is} {_rate(outcome)}" + (f"; interval {percent_range(alarms)}" if alarms else ""),
        ),
        Tile(
            "Image AUROC",
            decimal(outcome.image_auroc),
            with_band("chance that a defect outscores a normal image", outcome.intervals["image_auroc"]),
        ),
        Tile(
            "Average precision",
            decimal(outcome.average_precision),
            with_band("of images, over all thresholds", outcome.intervals["average_precision"]),
        ),
    ]
    if pixels:
        tiles.append(Tile("Pixel AUROC", decimal(pixels.auroc), "the same, for every pixel against the masks"))
    page.tiles(tiles)
    if not outcome.has_both_kinds:
        page.note("Only one kind of image is here; a ranking of defects against normal images (AUROC) is undefined.")
    if pixels and pixels.auroc is None:
        page.note("No pixel AUROC: the masks hold no defective pixel, or nothing but defective ones.")


def _separation(page: Page, outcome: AnomalyOutcome) -> None:
    page.section(
        "How well scores separate",
        "Everything right of the threshold is called anomalous. Normal images there are false alarms; defective images "
        "left of it are missed.",
    )
    drawings = [
        Plot(plots.score_distribution(outcome), "Scores of all images; bar heights grow as the root of counts.")
    ]
    if outcome.has_both_kinds:
        caption = "What other thresholds would give: defects found against false alarms."
        drawings.append(Plot(plots.roc_curve(outcome), caption))
        caption = "Precision against recall; the dotted line is what guessing gives at this share of defective images."
        drawings.append(Plot(curves.precision_recall({"": outcome.ranking}), caption))
    page.plots(drawings)


def _kinds(page: Page, outcome: AnomalyOutcome) -> None:
    if not outcome.recall_per_defect:
        return
    page.section("Which defects are found")
    page.plot(
        plots.recall_per_defect(outcome), "Recall per kind of defect with 95 % intervals; in brackets the images."
    )


def _pictures(
    page: Page, outcome: AnomalyOutcome, loaders: Loaders, title: str, indices: Sequence[int], tone: Tone, order: str
) -> None:
    if not indices:
        if tone != "good":
            page.section(title, "None.")
        return
    shown = indices[: _DETECTIONS_SHOWN if tone == "good" else _ERRORS_SHOWN]
    page.section(
        title, f"{len(shown)} of {len(indices)}, {order}. The heat map glows where the score nears the threshold."
    )
    page.pairs([_row(outcome, int(i), loaders, tone) for i in shown])


def _row(outcome: AnomalyOutcome, index: int, loaders: Loaders, tone: Tone) -> Row:
    path = outcome.paths[index]
    image_HW3, mask_HW = loaders.image(path), loaders.mask(path)
    # One scale for all rows, so that a glow means the same score everywhere.
    vmax = float(np.max(outcome.scores_N))
    heat_HW3 = overlay(image_HW3, loaders.map(path), threshold=outcome.threshold, vmax=vmax)
    truth = Picture(outline(image_HW3, mask_HW), "truth") if mask_HW is not None else None
    score = f"score {outcome.scores_N[index]:.4g}, threshold {outcome.threshold:.4g}"
    return Row(
        pictures=(Picture(image_HW3, "image"), Picture(heat_HW3, "heat map"), truth),
        title=outcome.defect_N[index],
        note=f"{score} · {PurePath(path).name}",
        tone=tone,
    )
