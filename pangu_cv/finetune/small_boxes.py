"""A word on boxes that are too small for a detector once their images are shrunk to the network's side."""

from collections.abc import Sequence
from statistics import median

from pangu_cv.data.sample import Sample
from pangu_cv.tasks.detect import DetectConfig
from pangu_runtime.decode import DecodeSpec, peek

_LEAST_PX = 8


def small_boxes(samples: Sequence[Sample], task: DetectConfig, spec: DecodeSpec) -> list[str]:
    """A note where half of the boxes of readable images are less than 8 pixels wide or high as the network sees them.

    Not with tiles, nor where images are no larger than what the network sees.
    """
    side_px = task.preprocess.image_px
    pairs = [pair for sample in samples if sample.boxes for pair in _shorter_px(sample, side_px, spec)]
    if task.tile is not None or not pairs:
        return []
    own, seen = (median(sides) for sides in zip(*pairs, strict=True))
    if seen >= min(own, _LEAST_PX):
        return []
    return [
        f"half of the labelled boxes are at most {seen:.1f} pixels wide or high as the network sees them, whose images "
        f"are shrunk to {side_px} pixels a side; task.tile={{px: {side_px}, overlap: 0.2}} shows them at their own size"
    ]


def _shorter_px(sample: Sample, side_px: int, spec: DecodeSpec) -> list[tuple[float, float]]:
    """The shorter side of each box: its own, and as the network sees it."""
    header = peek(sample.path, spec=spec)
    across, down = side_px / header.width_px, side_px / header.height_px
    sizes = [(x1 - x0, y1 - y0) for x0, y0, x1, y1 in (box.xyxy for box in sample.boxes or ())]
    return [(min(width, height), min(width * across, height * down)) for width, height in sizes]
