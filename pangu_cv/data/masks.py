"""Reading a defect mask."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pangu_runtime.decode import DecodeSpec, decode

# Any non-zero value is a defect, so that class numbers in 8 or 16 bit and 0/255 read alike.
_SPEC = DecodeSpec(range_16bit=(0, 1), background=0)


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Mask [H, W], True where the file is not black; EXIF orientation applied. Raises ImageError."""
    return np.asarray(decode(path, spec=_SPEC).any(axis=2))
