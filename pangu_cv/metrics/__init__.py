"""What is measured: outcomes of a task on a labelled set, and intervals for the figures taken from them."""

from pangu_cv.metrics.anomaly import AnomalyOutcome
from pangu_cv.metrics.calibration import Reliability
from pangu_cv.metrics.classification import ClassificationOutcome
from pangu_cv.metrics.interval import (
    Interval,
    mean_interval,
    paired_gain,
    proportion_interval,
)
from pangu_cv.metrics.pixel_auroc import PixelAuroc, PixelScores

__all__ = [
    "AnomalyOutcome",
    "ClassificationOutcome",
    "Interval",
    "PixelAuroc",
    "PixelScores",
    "Reliability",
    "mean_interval",
    "paired_gain",
    "proportion_interval",
]
