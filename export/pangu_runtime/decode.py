"""The one decoder, used in training and at the line: any allowed file to uint8 RGB of shape [H, W, 3].

EXIF orientation is applied. Palette, grey and 1-bit become RGB; CMYK by (255-C)(255-K)/255, JPEGs read as Adobe writes
them, inverted; ICC profiles are ignored. Alpha and transparent colours are composited over one grey. 16-bit values are
mapped linearly by ``range_16bit``, grey and colour alike (a PGM is first scaled by its own maximum). Of grey with
alpha, CMYK and PPM in 16 bit only the high byte can be read: they are taken at the full range, refused at another.
Of an MPO, which phones write, the first picture is taken: the photograph; the others are previews or the other eye.
"""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL.ImageFile import ImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pangu_runtime.errors import DataError, ImageError
from pangu_runtime.image_file import DAMAGE, HEAD_BYTES, load_pixels, open_header, quiet, webp_size
from pangu_runtime.orientation import orientation, turned
from pangu_runtime.sixteen_bit import FULL_RANGE_16BIT, lut_16bit, values_16bit

_BITS_PER_SAMPLE = 258  # TIFF tag
_BLOCK_PIXELS = 1 << 18  # composited at a time


@dataclass(frozen=True, slots=True)
class DecodeSpec:
    """How files become pixels; stored in a bundle so that the line decodes as training did.

    ``range_16bit`` is the pair of 16-bit values that become 0 and 255 (values outside are clipped); a 12-bit camera
    wants ``(0, 4095)``. ``background`` is the grey 0..255 under transparent pixels. Raises DataError on other values.
    """

    max_pixels: int = 100_000_000
    max_bytes: int = 256 * 2**20
    range_16bit: tuple[int, int] = FULL_RANGE_16BIT
    background: int = 127

    def __post_init__(self) -> None:
        low, high = self.range_16bit
        if not 0 <= low < high <= 65535:
            raise DataError(f"decode.range_16bit: {self.range_16bit} found; allowed is 0 <= low < high <= 65535")
        if not 0 <= self.background <= 255:
            raise DataError(f"decode.background: {self.background} found; allowed is 0..255")
        if self.max_pixels < 1 or self.max_bytes < 1:
            raise DataError("decode: max_pixels and max_bytes must be at least 1")

    def to_json(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self) | {"range_16bit": list(self.range_16bit)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "DecodeSpec":
        """The inverse of ``to_json``; missing keys take their defaults. Raises DataError on unknown or odd values."""
        if unknown := set(values) - {f.name for f in fields(cls)}:
            raise DataError(f"decode: unknown {sorted(unknown)}; allowed are {[f.name for f in fields(cls)]}")
        try:
            low, high = values.get("range_16bit", FULL_RANGE_16BIT)
            numbers = {key: int(value) for key, value in values.items() if key != "range_16bit"}
            return cls(range_16bit=(int(low), int(high)), **numbers)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"decode: {dict(values)!r} found; numbers and a pair of numbers are allowed") from error


DEFAULT_SPEC = DecodeSpec()


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What a header tells: the size as decoded (after EXIF), Pillow's mode, the format, and bits per channel."""

    width_px: int
    height_px: int
    mode: str
    format: str
    bit_depth: int

    @property
    def kind(self) -> str:
        """For a report, such as ``PNG RGB 8-bit``."""
        return f"{self.format} {self.mode} {self.bit_depth}-bit"


def decode(source: Path | str | bytes, *, spec: DecodeSpec = DEFAULT_SPEC) -> NDArray[np.uint8]:
    """Pixels uint8 [H, W, 3], RGB, C-contiguous, writable; ``source`` is a path, or the bytes of a file.

    Raises ImageError with reason ``missing``, ``truncated`` (cut off or damaged), ``not_an_image``, ``too_large``,
    ``multipage`` or ``unsupported`` (32-bit and float pixels, formats not read). Safe to call from many threads.
    """
    with _stream(source, spec) as (name, stream):
        data = stream.read()
    im = _open_checked(io.BytesIO(data), name, spec)
    turn, depth = orientation(im), _bit_depth(im, data[:HEAD_BYTES])
    values = values_16bit(im, data, name) if depth > 8 else None
    if values is not None:
        rgb = _from_16bit(values, im.info.get("transparency"), spec)
    elif depth > 8 and spec.range_16bit != FULL_RANGE_16BIT:
        raise _range_unsupported(im, name, spec)
    else:
        rgb = _to_rgb(load_pixels(im, name), spec, name)
    return np.ascontiguousarray(turned(rgb, turn))


