import os
import tracemalloc
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from pangu_cv.features import Extraction, FeatureStore, Skipped, digest, extract, read_ahead
from pangu_runtime.decode import DecodeSpec
from pangu_runtime.errors import ImageError
from tests.finetune.tiny import COLOURS, picture, save

SPEC = DecodeSpec()


class Counting:
    """An embedder whose vector is the picture's mean, that counts what it is asked."""

    def __init__(self, *, dies_after: int | None = None) -> None:
        self.calls: Counter[str] = Counter()
        self.dies_after = dies_after

    @property
    def fingerprint(self) -> str:
        return "counting"

    def prepare(self, image_1HW3: Tensor) -> Tensor:
        return image_1HW3.permute(0, 3, 1, 2).float()

    def embed(self, prepared_B3SS: Tensor, view: str) -> Tensor:
        self.calls[view] += len(prepared_B3SS)
        if self.dies_after is not None and sum(self.calls.values()) > self.dies_after:
            raise KeyboardInterrupt
        return prepared_B3SS.mean((2, 3)) * (2 if view == "double" else 1)


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    return [save(tmp_path / "images" / f"{n:02d}.png", picture(COLOURS["red"], n)) for n in range(10)]


def run(
    paths: list[Path],
    store: FeatureStore,
    embedder: Counting,
    *,
    spec: DecodeSpec = SPEC,
    views: str = "identity double",
) -> Extraction:
    return extract(paths, embedder, views=views.split(), store=store, decode_spec=spec)


def test_every_image_and_view_is_embedded_once(paths: list[Path], tmp_path: Path) -> None:
    embedder, store = Counting(), FeatureStore(tmp_path / "cache", "f")
    found = run(paths, store, embedder)
    assert embedder.calls == {"identity": 10, "double": 10}
    assert found.features_NVD.shape == (10, 2, 3)
    assert found.embedded == 20
    row = found.features_NVD[found.index[paths[3]]]
    np.testing.assert_allclose(row[0], picture(COLOURS["red"], 3).mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(row[1], 2 * row[0], rtol=1e-5)
    again = run(paths, store, embedder)
    assert (again.embedded, embedder.calls["identity"]) == (0, 10)


def test_second_run_embeds_nothing_and_finds_the_same(paths: list[Path], tmp_path: Path) -> None:
    first = run(paths, FeatureStore(tmp_path / "cache", "f"), Counting())
    embedder = Counting()
    second = run(paths[::-1], FeatureStore(tmp_path / "cache", "f"), embedder)
    assert embedder.calls == {}
    np.testing.assert_array_equal(second.features_NVD[::-1], first.features_NVD)


def test_new_view_costs_only_itself(paths: list[Path], tmp_path: Path) -> None:
    run(paths, FeatureStore(tmp_path / "cache", "f"), Counting(), views="identity")
    embedder = Counting()
    run(paths, FeatureStore(tmp_path / "cache", "f"), embedder)
    assert embedder.calls == {"double": 10}


def test_killed_run_goes_on_where_it_was(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.features.BATCH", 4)
    with pytest.raises(KeyboardInterrupt):
        run(paths, FeatureStore(tmp_path / "cache", "f"), Counting(dies_after=6), views="identity")
    assert list((tmp_path / "cache" / "f").glob("*.npz"))
    embedder = Counting()
    found = run(paths, FeatureStore(tmp_path / "cache", "f"), embedder, views="identity")
    assert embedder.calls == {"identity": 6}
    assert found.features_NVD.shape == (10, 1, 3)


def test_shards_are_flushed_on_the_way(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.features.SHARD_IMAGES", 3)
    store = FeatureStore(tmp_path, "f")
    for number in range(7):
        store.put(str(number), np.zeros(2, np.float32))
    assert len(list((tmp_path / "f").glob("*.npz"))) == 2  # a kill -9 here loses one vector, not seven
    store.flush()
    assert len(list((tmp_path / "f").iterdir())) == 3


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "text", "other arrays"])
def test_damaged_shard_is_a_smaller_cache(paths: list[Path], tmp_path: Path, damage: str) -> None:
    run(paths, FeatureStore(tmp_path / "cache", "f"), Counting(), views="identity")
    (shard,) = (tmp_path / "cache" / "f").glob("*.npz")
    data = shard.read_bytes()
    if damage == "other arrays":
        np.savez(shard, something=np.zeros(3))
    else:
        flipped = data[:200] + bytes([data[200] ^ 255]) + data[201:]
        shard.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "flipped": flipped, "text": b"no"}[damage])
    embedder = Counting()
    found = run(paths, FeatureStore(tmp_path / "cache", "f"), embedder, views="identity")
    assert embedder.calls == {"identity": 10}
    assert len(found.index) == 10


