"""Text that may stand in a report: made readable, escaped, and numbers as people write them."""

import html
import re
from typing import Final

from pangu_cv.metrics import Interval

# Controls and lone surrogates (file names are bytes) break markup; direction marks make a name read as another.
_UNREADABLE: Final = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)


def readable(text: object) -> str:
    """Text with what cannot or should not be shown replaced by U+FFFD."""
    return _UNREADABLE.sub("\ufffd", str(text))


def escaped(text: object) -> str:
    """Readable text for HTML, in elements and in quoted attributes."""
    return html.escape(readable(text), quote=True)


def shortened(text: object, length: int = 28) -> str:
    """Readable text on one line; what is too long loses its middle, as names differ at both ends."""
    line = " ".join(readable(text).split())
    tail = (length - 1) // 2
    return line if len(line) <= length else f"{line[: length - 1 - tail]}…{line[-tail:]}"


def percent(share: float | None, digits: int = 1) -> str:
    """A share in per cent; a dash where it is undefined, and never ``100.0`` for what is less."""
    if share is None:
        return "–"
    rounded = f"{100 * share:.{digits}f}"
    if share < 1 and float(rounded) == 100:
        rounded = f"{100 - 10**-digits:.{digits}f}"
    return f"{rounded} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """A number; a dash where it is undefined."""
    return "–" if value is None else f"{value:.{digits}f}"


def percent_range(interval: Interval) -> str:
    """The ends of a share's interval in per cent; Student's of a few draws may go beyond what a share can be."""
    if interval.low is None or interval.high is None:
        return "–"
    return f"{100 * max(0.0, interval.low):.1f} to {100 * min(1.0, interval.high):.1f} %"


def band(interval: Interval | None) -> str:
    """The 95 % interval of a share in words; nothing where there is none."""
    if interval is None or interval.low is None or interval.high is None:
        return ""
    if interval.low == interval.high:
        return "these images show no spread"  # a bootstrap cannot draw the mistake that did not occur
    return f"95 %: {percent_range(interval)}"


def with_band(note: str, interval: Interval | None) -> str:
    """A note and the interval after it, as far as there are any."""
    return "; ".join(filter(None, (note, band(interval))))


def counted(number: int, noun: str, plural: str = "") -> str:
    """``1 image``, ``2 images``, and ``2 classes`` where the plural is given."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