def peek(source: Path | str | bytes, *, spec: DecodeSpec = DEFAULT_SPEC) -> ImageHeader:
    """The header alone, refusing what ``decode`` would refuse on its account; pixels may still prove truncated."""
    with _stream(source, spec) as (name, stream):
        head = stream.read(HEAD_BYTES)
        stream.seek(0)
        im = _open_checked(stream, name, spec)
        width_px, height_px = im.size
        if orientation(im) >= 5:
            width_px, height_px = height_px, width_px
        return ImageHeader(width_px, height_px, im.mode, im.format or "", _bit_depth(im, head))


def read_bytes(path: Path, *, spec: DecodeSpec = DEFAULT_SPEC) -> bytes:
    """The file's bytes, within ``max_bytes``; raises ImageError ``missing`` or ``too_large``."""
    with _stream(path, spec) as (_, stream):
        return stream.read()


def read_16bit(source: Path | str | bytes, *, spec: DecodeSpec = DEFAULT_SPEC) -> NDArray[np.uint16] | None:
    """The values [H, W], [H, W, 3] or [H, W, 4] before ``range_16bit`` and EXIF, None if the file has 8 bits or fewer.

    To choose a range by; also None for the few kinds of 16-bit colour of which only the high byte can be read.
    """
    with _stream(source, spec) as (name, stream):
        data = stream.read()
    im = _open_checked(io.BytesIO(data), name, spec)
    return values_16bit(im, data, name) if _bit_depth(im, data[:HEAD_BYTES]) > 8 else None


@contextmanager
def _stream(source: Path | str | bytes, spec: DecodeSpec) -> Iterator[tuple[str, BinaryIO]]:
    if isinstance(source, bytes):
        _check_bytes(len(source), "<bytes>", spec)
        yield "<bytes>", io.BytesIO(source)
        return
    path = Path(source)
    if not path.is_file():
        found = "is a folder" if path.is_dir() else "does not exist or is no regular file"
        raise ImageError(path, "missing", f"{found}; an image file is needed")
    try:
        _check_bytes(path.stat().st_size, str(path), spec)
        with path.open("rb") as stream:
            yield str(path), stream
    except OSError as error:  # the right to read, a lost share, a bad sector
        raise ImageError(path, "missing", f"cannot be read: {error.strerror}") from error


def _check_bytes(found: int, name: str, spec: DecodeSpec) -> None:
    if found > spec.max_bytes:
        raise ImageError(
            name,
            "too_large",
            f"{found:,} bytes, the limit (max_bytes) is {spec.max_bytes:,}; save it in parts",
        )


def _open_checked(stream: BinaryIO, name: str, spec: DecodeSpec) -> ImageFile:
    """Header parsed, and everything refused that the header condemns."""
    head = stream.read(HEAD_BYTES)
    stream.seek(0)
    if (size := webp_size(head)) is not None:
        _check_pixels(size, name, spec)  # Pillow's WebP reader allocates the canvas while opening
    im = open_header(stream, name)
    _check_pixels(im.size, name, spec)
    try:
        with quiet():
            has_pages = bool(getattr(im, "is_animated", False))  # counting them would walk through the whole file
    except DAMAGE as error:
        raise ImageError(name, "truncated", f"its pages cannot be told ({error}); copy the file again") from error
    if has_pages:
        raise ImageError(
            name, "multipage", "holds several pictures, one per file is allowed; save each as a file of its own"
        )
    if im.mode == "F" or (im.mode == "I" and isinstance(im, TiffImageFile)):
        kind = "float" if im.mode == "F" else "32-bit or signed"
        raise ImageError(
            name, "unsupported", f"holds {kind} pixels; scale them to 8 or unsigned 16 bit and save as PNG or TIFF"
        )
    return im


