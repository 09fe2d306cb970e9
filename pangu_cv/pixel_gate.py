"""How many pixels are in memory while threads read images ahead: a bound that no folder of large ones lifts."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition

from pangu_cv.errors import ImageError
from pangu_runtime.decode import DEFAULT_SPEC, peek

_SMALL_BYTES = 64 * 1024  # what such a file holds is rarely worth opening it twice
_SMALL_PIXELS = 1_000_000


class PixelGate:
    """Lets images in, in the order of their numbers 0, 1, 2 ..., while at most ``most`` pixels are inside, or one.

    Safe to use from many threads.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._inside: dict[int, int] = {}
        self._next = 0
        self._is_open = False
        self._changed = Condition()

    def enter(self, number: int, pixels: int) -> None:
        """Wait for the turn of image ``number`` and for room for its ``pixels``; it is inside until ``leave``."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or (number == self._next and self._has_room(pixels)))
            self._inside[number] = pixels
            self._next = max(self._next, number + 1)
            self._changed.notify_all()

    def leave(self, number: int) -> None:
        """Image ``number`` is no longer in memory."""
        with self._changed:
            self._inside.pop(number, None)
            self._changed.notify_all()

    @contextmanager
    def opened_at_last(self) -> Iterator[None]:
        """Nobody waits any more when the block is left, in whichever way."""
        try:
            yield
        finally:
            with self._changed:
                self._is_open = True
                self._changed.notify_all()

    def _has_room(self, pixels: int) -> bool:
        return not self._inside or sum(self._inside.values()) + pixels <= self.most


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
