"""A camera that is faster than it is asked, and one that fails; OpenCV is played."""

import logging
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pangu_runtime.edge import camera as module
from pangu_runtime.edge.camera import Camera

_FRAME_S = 0.005


class Broken(Exception):
    """As cv2.error: below Exception only."""


class Capture:
    """Gives frame 0, 1, ... one after the other, each from its moment on, and forgets none."""

    opened = 0

    def __init__(self, source: int) -> None:
        self.start, self.next = time.monotonic(), 0
        self.open(source)

    def open(self, source: int) -> bool:
        self.is_open = True
        type(self).opened += 1
        return True

    def isOpened(self) -> bool:
        return self.is_open

    def release(self) -> None:
        self.is_open = False

    def grab(self) -> bool:
        time.sleep(max(0.0, self.start + self.next * _FRAME_S - time.monotonic()))
        self.next += 1
        return self.is_open

    def retrieve(self) -> tuple[bool, int]:
        return True, self.next - 1

    def read(self) -> tuple[bool, int]:
        return self.grab(), self.next - 1


def encode(_: str, frame: int) -> tuple[bool, Any]:
    return True, np.frombuffer(str(frame).encode(), np.uint8)


@pytest.fixture
def shot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[int]]:
    """The frames that a camera puts into the inbox until there are so many."""

    def shooting(count: int, *, every_s: float, imencode: Any = encode, capture: Any = Capture) -> list[int]:
        monkeypatch.setitem(sys.modules, "cv2", SimpleNamespace(VideoCapture=capture, imencode=imencode))
        monkeypatch.setattr(module, "_AGAIN_S", 0.001)
        stop, until = threading.Event(), time.monotonic() + 20
        camera = Camera(0, tmp_path, every_s=every_s, stop=stop)
        while len(list(tmp_path.glob("camera-*.png"))) < count and time.monotonic() < until:
            time.sleep(0.002)
        stop.set()
        camera.close()
        return [int(path.read_bytes()) for path in sorted(tmp_path.glob("camera-*.png"))]

    return shooting


def test_a_picture_is_of_its_moment(shot: Callable[..., list[int]]) -> None:
    frames = shot(8, every_s=0.06)
    assert len(frames) >= 8
    assert frames[7] > 7 * 0.06 / _FRAME_S / 2  # a reader that takes one frame a time is at the 8th


def test_a_picture_that_takes_long_to_write_makes_the_next_no_later(shot: Callable[..., list[int]]) -> None:
    def slowly(kind: str, frame: int) -> tuple[bool, Any]:
        time.sleep(0.05)
        return encode(kind, frame)

    frames = shot(6, every_s=0.01, imencode=slowly)
    assert frames[5] > 5 * 0.05 / _FRAME_S / 2


def test_pictures_come_as_often_as_asked_though_writing_takes_most_of_the_time(shot: Callable[..., list[int]]) -> None:
    def slowly(kind: str, frame: int) -> tuple[bool, Any]:
        time.sleep(0.15)
        return encode(kind, frame)

    frames = shot(4, every_s=0.2, imencode=slowly)
    assert (frames[3] - frames[0]) * _FRAME_S < 3 * 0.26


@pytest.mark.parametrize("fault", ["no frame", "no picture", "raises", "cannot be encoded"])
def test_a_camera_that_fails_is_opened_again(
    shot: Callable[..., list[int]], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, fault: str
) -> None:
    faults = [fault]

    class Failing(Capture):
        opened = 0

        def grab(self) -> bool:
            if self.next < 5 or fault not in ("no frame", "raises") or not faults:
                return super().grab()
            if faults.pop() == "raises":
                raise Broken("bad driver")
            return False

        def retrieve(self) -> tuple[bool, int]:
            return not (fault == "no picture" and faults and faults.pop()), self.next - 1

    def encoding(kind: str, frame: int) -> tuple[bool, Any]:
        if fault == "cannot be encoded" and faults and faults.pop():
            raise Broken("empty frame")
        return encode(kind, frame)

    with caplog.at_level(logging.ERROR):
        assert len(shot(3, every_s=0.02, imencode=encoding, capture=Failing)) >= 3
    assert Failing.opened == 2
    assert caplog.text.count("opening it again") == 1


def test_no_part_of_a_picture_stays(
    shot: Callable[..., list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / ".camera-20240101T000000000000.part").write_bytes(b"of a crash")
    replace, fails = Path.replace, [True]

    def full(path: Path, target: Path) -> Path:
        if fails:
            fails.pop()
            raise OSError(28, "No space left on device")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", full)
    with caplog.at_level(logging.ERROR):
        assert shot(1, every_s=0.01)
    assert "No space left on device" in caplog.text
    assert list(tmp_path.glob(".*")) == []