def _check_pixels(size: tuple[int, int], name: str, spec: DecodeSpec) -> None:
    if size[0] * size[1] > spec.max_pixels:
        raise ImageError(
            name,
            "too_large",
            f"{size[0]} x {size[1]} = {size[0] * size[1]:,} pixels, the limit is {spec.max_pixels:,}; "
            "cut the image into parts, or raise the limit: data.max_pixels in training, which the bundle keeps, and "
            "--max-megapixels of a server",
        )


def _to_rgb(im: ImageFile, spec: DecodeSpec, name: str) -> NDArray[np.uint8]:
    """In strips: Pillow's way to numpy takes twice the memory of what it copies."""
    has_alpha = im.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in im.info
    rgb = np.empty((im.height, im.width, 3), np.uint8)
    step = max(1, _BLOCK_PIXELS // im.width)
    try:
        for top in range(0, im.height, step):
            strip = im if step >= im.height else im.crop((0, top, im.width, min(top + step, im.height)))
            if has_alpha:
                straight = strip.convert("LA") if strip.mode == "La" else strip
                rgba = np.asarray(straight if straight.mode == "RGBA" else straight.convert("RGBA"))
                rgb[top : top + step] = _over_grey(rgba[..., :3], rgba[..., 3:], spec.background)
            else:
                rgb[top : top + step] = np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB"))
    except (ValueError, TypeError) as error:
        raise ImageError(name, "unsupported", f"mode {im.mode} does not convert to RGB; save as 8-bit RGB") from error
    return rgb


def _range_unsupported(im: ImageFile, name: str, spec: DecodeSpec) -> ImageError:
    return ImageError(
        name,
        "unsupported",
        f"range_16bit {spec.range_16bit} cannot be applied to 16-bit {im.format} of mode {im.mode}, "
        "of which only the high byte can be read; save it as 16-bit RGB PNG or grey, or scale it to 8 bit",
    )


def _over_grey(rgb: NDArray[np.uint8], alpha_HW1: NDArray[np.uint8], background: int) -> NDArray[np.uint8]:
    mixed = np.empty(rgb.shape, np.uint8)
    step = max(1, _BLOCK_PIXELS // rgb.shape[1])
    for top in range(0, len(rgb), step):  # in blocks: their wider numbers take twice the memory of the image
        rows = slice(top, top + step)
        alpha = alpha_HW1[rows].astype(np.uint16)
        sums = rgb[rows] * alpha + np.uint16(background) * (255 - alpha)  # at most 255 * 255, so uint16 holds it
        mixed[rows] = (sums.astype(np.uint32) + 127) // 255
    return mixed


def _from_16bit(values: NDArray[np.uint16], clear: object, spec: DecodeSpec) -> NDArray[np.uint8]:
    rgb: NDArray[np.uint8] = lut_16bit(spec.range_16bit)[values if values.ndim == 2 else values[..., :3]]
    if values.ndim == 2:
        if isinstance(clear, int):
            rgb[values == clear] = spec.background
        return np.repeat(rgb[..., None], 3, axis=2)
    if values.shape[2] == 3:
        return rgb
    return _over_grey(rgb, lut_16bit(FULL_RANGE_16BIT)[values[..., 3:]], spec.background)


def _bit_depth(im: ImageFile, head: bytes) -> int:
    if im.format == "PNG":
        return head[24]
    if isinstance(im, TiffImageFile):
        bits = im.tag_v2.get(_BITS_PER_SAMPLE, (1,))
        return int(max(bits)) if isinstance(bits, tuple) else int(bits)
    if im.format == "PPM" and im.mode != "1":
        args = im.tile[0].args
        return 16 if im.mode == "I" or (isinstance(args, tuple) and len(args) > 1 and int(args[1]) > 255) else 8
    return 1 if im.mode == "1" else 8
