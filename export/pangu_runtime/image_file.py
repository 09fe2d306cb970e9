"""Opening an image file from an allow-list, header only, without Pillow's global limits and warnings."""

import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from PIL import WebPImagePlugin
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.Image import DecompressionBombError
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pangu_runtime.errors import ImageError
from pangu_runtime.netpbm import NetpbmFile

ALLOWED = "PNG, JPEG (MPO: its first picture), BMP, TIFF, WebP, binary PBM/PGM/PPM, GIF"
HEAD_BYTES = 32

# The classes, not Image.open: that one consults every installed plugin and a process-wide pixel limit.
_OPENERS: tuple[tuple[bytes, type[ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile),
    (b"\xff\xd8\xff", JpegImageFile),
    (b"II*\0", TiffImageFile),
    (b"MM\0*", TiffImageFile),
    (b"II+\0", TiffImageFile),
    (b"MM\0+", TiffImageFile),
    (b"BM", BmpImageFile),
    (b"GIF87a", GifImageFile),
    (b"GIF89a", GifImageFile),
    *((magic, NetpbmFile) for magic in (b"P4", b"P5", b"P6")),
)
_AS_TEXT = (b"P1", b"P2", b"P3")  # decoded number by number: a few MB would hold up everyone
_KNOWN_BUT_REFUSED = {
    b"ftypavif": "AVIF",
    b"ftyphei": "HEIC",
    b"ftypmif1": "HEIF",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"8BPS": "Photoshop",
    b"v/1\x01": "OpenEXR",
    b"%PDF": "PDF",
}
# What Pillow raises on damaged input, collected from its plugins; MemoryError and KeyboardInterrupt pass through.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    struct.error,
)

# How Pillow's plugins say that the file is sound but of a kind they lack: 12-bit JPEG, many-channel TIFF, odd BMP.
_UNSUPPORTED_WORDS = ("cannot handle", "unknown pixel mode", "unsupported", "not supported", "not yet supported")

_warnings_lock = threading.Lock()  # catch_warnings swaps process-wide state until Python 3.14


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings on odd metadata from leaking; one thread at a time."""
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def open_header(stream: BinaryIO, name: str) -> ImageFile:
    """The file in ``stream`` with its header parsed and no pixel decoded.

    Raises ImageError: ``not_an_image``, ``unsupported`` (a format outside ``ALLOWED``) or ``truncated``.
    """
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    opener = _opener(head, name)
    try:
        with quiet():
            return opener(stream)
    except DecompressionBombError as error:
        raise ImageError(name, "too_large", str(error)) from error
    except DAMAGE as error:
        if any(words in str(error).lower() for words in _UNSUPPORTED_WORDS):
            raise ImageError(name, "unsupported", f"{error}; save it as 8-bit or 16-bit PNG") from error
        raise ImageError(
            name, "truncated", f"its header is cut off or damaged ({error}); copy the file again"
        ) from error


def load_pixels(im: ImageFile, name: str) -> ImageFile:
    """``im`` with its pixels decoded. Raises ImageError ``truncated``, or ``too_large`` for odd TIFF tiles."""
    try:
        if isinstance(im, TiffImageFile):  # the one that warns while loading
            with quiet():
                im.load()
        else:
            im.load()
    except DecompressionBombError as error:
        raise ImageError(name, "too_large", str(error)) from error
    except DAMAGE as error:
        raise ImageError(name, "truncated", f"cut off or damaged ({error}); copy the file again") from error
    return im


def webp_size(head: bytes) -> tuple[int, int] | None:
    """Width and height from the first 30 bytes of a WebP file, None for other formats or too few bytes."""
    if not _is_webp(head) or len(head) < 30:
        return None
    match head[12:16]:
        case b"VP8X":
            return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
        case b"VP8L":
            bits = int.from_bytes(head[21:25], "little")
            return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
        case b"VP8 ":
            return int.from_bytes(head[26:28], "little") & 0x3FFF, int.from_bytes(head[28:30], "little") & 0x3FFF
    return None


def _is_webp(head: bytes) -> bool:
    return head[:4] == b"RIFF" and head[8:12] == b"WEBP"


def _opener(head: bytes, name: str) -> type[ImageFile]:
    if not head:
        raise ImageError(name, "truncated", "the file is empty; copy it again")
    if _is_webp(head) and WebPImagePlugin.SUPPORTED:
        return WebPImagePlugin.WebPImageFile
    for magic, opener in _OPENERS:
        if head.startswith(magic):
            return opener
    if head.startswith(_AS_TEXT):
        told = "PBM, PGM and PPM written as text (P1 to P3) are not read; save it in binary (P4 to P6) or as PNG"
        raise ImageError(name, "unsupported", told)
    for magic, kind in _KNOWN_BUT_REFUSED.items():
        if magic in head[:16]:
            raise ImageError(name, "unsupported", f"{kind} is not read; convert it to PNG. Read are: {ALLOWED}")
    raise ImageError(
        name, "not_an_image", f"starts with {head[:8]!r}, which no format that is read begins with. Read are: {ALLOWED}"
    )
