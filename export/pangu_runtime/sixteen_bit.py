"""16-bit pixel values, grey and colour, and the table that maps them to 8 bit."""

import io
import sys

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile, _Tile

from pangu_runtime.image_file import load_pixels, open_header

FULL_RANGE_16BIT = (0, 65535)
_GREY_MODES = ("I;16", "I;16B", "I;16L", "I")
# Pillow keeps one byte of 16-bit colour. Its raw mode with the other byte order yields the other byte.
_NATIVE_OTHER = "B" if sys.byteorder == "little" else "L"
_OTHER_BYTE = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA")
    for order, other in (("L", "B"), ("B", "L"), ("N", _NATIVE_OTHER))
}


def values_16bit(im: ImageFile, data: bytes, name: str) -> NDArray[np.uint16] | None:
    """Values uint16 [H, W], [H, W, 3] or [H, W, 4] of the opened file ``im`` whose bytes are ``data``.

    None where Pillow gives the high byte only (grey with alpha, CMYK, PPM). Raises ImageError ``truncated``.
    """
    if im.mode in _GREY_MODES:
        grey: NDArray[np.uint16] = np.clip(np.asarray(load_pixels(im, name)), 0, 65535).astype(np.uint16)
        return grey
    args = im.tile[0].args if im.tile else ""
    rawmode = args if isinstance(args, str) else str(args[0]) if args else ""
    if rawmode not in _OTHER_BYTE:
        return None
    again = open_header(io.BytesIO(data), name)
    again.tile = [_with_rawmode(tile, _OTHER_BYTE[rawmode]) for tile in again.tile]
    high: NDArray[np.uint8] = np.asarray(load_pixels(im, name))
    low: NDArray[np.uint8] = np.asarray(load_pixels(again, name))
    return high.astype(np.uint16) * np.uint16(256) + low


def lut_16bit(bounds: tuple[int, int]) -> NDArray[np.uint8]:
    """Table uint8 [65536]: ``bounds[0]`` and below become 0, ``bounds[1]`` and above 255, linear between, half up."""
    low, high = bounds  # in integers: the same byte on every machine
    offset = np.clip(np.arange(65536, dtype=np.int64), low, high) - low
    return ((offset * 510 + (high - low)) // (2 * (high - low))).astype(np.uint8)


def _with_rawmode(tile: _Tile, rawmode: str) -> _Tile:
    return tile._replace(args=(rawmode, *tile.args[1:]) if isinstance(tile.args, tuple) else rawmode)
