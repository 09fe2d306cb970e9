"""A camera as a writer into an inbox, where OpenCV is there: whole files only, and never more than may wait."""

import logging
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pangu_runtime.errors import RuntimeLimitError

log = logging.getLogger("pangu_runtime.edge")

_MOST_WAITING = 1000  # pictures; a watcher that does not keep up must not fill the disk
_AGAIN_S = 2.0
_BREATH_S = 0.001  # between grabs: some drivers give the same picture at once instead of waiting for the next


class Camera:
    """Takes a picture every so often in a thread of its own; a camera that fails is opened again.

    All that the camera gives is grabbed, so that a picture is of the moment and not of what waits in a buffer.
    """

    def __init__(self, source: int | str, inbox: Path, *, every_s: float, stop: threading.Event) -> None:
        """Raises RuntimeLimitError without OpenCV, or where the camera gives no picture."""
        try:
            import cv2
        except ImportError:
            told = "--camera needs OpenCV; install opencv-python-headless, or let the camera's own program write files"
            raise RuntimeLimitError(told) from None
        self._cv2: Any = cv2
        self._source, self._inbox, self._every_s, self._stop = source, inbox, every_s, stop
        for left in inbox.glob(".camera-*.part"):
            left.unlink()
        self._device = cv2.VideoCapture(source)
        if not self._device.read()[0]:
            raise RuntimeLimitError(f"camera {source!r}: gives no picture; is it there, and free?")
        self._thread = threading.Thread(target=self._work, name="camera", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """After ``stop`` was set: wait for the last picture."""
        self._thread.join()
        self._device.release()

    def _work(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(_BREATH_S):
            try:
                self._grab()
                start = time.monotonic()
                if start >= due:
                    due = max(due + self._every_s, start)
                    self._put()
                    end = time.monotonic()
                    due = max(due, end + (end - start) / 4)  # to grab what came meanwhile
            except OSError as error:  # the disk's, not the camera's
                log.error("camera %s: %s", self._source, error)
            except Exception as error:  # OpenCV's: without this thread the watcher would wait for ever
                log.error("camera %s: %s; opening it again", self._source, error)
                self._device.release()
                self._stop.wait(_AGAIN_S)

    def _grab(self) -> None:
        if not self._device.isOpened():
            self._device.open(self._source)
        if not self._device.grab():
            raise RuntimeLimitError("no picture")

    def _put(self) -> None:
        """The picture that was grabbed last, into the inbox."""
        if sum(1 for _ in self._inbox.glob("camera-*.png")) >= _MOST_WAITING:
            log.error("camera %s: %d pictures wait; leaving one out", self._source, _MOST_WAITING)
            return
        is_there, frame = self._device.retrieve()
        if not is_there:
            raise RuntimeLimitError("no picture")
        name = datetime.now(UTC).strftime("camera-%Y%m%dT%H%M%S%f")
        temporary = self._inbox / f".{name}.part"
        try:
            temporary.write_bytes(self._cv2.imencode(".png", frame)[1].tobytes())
            temporary.replace(self._inbox / f"{name}.png")
        finally:
            temporary.unlink(missing_ok=True)
