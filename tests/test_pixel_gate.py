"""Large images are read ahead one at a time, small ones side by side; nobody waits for ever."""

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv import features
from pangu_cv.features import read_ahead
from pangu_cv.pixel_gate import PixelGate, pixels_of
from pangu_runtime.decode import DEFAULT_SPEC, decode

SIDE = 200


@pytest.fixture
def noisy(tmp_path: Path) -> list[Path]:
    """Twelve files over 64 kB of 40,000 pixels each."""
    random = np.random.default_rng(0)
    paths = [tmp_path / f"{at:02}.png" for at in range(12)]
    for path in paths:
        Image.fromarray(random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(path)
    assert paths[0].stat().st_size > 64 * 1024
    return paths


class Held:
    """Counts what has been read and is not used yet; the largest number is kept."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self.lock = threading.Lock()

    def read(self, path: Path) -> str:
        """A stand-in for decoding."""
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        return path.name

    def used(self, reader: Iterator[str]) -> list[str]:
        """All of them, each used until the next is asked for."""
        names = []
        for name in reader:
            names.append(name)
            threading.Event().wait(0.01)  # readers get as far ahead as they may
            with self.lock:
                self.now -= 1
        return names


@pytest.mark.parametrize(("pixels_a_worker", "most"), [(30_000, 1), (60_000, 3)])
def test_what_is_held_is_bounded_by_pixels(
    noisy: list[Path], monkeypatch: pytest.MonkeyPatch, pixels_a_worker: int, most: int
) -> None:
    monkeypatch.setattr(features, "_PIXELS_A_WORKER", pixels_a_worker)
    held = Held()
    assert held.used(read_ahead(noisy, held.read, workers=2)) == [path.name for path in noisy]
    assert held.most == most  # as many as there is room for


def test_small_images_are_read_ahead_as_before(tmp_path: Path) -> None:
    paths = [tmp_path / f"{at}.png" for at in range(20)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    held = Held()
    held.used(read_ahead(paths, held.read, workers=2))
    assert 5 <= held.most <= 6


def test_a_reader_that_is_left_early_ends(noisy: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_PIXELS_A_WORKER", 1)
    reader = read_ahead(noisy, lambda path: path.name, workers=2)
    assert next(reader) == "00.png"
    closing = threading.Thread(target=reader.close, daemon=True)  # type: ignore[attr-defined]
    closing.start()
    closing.join(10)
    assert not closing.is_alive()


def test_a_bug_while_others_wait_is_raised(noisy: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "_PIXELS_A_WORKER", 1)

    def read(path: Path) -> str:
        raise RuntimeError("a bug of ours")

    with pytest.raises(RuntimeError, match="a bug of ours"):
        list(read_ahead(noisy, read, workers=2))


def test_an_image_that_was_used_is_let_go(noisy: list[Path]) -> None:
    """The generator must not keep the one it gave: of 100 megapixels that would be 300 MB."""
    reader = read_ahead(noisy, decode, workers=1)
    image = next(reader)
    assert sys.getrefcount(image) == 2  # the name, and the argument


def test_pixels_of_a_file(noisy: list[Path], tmp_path: Path) -> None:
    assert pixels_of(noisy[0]) == SIDE * SIDE
    assert pixels_of(tmp_path / "gone.png") == 0
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image" * 10_000)
    assert pixels_of(broken) == 0


def test_an_image_beyond_the_default_limit_counts_as_more_than_that(
    noisy: list[Path],
) -> None:
    huge = noisy[0].with_name("huge.bmp")
    Image.new("1", (1, 1)).save(huge)
    data = bytearray(huge.read_bytes())
    data[18:22] = (20_000).to_bytes(4, "little")
    data[22:26] = (20_000).to_bytes(4, "little")
    huge.write_bytes(bytes(data) + bytes(70_000))
    assert pixels_of(huge) > DEFAULT_SPEC.max_pixels


def test_a_gate_lets_in_by_number() -> None:
    gate, entered = PixelGate(10), []

    def enter(number: int, pixels: int) -> None:
        gate.enter(number, pixels)
        entered.append(number)

    threads = [threading.Thread(target=enter, args=(number, 6), daemon=True) for number in (1, 0)]
    for thread in threads:
        thread.start()
        thread.join(0.1)
    assert entered == [0]
    gate.leave(0)
    threads[0].join(5)
    assert entered == [0, 1]