def test_shard_that_cannot_be_opened_now_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path, "f")
    store.put("a", np.ones(2, np.float32))
    store.flush()

    def refuse(*_: object) -> None:
        raise OSError(24, "Too many open files")

    opened = FeatureStore(tmp_path, "f")
    monkeypatch.setattr(Path, "open", refuse)
    assert "a" not in opened
    assert "a" not in FeatureStore(tmp_path, "f")
    monkeypatch.undo()
    assert FeatureStore(tmp_path, "f")["a"].tolist() == [1, 1]


def test_opening_reads_keys_and_asking_reads_the_shard_of_a_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pangu_cv.features.SHARD_IMAGES", 4)
    store = FeatureStore(tmp_path, "f")
    for number in range(12):
        store.put(str(number), np.full(100_000, number, np.float32))
    tracemalloc.start()
    opened = FeatureStore(tmp_path, "f")
    assert tracemalloc.get_traced_memory()[1] < 400_000  # of a vector
    assert opened["5"][0] == 5
    assert "6" in opened
    assert tracemalloc.get_traced_memory()[0] < 2 * 1_600_000  # of a shard
    tracemalloc.stop()
    assert "12" not in opened
    with pytest.raises(KeyError):
        opened["12"]


def test_shard_whose_vectors_are_damaged_is_found_out_when_asked(tmp_path: Path) -> None:
    (tmp_path / "f").mkdir()
    np.savez(tmp_path / "f" / "x.npz", keys=np.array(["a", "b"]), vectors=np.zeros((1, 3), np.float32))
    assert "a" not in FeatureStore(tmp_path, "f")
    assert not list((tmp_path / "f").iterdir())


def test_shard_with_a_pickle_is_never_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "sprung"),)

    (tmp_path / "f").mkdir()
    np.savez(tmp_path / "f" / "x.npz", keys=np.array(["a"]), vectors=np.array([Trap()], dtype=object))
    assert "a" not in FeatureStore(tmp_path, "f")
    assert not (tmp_path / "sprung").exists()


def test_half_written_shard_is_not_seen(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="No space"):
        run(paths, FeatureStore(tmp_path / "cache", "f"), Counting(), views="identity")
    monkeypatch.undo()
    assert not list((tmp_path / "cache" / "f").glob("*.npz"))
    run(paths, FeatureStore(tmp_path / "cache", "f"), Counting(), views="identity")
    (shard,) = (tmp_path / "cache" / "f").glob("*.npz")
    assert zipfile.is_zipfile(shard)


def test_key_depends_on_content_not_on_name(paths: list[Path], tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "cache", "f")
    run(paths, store, Counting())
    moved = tmp_path / "elsewhere.png"
    moved.write_bytes(paths[0].read_bytes())
    assert run([moved], store, Counting()).embedded == 0
    save(moved, picture(COLOURS["blue"], 99))
    assert run([moved], store, Counting()).embedded == 2


def test_key_depends_on_how_files_are_decoded(paths: list[Path], tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "cache", "f")
    run(paths, store, Counting())
    assert run(paths, store, Counting(), spec=DecodeSpec(range_16bit=(0, 4095))).embedded == 20


