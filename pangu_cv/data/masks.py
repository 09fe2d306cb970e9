"""Reading masks: where a defect is, or which class every pixel has."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.errors import ImageError
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, decode, peek

IGNORE = 255
"""The value of pixels that are neither learnt from nor measured."""
IGNORED = "__ignore__"
"""What labelme calls them."""
BACKGROUND = "background"
"""The class whose value is 0."""

# Any non-zero value is a defect, so that class numbers in 8 or 16 bit and 0/255 read alike.
_SPEC = DecodeSpec(range_16bit=(0, 1), background=0)
LOSSY = ("JPEG", "MPO")
NUMBERED = ("1", "L", "P", "I;16", "I")


def is_background(name: str | None) -> bool:
    """Whether a class of this name is nothing: the second is labelme's."""
    return name is not None and name.casefold() in (BACKGROUND, "_background_")


def read_mask(path: Path) -> NDArray[np.bool_]:
    """Mask [H, W], True where the file is not black; EXIF orientation applied. Raises ImageError.

    A JPEG is rimmed with faint values that nobody drew: of one, what has at least a quarter of its brightest value is
    True, so that areas keep their size and several levels of grey all count.
    """
    brightest_HW = _brightest(path)
    if peek(path, spec=_SPEC).format not in LOSSY:
        return np.asarray(brightest_HW > 0)
    return np.asarray(brightest_HW >= max(1, -(-int(brightest_HW.max()) // 4)))


def read_class_mask(path: Path, *, classes: int) -> NDArray[np.uint8]:
    """Class numbers uint8[H, W], each below ``classes`` or ``IGNORE``. Raises ImageError, reason ``values`` for others.

    Palettes give their numbers, whatever their colours. Of two classes any number but 0 is the second, so that 0/1 and
    0/255 read alike; only where 1 and 255 are all there is beside 0, 255 is ``IGNORE``. What is no palette is then read
    as ``read_mask`` does. A JPEG of more classes has ``values`` that are none: what it stores is near the number that
    was drawn, not equal.
    """
    header = peek(path, spec=DEFAULT_SPEC)
    if classes == 2 and header.mode != "P":
        return read_mask(path).astype(np.uint8) if header.format in LOSSY else _of_two(_brightest(path))
    if header.format in LOSSY:
        raise ImageError(path, "values", "is a JPEG, which alters class numbers; save masks as PNG from their source")
    if header.mode not in NUMBERED:
        raise ImageError(path, "values", f"is a {header.kind} picture; class numbers need grey or palette pixels")
    numbers = stored_numbers(path)
    if classes == 2:
        return _of_two(numbers)
    wrong = np.setdiff1d(numbers, [*range(classes), IGNORE])
    if wrong.size:
        raise ImageError(
            path,
            "values",
            f"has the values {wrong[:5].tolist()}; allowed are 0 to {classes - 1}, and {IGNORE} for no matter what",
        )
    return numbers.astype(np.uint8)


def values_in(path: Path) -> frozenset[int]:
    """The values of a mask of two classes; of a JPEG, which alters them, 0 and 1. Raises ImageError."""
    header = peek(path, spec=DEFAULT_SPEC)
    if header.format in LOSSY:
        return frozenset(np.unique(read_mask(path)).tolist())
    return frozenset(np.unique(stored_numbers(path) if header.mode == "P" else _brightest(path)).tolist())


def _brightest(path: Path) -> NDArray[np.uint8]:
    """The brightest channel uint8[H, W]; any value of 16 bit but 0 is 255."""
    return np.asarray(decode(path, spec=_SPEC).max(axis=2))


def stored_numbers(path: Path) -> NDArray[Any]:
    """The numbers [H, W] as they stand in the file, where decoding would give a palette's colours."""
    try:
        with Image.open(path) as file:
            return np.asarray(file)
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(path, "truncated", f"cannot be read ({error})") from None


def _of_two(numbers_HW: NDArray[Any]) -> NDArray[np.uint8]:
    """1 where a defect is; who draws it as 1 marks with 255 what nobody decided, others mark the defect itself."""
    if set(np.unique(numbers_HW).tolist()) - {0} == {1, IGNORE}:
        return numbers_HW.astype(np.uint8)
    return (numbers_HW > 0).astype(np.uint8)
