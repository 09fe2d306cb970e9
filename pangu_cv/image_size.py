"""How many pixels an image has, before it is read."""

from pathlib import Path

from pangu_cv.errors import ImageError
from pangu_runtime.decode import DEFAULT_SPEC, peek

_SMALL_BYTES = 64 * 1024  # what such a file holds is rarely worth opening it twice
_SMALL_PIXELS = 1_000_000


def pixels_of(path: Path) -> int:
    """About how many pixels reading the image will take: a guess for small files, 0 where there is nothing to decode.

    Of one beyond what is allowed by default, which a recipe may allow, more than that.
    """
    try:
        if path.stat().st_size <= _SMALL_BYTES:
            return _SMALL_PIXELS
        header = peek(path)
    except ImageError as error:  # whoever reads it says what is wrong with it
        return DEFAULT_SPEC.max_pixels + 1 if error.reason == "too_large" else 0
    except OSError:
        return 0
    return header.width_px * header.height_px
