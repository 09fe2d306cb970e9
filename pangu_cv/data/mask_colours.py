"""The colours of masks, as Pascal VOC gives them to class numbers."""

import numpy as np
from numpy.typing import NDArray


def _voc_colours() -> NDArray[np.uint8]:
    numbers = np.arange(256)
    channels = [sum(((numbers >> (3 * bit + channel)) & 1) << (7 - bit) for bit in range(8)) for channel in range(3)]
    return np.stack(channels, 1).astype(np.uint8)


VOC_COLOURS = _voc_colours()
"""uint8[256,3]: one for each class number; 0 is black, that of 255 is for "no matter what"."""
