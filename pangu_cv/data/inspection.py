"""What one image and its mask are found to be when they are read once."""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.masks import IGNORE, read_class_mask, read_mask, values_in
from pangu_cv.data.near_duplicates import thumbnail
from pangu_cv.data.readers.mvtec import NORMAL
from pangu_cv.data.sample import Sample
from pangu_cv.errors import ImageError
from pangu_runtime.decode import DecodeSpec, ImageHeader, decode, peek, read_16bit, read_bytes

MaskFaultKind = Literal["unreadable", "size", "empty", "values"]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something cannot be used: a stable word, and a sentence without the path."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """Digests of the file and of its decoded pixels, its header, the 16-bit values met; None where not readable.

    ``thumbnail`` is what the picture looks like from afar (see ``near_duplicates``), ``mask_values`` the class numbers
    of its mask, ``mask_levels`` how many values but 0 stand for a defect in one of two classes.
    """

    sha256: str | None = None
    pixels: str | None = None
    header: ImageHeader | None = None
    range_16bit: tuple[int, int] | None = None
    fault: Fault | None = None
    mask_fault: Fault | None = None
    mask_values: frozenset[int] = frozenset()
    mask_levels: int = 0
    thumbnail: NDArray[np.float32] | None = None


def inspect(sample: Sample, *, spec: DecodeSpec, mask_classes: int = 0) -> ImageFacts:
    """Read, hash and decode one image and its mask, of ``mask_classes`` if it numbers any; never raises ImageError."""
    sha256 = None
    try:
        data = read_bytes(sample.path, spec=spec)
        sha256 = hashlib.sha256(data).hexdigest()
        header = peek(data, spec=spec)
        rgb = decode(data, spec=spec)
    except ImageError as error:
        return ImageFacts(sha256, fault=_fault(error))
    values = read_16bit(data, spec=spec) if header.bit_depth > 8 else None
    mask_fault, mask_values, mask_levels = _inspect_mask(sample, rgb, mask_classes)
    return ImageFacts(
        sha256,
        _digest(rgb),
        header,
        (int(values.min()), int(values.max())) if values is not None else None,
        mask_fault=mask_fault,
        mask_values=mask_values,
        mask_levels=mask_levels,
        thumbnail=thumbnail(rgb),
    )


def _inspect_mask(
    sample: Sample, rgb: NDArray[np.uint8], mask_classes: int
) -> tuple[Fault | None, frozenset[int], int]:
    """What is wrong with the mask, the class numbers in it, and its values beside 0 where it has two classes."""
    if sample.mask is None:
        return None, frozenset(), 0
    try:
        mask = read_class_mask(sample.mask, classes=mask_classes) if mask_classes else read_mask(sample.mask)
        levels = len(values_in(sample.mask) - {0}) if mask_classes <= 2 else 0
    except ImageError as error:
        return _fault(error), frozenset(), 0
    if mask.shape != rgb.shape[:2]:
        (height, width), (image_height, image_width) = mask.shape, rgb.shape[:2]
        return Fault("size", f"mask {width} x {height}, image {image_width} x {image_height} pixels"), frozenset(), 0
    found = frozenset(int(value) for value in np.unique(mask)) - {IGNORE}
    is_empty = not mask.any() and not mask_classes and sample.label != NORMAL
    return (Fault("empty", "no pixel is marked") if is_empty else None), found, levels


def _digest(rgb: NDArray[np.uint8]) -> str:
    return hashlib.blake2b(rgb.data, digest_size=16, salt=f"{rgb.shape[0]}x{rgb.shape[1]}".encode()[:16]).hexdigest()


def _fault(error: ImageError) -> Fault:
    return Fault(error.reason, str(error).removeprefix(f"{error.path}: "))
