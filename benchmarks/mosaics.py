"""Large images made of small ones: 4 by 4 images with boxes side by side, to see what cutting into tiles costs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pangu_cv.data.sample import Box, Sample
from pangu_runtime.decode import decode


def write_mosaics(samples: Sequence[Sample], folder: Path, *, across: int) -> list[Sample]:
    """As many whole mosaics as the samples give; all images of one size. PNG, so that no pixel changes."""
    folder.mkdir(parents=True, exist_ok=True)
    each, made = across * across, []
    for number in range(len(samples) // each):
        chosen = samples[number * each : (number + 1) * each]
        rows, boxes = [], []
        for row in range(across):
            images = [decode(one.path) for one in chosen[row * across : (row + 1) * across]]
            for column, one in enumerate(chosen[row * across : (row + 1) * across]):
                height, width = images[column].shape[:2]
                x, y = column * width, row * height
                boxes += [
                    Box(box.label, (box.xyxy[0] + x, box.xyxy[1] + y, box.xyxy[2] + x, box.xyxy[3] + y))
                    for box in one.boxes or ()
                ]
            rows.append(np.hstack(images))
        path = folder / f"{number:03}.png"
        Image.fromarray(np.vstack(rows)).save(path, compress_level=1)
        made.append(Sample(path, boxes=tuple(boxes)))
    return made
