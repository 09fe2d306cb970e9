import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data import pixel_cache
from pangu_cv.data.pixel_cache import PixelCache
from pangu_runtime.decode import DecodeSpec

ROOM_FOR_TWO = 8.5e-6  # GB; an image takes 4,050 bytes or a little less


def images(folder: Path, count: int = 5) -> list[Path]:
    folder.mkdir()
    random = np.random.default_rng(0)
    paths = []
    for number in range(count):
        path = folder / f"{number}.png"
        Image.fromarray(random.integers(0, 256, (60 + number, 90, 3)).astype(np.uint8)).save(path)
        paths.append(path)
    return paths


def cache(folder: Path, *, max_gb: float = 1.0) -> PixelCache:
    return PixelCache(folder, short_px=30, spec=DecodeSpec(), max_gb=max_gb)


def test_reduced_to_the_short_side_and_never_enlarged(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    Image.new("RGB", (20, 25)).save(tmp_path / "in" / "tiny.png")
    paths.append(tmp_path / "in" / "tiny.png")
    made = cache(tmp_path / "cache")
    assert made.fill(paths) == []
    assert made.read(paths[0]).shape == (30, 45, 3)
    assert made.read(paths[-1]).shape == (25, 20, 3)


def test_second_run_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path / "in")
    first = cache(tmp_path / "cache")
    first.fill(paths)
    expected = first.read(paths[2]).copy()
    monkeypatch.setattr(pixel_cache, "decode", lambda *_, **__: pytest.fail("decoded again"))
    second = cache(tmp_path / "cache")
    second.fill(paths)
    assert np.array_equal(second.read(paths[2]), expected)


def test_what_had_no_room_is_not_decoded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path / "in")
    roomy, full = cache(tmp_path / "roomy"), cache(tmp_path / "full", max_gb=ROOM_FOR_TWO)
    for made in (roomy, full):
        made.fill(paths)
    monkeypatch.setattr(pixel_cache, "decode", lambda *_, **__: pytest.fail("decoded again"))
    again = cache(tmp_path / "full", max_gb=ROOM_FOR_TWO)
    for made in (full, again):
        assert made.fill(paths) == []
        assert [made.digest(path) for path in paths] == [roomy.digest(path) for path in paths]
        assert np.array_equal(made.read(paths[1]), roomy.read(paths[1]))


def test_room_that_was_added_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = images(tmp_path / "in")
    cache(tmp_path / "cache", max_gb=ROOM_FOR_TWO).fill(paths)
    decoded: list[Path] = []
    real = pixel_cache.decode
    monkeypatch.setattr(pixel_cache, "decode", lambda path, **how: (decoded.append(path), real(path, **how))[1])
    for _ in range(2):
        made = cache(tmp_path / "cache", max_gb=1.5 * ROOM_FOR_TWO)
        made.fill(paths)
        assert decoded == [paths[2]]
    assert made.read(paths[2]).shape[0] == 30
    assert decoded == [paths[2]]


def test_an_index_names_files_with_size_and_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on disk outlives a version: a line that was written long ago is still read."""
    path = images(tmp_path / "in", count=1)[0]
    made = cache(tmp_path / "cache")
    made.folder.mkdir(parents=True)
    stat = path.stat()
    line = json.dumps([f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}", 0, 2, 3, "abc"])
    (made.folder / "index.jsonl").write_text(f"{line}\n")
    (made.folder / "pixels.bin").write_bytes(bytes(range(18)))
    monkeypatch.setattr(pixel_cache, "decode", lambda *_, **__: pytest.fail("decoded again"))
    assert made.fill([path]) == []
    assert made.read(path).tolist() == np.arange(18).reshape(2, 3, 3).tolist()
    assert made.digest(path) == "abc"


@pytest.mark.parametrize("max_gb", [1.0, ROOM_FOR_TWO])
@pytest.mark.parametrize("cut", ["pixels", "index", "garbage"])
def test_what_a_killed_run_left_is_completed(
    cut: str, max_gb: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = images(tmp_path / "in")
    whole = cache(tmp_path / "cache", max_gb=max_gb)
    whole.fill(paths)
    expected = [whole.read(path).copy() for path in paths]
    if cut == "pixels":
        os.truncate(whole._pixel_file, whole._pixel_file.stat().st_size - 100)
    else:
        text = whole._index_file.read_text()
        whole._index_file.write_text(text[:-10] if cut == "index" else text[: len(text) // 2] + "\nnonsense\n")
    again = cache(tmp_path / "cache", max_gb=max_gb)
    again.fill(paths)
    for path, image in zip(paths, expected, strict=True):
        assert np.array_equal(again.read(path), image)
    monkeypatch.setattr(pixel_cache, "decode", lambda *_, **__: pytest.fail("decoded again"))
    cache(tmp_path / "cache", max_gb=max_gb).fill(paths)


def test_changed_file_is_another_image(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    made = cache(tmp_path / "cache")
    made.fill(paths)
    Image.new("RGB", (70, 70), (1, 2, 3)).save(paths[0])
    assert made.read(paths[0])[0, 0].tolist() == [1, 2, 3]


def test_another_file_of_the_same_size_is_another_image(tmp_path: Path) -> None:
    path, made = tmp_path / "a.bmp", cache(tmp_path / "cache")
    for value in (10, 200):
        Image.new("RGB", (8, 8), (value, 0, 0)).save(path)
        os.utime(path, (value, value))
        made.fill([path])
        assert made.read(path)[0, 0].tolist() == [value, 0, 0]


def test_caches_of_other_settings_share_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((40, 40), 4095, np.uint16)).save(path)
    for short_px, bounds, value in ((30, (0, 65535), 16), (30, (0, 4095), 255), (20, (0, 4095), 255)):
        made = PixelCache(tmp_path / "cache", short_px=short_px, spec=DecodeSpec(range_16bit=bounds), max_gb=1.0)
        made.fill([path])
        assert made.read(path).shape == (short_px, short_px, 3)
        assert (made.read(path) == value).all()


def test_unreadable_files_are_named_and_the_limit_holds(tmp_path: Path) -> None:
    paths = images(tmp_path / "in")
    paths[1].write_bytes(b"nothing")
    made = cache(tmp_path / "cache", max_gb=1e-5)
    assert [error.path for error in made.fill(paths)] == [str(paths[1])]
    assert made._pixel_file.stat().st_size <= 10_000
    assert made.read(paths[4]).shape[0] == 30
