"""What was sent of an image, kept beside it in FiftyOne as one line of JSON: what comes back is compared with it.

FiftyOne keeps boxes as shares of the image. The pixels they were sent in stand here, so that an untouched box comes
back as it was to the last bit.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.sample import Box, Sample, Split
from pangu_cv.iterate.inspect.look import Look

FIELD = "pangu_sent"
BACK = "pangu_back"  # digest of what was brought back of an image last


@dataclass(frozen=True)
class SentBox:
    """One box: its id in FiftyOne, and both ways of saying where it is."""

    id: str
    label: str
    xyxy: tuple[float, float, float, float]
    share: tuple[float, float, float, float]


@dataclass(frozen=True)
class Sent:
    """The labels of one image as they went out; ``mask`` is the digest of the pixels, ``None`` where none was sent."""

    name: str
    path: str
    sha256: str | None
    size: tuple[int, int]
    label: str | None
    split: Split | None
    group: str | None
    caption: str | None
    mask_path: str | None
    mask: str | None = None
    boxes: tuple[SentBox, ...] | None = None
    predicted: tuple[SentBox, ...] = ()

    def to_text(self) -> str:
        """One line."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_text(text: str) -> "Sent":
        """Back from ``to_text``; raises ValueError, KeyError or TypeError for anything else."""
        facts: dict[str, Any] = json.loads(text)
        for key in ("boxes", "predicted"):
            if facts[key] is not None:
                facts[key] = tuple(
                    SentBox(one["id"], one["label"], tuple(one["xyxy"]), tuple(one["share"])) for one in facts[key]
                )
        return Sent(**facts | {"size": tuple(facts["size"])})

    def true_boxes(self) -> tuple[Box, ...] | None:
        """The boxes as the dataset had them."""
        return None if self.boxes is None else tuple(Box(one.label, one.xyxy) for one in self.boxes)


def sent_of(look: Look, **more: Any) -> Sent:
    """What goes out of an image, boxes aside."""
    sample: Sample = look.sample
    return Sent(
        look.name,
        str(sample.path),
        look.sha256,
        (look.width_px, look.height_px),
        sample.label,
        sample.split,
        sample.group,
        sample.caption,
        None if sample.mask is None else str(sample.mask),
        **more,
    )


def share_of(xyxy: tuple[float, ...], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Left, top, width and height as shares of the image."""
    (x0, y0, x1, y1), (width, height) = xyxy, size
    return x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height


def pixels_of(share: tuple[float, ...], size: tuple[int, int]) -> tuple[float, float, float, float]:
    """Back to pixels, cut at the image's edges; to about the last bit only."""
    (x, y, w, h), (width, height) = share, size
    x0, y0, x1, y1 = x * width, y * height, (x + w) * width, (y + h) * height
    return max(0.0, x0), max(0.0, y0), min(float(width), x1), min(float(height), y1)


def mask_digest(mask_HW: NDArray[Any]) -> str:
    """SHA-256 of a mask's numbers and size."""
    mask = np.ascontiguousarray(mask_HW).astype(np.uint8)
    return hashlib.sha256(f"{mask.shape}".encode() + mask.tobytes()).hexdigest()