def test_stores_of_other_weights_are_apart(paths: list[Path], tmp_path: Path) -> None:
    run(paths, FeatureStore(tmp_path / "cache", "one"), Counting())
    assert run(paths, FeatureStore(tmp_path / "cache", "two"), Counting()).embedded == 20


def test_unreadable_images_are_named_and_the_rest_goes_on(paths: list[Path], tmp_path: Path) -> None:
    bad, missing = tmp_path / "bad.png", tmp_path / "missing.png"
    bad.write_bytes(paths[0].read_bytes()[:60])
    found = run([paths[0], bad, missing, paths[1], bad], FeatureStore(None, "f"), Counting())
    assert [(s.path, s.reason) for s in found.skipped][:2] == [(bad, "truncated"), (missing, "missing")]
    assert isinstance(found.skipped[0], Skipped)
    assert set(found.index) == {paths[0], paths[1]}
    assert found.features_NVD.shape == (2, 2, 3)


def test_last_image_unreadable_loses_nothing(paths: list[Path], tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    assert len(run([*paths[:3], bad], FeatureStore(None, "f"), Counting()).index) == 3


def test_nothing_readable_gives_nothing(tmp_path: Path) -> None:
    assert run([], FeatureStore(None, "f"), Counting()).features_NVD.shape[0] == 0
    assert run([tmp_path / "no.png"], FeatureStore(None, "f"), Counting()).index == {}


def test_identical_files_are_embedded_once(paths: list[Path], tmp_path: Path) -> None:
    twin = tmp_path / "twin.png"
    twin.write_bytes(paths[0].read_bytes())
    embedder = Counting()
    found = run([paths[0], twin], FeatureStore(None, "f"), embedder, views="identity")
    np.testing.assert_array_equal(*found.features_NVD)
    assert embedder.calls == {"identity": 1}


def test_store_in_memory_writes_nothing(paths: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    run(paths, FeatureStore(None, "f"), Counting())
    assert sorted(tmp_path.rglob("*")) == before


def test_batches_are_full_and_progress_reaches_the_end(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.features.BATCH", 4)
    seen: list[tuple[int, int]] = []
    extract(
        paths,
        Counting(),
        views=["identity"],
        store=FeatureStore(None, "f"),
        decode_spec=SPEC,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(n, 10) for n in range(1, 11)]


def test_read_ahead_keeps_order_and_holds_few(paths: list[Path]) -> None:
    started: list[Path] = []

    def read(path: Path) -> str:
        started.append(path)
        if path == paths[2]:
            raise ImageError(path, "truncated", "cut off")
        return path.name

    reader = read_ahead(paths * 20, read, workers=1)
    first = [next(reader) for _ in range(4)]
    assert first[:2] == ["00.png", "01.png"]
    assert isinstance(first[2], ImageError)
    assert len(started) < 20
    assert len(list(reader)) == len(paths) * 20 - 4


def test_read_ahead_passes_on_bugs(paths: list[Path]) -> None:
    def read(path: Path) -> str:
        raise RuntimeError("a bug of ours")

    with pytest.raises(RuntimeError, match="a bug of ours"):
        list(read_ahead(paths, read))


def test_digest_depends_on_every_part_and_not_on_the_order_of_keys() -> None:
    assert digest(1, {"a": 1, "b": 2}) == digest(1, {"b": 2, "a": 1})
    assert digest(1, "a") != digest("a", 1) != digest(1, "b")


def test_embedding_is_done_without_gradients(paths: list[Path]) -> None:
    class Asking(Counting):
        def embed(self, prepared_B3SS: Tensor, view: str) -> Tensor:
            assert torch.is_inference_mode_enabled()
            return super().embed(prepared_B3SS, view)

    run(paths, FeatureStore(None, "f"), Asking())
