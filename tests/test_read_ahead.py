"""Large images are read one at a time, small ones side by side; nobody waits for ever."""

import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from pangu_cv import features
from pangu_cv.data.sample import Sample
from pangu_cv.evaluate import decider
from pangu_cv.features import FeatureStore, read_ahead
from pangu_cv.image_size import pixels_of
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec, decode

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
        """All of them; the one in use is not counted."""
        names = []
        for name in reader:
            with self.lock:
                self.now -= 1
            names.append(name)
            threading.Event().wait(0.02)  # readers get as far ahead as they may
        return names


@pytest.mark.parametrize(("pixels_a_worker", "most"), [(15_000, 1), (40_000, 2), (60_000, 3)])
def test_what_is_held_is_bounded_by_pixels(
    noisy: list[Path], monkeypatch: pytest.MonkeyPatch, pixels_a_worker: int, most: int
) -> None:
    monkeypatch.setattr(features, "_PIXELS_A_WORKER", pixels_a_worker)
    held = Held()
    assert held.used(read_ahead(noisy, held.read, workers=2)) == [path.name for path in noisy]
    assert held.most <= most


def test_small_images_are_read_ahead_as_before(tmp_path: Path) -> None:
    paths = [tmp_path / f"{at}.png" for at in range(20)]
    for path in paths:
        Image.new("RGB", (8, 8)).save(path)
    held = Held()
    held.used(read_ahead(paths, held.read, workers=2))
    assert 4 <= held.most <= 5


def test_a_reader_that_is_left_early_reads_no_more(noisy: list[Path]) -> None:
    started: list[Path] = []

    def read(path: Path) -> str:
        started.append(path)
        threading.Event().wait(0.05)
        return path.name

    reader = read_ahead(noisy, read, workers=1)
    assert next(reader) == "00.png"
    reader.close()  # type: ignore[attr-defined]
    assert len(started) <= 2


def test_a_process_ends_though_an_error_keeps_the_reader_alive(noisy: list[Path]) -> None:
    """A traceback keeps the frame that holds it, and a thread that waited for room would keep the process."""
    code = f"""
from pathlib import Path
from pangu_cv import features
features._PIXELS_A_WORKER = 1

def run():
    reader = features.read_ahead(sorted(Path({str(noisy[0].parent)!r}).iterdir()), len, workers=2)
    for _ in reader:
        pass

run()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "TypeError" in ended.stderr


def test_a_bug_is_raised(noisy: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
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


class Watched:
    """Decodes one image at a time, each only when nobody holds the one before."""

    def __init__(self) -> None:
        self.given: list[weakref.ref[NDArray[np.uint8]]] = []

    def decode(self, path: Path, *, spec: DecodeSpec) -> NDArray[np.uint8]:
        """As the runtime does."""
        assert all(image() is None for image in self.given)
        image = decode(path, spec=spec)
        self.given.append(weakref.ref(image))
        return image


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """In both places where large images are read one after another."""
    watched = Watched()
    for module in (features, decider):
        monkeypatch.setattr(module, "decode", watched.decode)
        monkeypatch.setattr(module, "read_ahead", lambda paths, read: map(read, paths))
    return watched


def test_extraction_lets_an_image_go_before_the_next_is_decoded(noisy: list[Path], watched: Watched) -> None:
    class Mean:
        fingerprint = "mean"

        def prepare(self, image_1HW3: Tensor) -> Tensor:
            return image_1HW3.float().mean((1, 2))

        def embed(self, prepared_B3: Tensor, view: str) -> Tensor:
            return prepared_B3

    store = FeatureStore(None, "mean")
    features.extract(noisy, Mean(), views=("identity",), store=store, decode_spec=DEFAULT_SPEC)
    assert len(watched.given) == len(noisy)


def test_evaluation_lets_an_image_go_before_the_next_is_decoded(noisy: list[Path], watched: Watched) -> None:
    class Bright:
        def run(self, images_NHW3: NDArray[np.uint8]) -> decider.Outputs:
            return {"score": images_NHW3.mean((1, 2, 3))}

    samples = [Sample(path) for path in noisy]
    decided = decider.decide_all(
        Bright(), samples, lambda sample, image, outputs: float(outputs["score"][0]), spec=DEFAULT_SPEC
    )
    assert len(decided.rows) == len(watched.given) == len(noisy)


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
