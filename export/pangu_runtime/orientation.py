"""Which way up a picture is: the EXIF orientation, read and applied."""

import struct

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile


def turned(rgb: NDArray[np.uint8], turn: int) -> NDArray[np.uint8]:
    """Undo the camera's rotation; ``turn`` is EXIF's 1..8."""
    match turn:
        case 2:
            return rgb[:, ::-1]
        case 3:
            return rgb[::-1, ::-1]
        case 4:
            return rgb[::-1]
        case 5:
            return rgb.swapaxes(0, 1)
        case 6:
            return rgb[::-1].swapaxes(0, 1)
        case 7:
            return rgb[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return rgb[:, ::-1].swapaxes(0, 1)
    return rgb


def orientation(im: ImageFile) -> int:
    """The EXIF orientation 1..8 still to be applied; 1 where there is none, or none that can be read.

    TIFF gives 1: Pillow turns those itself while loading. A PNG that names its orientation only after the pixels
    gives 1 too, so that the header alone settles the size.
    """
    if isinstance(im, TiffImageFile):
        return 1
    exif = im.info.get("exif")
    if exif is None and isinstance(raw := im.info.get("Raw profile type exif"), str):
        try:
            exif = bytes.fromhex("".join(raw.split("\n")[3:]))  # ImageMagick's way before PNG had eXIf
        except ValueError:
            return 1
    return _exif_orientation(exif) if isinstance(exif, bytes) else 1


def _exif_orientation(exif: bytes) -> int:
    # Not Image.getexif: it warns on real cameras' data, and for a PNG it decodes the pixels.
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    try:
        (ifd,) = struct.unpack_from(order + "I", tiff, 4)
        (entries,) = struct.unpack_from(order + "H", tiff, ifd)
        for at in range(ifd + 2, ifd + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(order + "HH", tiff, at)
            if tag == 0x0112 and kind in (3, 4):
                (value,) = struct.unpack_from(order + ("H" if kind == 3 else "I"), tiff, at + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:
        pass
    return 1
