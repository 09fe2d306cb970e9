"""Pools: embedded once, resumed, and compared in one space."""

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pangu_cv.errors import DataError
from pangu_cv.iterate.pool import Pool, Sight, embed, embed_pool, kept_home, unusual
from pangu_cv.iterate.pool.neighbours import Neighbours
from pangu_cv.iterate.pool.space import Space
from pangu_cv.iterate.pool.unusual import References
from pangu_cv.iterate.pool.vector_store import StoredImage, VectorStore
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig


@pytest.fixture(scope="module")
def sight() -> Sight:
    network = BackboneConfig(name="test_vit", weights="random", levels=(2, 3, 4))
    return Sight(network, PreprocessConfig(image_px=64))


def pictures(folder: Path, count: int) -> list[Path]:
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(count):
        pixels = rng.integers(90, 130, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def test_a_pool_is_embedded_once_and_only_what_changed_again(sight: Sight, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 6)
    first = embed_pool(images, sight, folder=tmp_path / "store")
    again = embed_pool(images, sight, folder=tmp_path / "store")
    assert (first.embedded, again.embedded) == (6, 0)
    np.testing.assert_array_equal(first.features_NK, again.features_NK)
    Image.new("RGB", (50, 50), (255, 0, 0)).save(images[2])
    changed = embed_pool(images, sight, folder=tmp_path / "store")
    assert changed.embedded == 1
    assert changed.odd_N.argmax() == 2  # a red image among grey ones
    assert changed.digests[2] != first.digests[2]


def test_unreadable_images_are_named_and_the_others_kept(sight: Sight, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 3)
    images[1].write_bytes(b"no image")
    pool = embed_pool([*images, tmp_path / "gone.png"], sight, folder=tmp_path / "store")
    assert pool.images == (images[0], images[2])
    assert [skipped.path for skipped in pool.skipped] == [images[1], tmp_path / "gone.png"]
    images[2].write_bytes(b"overwritten since")  # what it showed before does not count any more
    assert embed_pool(images, sight, folder=tmp_path / "store").images == (images[0],)
    with pytest.raises(DataError, match="none of the images can be read"):
        embed_pool([images[1]], sight, folder=tmp_path / "other")


def test_what_a_crash_left_is_cut_off_and_the_rest_counts(tmp_path: Path) -> None:
    with VectorStore(tmp_path, width=3) as store:
        store.append([StoredImage("a", 1, 2, "x", 0.5), StoredImage("b", 1, 2, "y", 0.5)], np.ones((2, 3)))
    with (tmp_path / "vectors.f16").open("ab") as stream:
        stream.write(b"12345")  # half a row
    with (tmp_path / "rows.jsonl").open("a") as lines:
        lines.write('["c", 1,')
    with VectorStore(tmp_path, width=3) as store:
        assert [image.path for image in store.images] == ["a", "b"]
        store.append([StoredImage("c", 1, 2, "z", 0.5)], np.full((1, 3), 7))
        np.testing.assert_array_equal(store.vectors()[2], [7, 7, 7])
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("left", [b"", b"neither", b"PK", None])
def test_lost_references_are_named_and_nothing_is_scored_by_others(
    left: bytes | None, sight: Sight, tmp_path: Path
) -> None:
    images = pictures(tmp_path / "images", 3)
    embed_pool(images, sight, folder=tmp_path / "store")
    (file,) = (tmp_path / "store").glob("*/references.npz")
    file.unlink() if left is None else file.write_bytes(file.read_bytes()[:200] if left == b"PK" else left)
    with pytest.raises(DataError, match=r"references\.npz: is not as it was written .*; remove the folder"):
        embed_pool(images, sight, folder=tmp_path / "store")
    shutil.rmtree(file.parent)
    assert embed_pool(images, sight, folder=tmp_path / "store").embedded == 3


def test_references_survive_power_loss(sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synced = os.fsync, []
    monkeypatch.setattr(os, "fsync", lambda stream: (synced.append(os.fstat(stream).st_ino), real(stream))[1])
    embed_pool(pictures(tmp_path / "images", 3), sight, folder=tmp_path / "store")
    (file,) = (tmp_path / "store").glob("*/references.npz")
    assert file.stat().st_ino in synced


def test_rows_count_once_their_vectors_survive_power_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with VectorStore(tmp_path, width=3) as store, pytest.raises(OSError, match="No space left"):
        store.append([StoredImage("a", 1, 2, "x", 0.5)], np.ones((1, 3)))
    assert (tmp_path / "rows.jsonl").read_bytes() == b""


def test_one_writes_at_a_time(tmp_path: Path) -> None:
    with VectorStore(tmp_path, width=3), pytest.raises(DataError, match="another process embeds"):
        VectorStore(tmp_path, width=3)
    with VectorStore(tmp_path, width=3) as store:
        assert len(store) == 0


def test_a_patch_that_a_few_others_hold_is_usual() -> None:
    torch.manual_seed(0)
    usual = torch.nn.functional.normalize(torch.randn(8, 1, 16).expand(8, 30, 16) * 0 + torch.randn(30, 16), dim=-1)
    odd = usual[0].clone()
    odd[7] = -odd[7]
    references = References(usual, [str(number) for number in range(8)])
    found = references(torch.stack([usual[0], odd]), ["0", "new"])
    assert found.scores_B[0] < 0.01 < 0.5 < found.scores_B[1]
    torch.testing.assert_close(found.looks_BF[1], odd[7])


def test_an_image_is_not_compared_with_itself() -> None:
    patches = torch.nn.functional.normalize(torch.randn(2, 30, 16), dim=-1)
    references = References(patches, ["a", "b"])
    itself, stranger = references(patches[[0, 0]], ["a", "c"]).scores_B
    assert itself > 0.1
    assert stranger < itself


def test_few_patches_meet_all_references_and_the_oddest_is_among_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies far away in the first references and near in later ones is usual; own patches are never met."""
    generator = torch.Generator().manual_seed(0)
    kinds = torch.nn.functional.normalize(torch.randn(40, 16, generator=generator), dim=-1)
    patches = kinds[torch.randint(0, 20, (24, 30), generator=generator)]
    patches[12:, 0] = kinds[20]  # usual among later references alone
    images = patches[[3, 20, 12]].clone()
    images[1, 5] = kinds[30]
    names = [str(number) for number in range(24)]
    monkeypatch.setattr(unusual, "_FIRST", 24)
    exact = References(patches, names)(images, ["3", "20", "new"])
    monkeypatch.setattr(unusual, "_FIRST", 8)
    found = References(patches, names)(images, ["3", "20", "new"])
    torch.testing.assert_close(found.scores_B, exact.scores_B, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.looks_BF[1], kinds[30])
    assert found.scores_B.argmax() == 1
    assert found.scores_B[2] < found.scores_B[1] / 2


@pytest.mark.parametrize("count", [20, 60])
def test_the_space_keeps_distances_whichever_way_it_is_found(count: int) -> None:
    """Fewer images than numbers, and more."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, 30)).astype(np.float16)
    space = Space.fit(vectors, np.arange(count), (10, 20))
    unit, found = space.unit(vectors), space.project(vectors)
    np.testing.assert_allclose(np.linalg.norm(unit, axis=1), 1, atol=1e-6)
    expected = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    np.testing.assert_allclose(np.linalg.norm(found[:, None] - found[None], axis=-1), expected, atol=1e-3)


def test_neighbours_are_the_nearest_and_never_itself() -> None:
    features = np.random.default_rng(0).normal(size=(50, 8)).astype(np.float32)
    near = Neighbours(features).among(np.arange(50), count=3)
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -2)
    np.testing.assert_array_equal(near.places_Qn, np.argsort(-cosine, axis=1)[:, :3])


def test_many_vectors_are_searched_by_codes() -> None:
    features = np.random.default_rng(0).normal(size=(21_000, 8)).astype(np.float32)
    found = Neighbours(features).of(features[:100], count=1)
    assert (found.places_Qn[:, 0] == np.arange(100)).mean() > 0.9


def test_pools_hold_what_the_network_said(sight: Sight, tmp_path: Path) -> None:
    images = pictures(tmp_path / "images", 3)
    pool: Pool = embed_pool(images, sight, folder=tmp_path / "store")
    pixels = torch.from_numpy(np.array(Image.open(images[1])))[None]
    expected = sight(sight.prepare(pixels)).vectors_BD[0].numpy()
    np.testing.assert_allclose(pool.raw([1])[0], expected, rtol=2e-3, atol=2e-3)


def test_what_is_usual_here_is_not_asked_of_other_images(
    sight: Sight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two folders in one cache: each is compared with its own references."""
    monkeypatch.setenv("PANGU_CV_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embed, "REFERENCES", 2)
    folders = [tmp_path / name for name in ("one", "other")]
    for number, folder in enumerate(folders):
        folder.mkdir()
        for name in range(3):
            tone = np.random.default_rng([number, name]).integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(tone).save(folder / f"{name}.png")
    assert kept_home(folders[0]) == kept_home(folders[0].parent / "other" / ".." / "one")
    alone = embed_pool(sorted(folders[1].iterdir()), sight, folder=tmp_path / "alone")
    for folder in folders:
        found = embed_pool(sorted(folder.iterdir()), sight, folder=kept_home(folder))
    np.testing.assert_allclose(found.odd_N, alone.odd_N, rtol=1e-5)
