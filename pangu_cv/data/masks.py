"""Reading masks: where a defect is, or which class every pixel has."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.errors import ImageError
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, decode, peek

IGNORE = 255
"""The value of pixels that are neither learnt from nor measured."""

# Any non-zero value is a defect, so that class numbers in 8 or 16 bit and 0/255 read alike.
_SPEC = DecodeSpec(range_16bit=(0, 1), background=0)
_LOSSY = ("JPEG", "MPO")
_NUMBERED = ("1", "L", "P", "I;16", "I")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Mask [H, W], True where the file is not black; EXIF orientation applied. Raises ImageError.

    A JPEG is rimmed with faint values that nobody drew: of one, what has at least a quarter of its brightest value is
    True, so that areas keep their size and several levels of grey all count.
    """
    brightest_HW = decode(path, spec=_SPEC).max(axis=2)
    if peek(path, spec=_SPEC).format not in _LOSSY:
        return np.asarray(brightest_HW > 0)
    return np.asarray(brightest_HW >= max(1, -(-int(brightest_HW.max()) // 4)))


def read_class_mask(path: Path, *, classes: int) -> NDArray[np.uint8]:
    """Class numbers uint8[H, W], each below ``classes`` or ``IGNORE``. Raises ImageError, reason ``values`` for others.

    Palettes give their numbers, whatever their colours. Of two classes any number but 0 is the second, so that 0/1 and
    0/255 read alike; what is no palette is then read as ``read_mask`` does. A JPEG of more classes has ``values`` that
    are none: what it stores is near the number that was drawn, not equal.
    """
    header = peek(path, spec=DEFAULT_SPEC)
    if classes == 2 and header.mode != "P":
        return read_mask(path).astype(np.uint8)
    if header.format in _LOSSY:
        raise ImageError(path, "values", "is a JPEG, which alters class numbers; save masks as PNG from their source")
    if header.mode not in _NUMBERED:
        raise ImageError(path, "values", f"is a {header.kind} picture; class numbers need grey or palette pixels")
    try:
        with Image.open(path) as file:  # decode() would give a palette's colours
            numbers = np.asarray(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(path, "truncated", f"cannot be read ({error})") from None
    if classes == 2:
        return (numbers > 0).astype(np.uint8)
    wrong = np.setdiff1d(numbers, [*range(classes), IGNORE])
    if wrong.size:
        raise ImageError(
            path,
            "values",
            f"has the values {wrong[:5].tolist()}; allowed are 0 to {classes - 1}, and {IGNORE} for no matter what",
        )
    return numbers.astype(np.uint8)
