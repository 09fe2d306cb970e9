from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pangu_cv.data.pixel_cache import PixelCache
from pangu_cv.errors import DataError
from pangu_cv.pretrain import batches, loop
from pangu_cv.pretrain.batches import Feed, Schedule
from pangu_cv.pretrain.images import Images, SourceConfig, gather
from pangu_cv.pretrain.relations import UNKNOWN
from pangu_cv.pretrain.views import ViewsConfig
from pangu_runtime.decode import DecodeSpec
from tests.pretrain import small

NONE = np.zeros((60, 0), np.int64)


def table(*sizes: int) -> Images:
    source = np.repeat(np.arange(len(sizes)), sizes)
    unknown = np.full(len(source), UNKNOWN)
    paths = tuple(Path(str(n)) for n in range(len(source)))
    return Images(paths, source, unknown, unknown, (), (), np.zeros(0, np.int64))


def test_every_image_comes_once_before_any_comes_again() -> None:
    schedule = Schedule(table(60), weights=[1], batch=8, steps=100, seed=0)
    seen = np.concatenate([schedule.images(step, NONE, neighbour_share=0.5) for step in range(7)])
    assert len(set(seen.tolist())) == 56


def test_a_batch_is_of_one_dataset_without_repeats() -> None:
    images = table(40, 15, 5)
    schedule = Schedule(images, weights=[1, 1, 1], batch=8, steps=60, seed=3)
    sizes = {0: 8, 1: 8, 2: 5}
    for step in range(60):
        chosen = schedule.images(step, NONE, neighbour_share=0)
        assert set(images.source_M[chosen]) == {schedule.source(step)}
        assert len(set(chosen.tolist())) == len(chosen) == sizes[schedule.source(step)]
    assert {schedule.source(step) for step in range(60)} == {0, 1, 2}


def test_datasets_of_one_image_each_have_no_pairs() -> None:
    with pytest.raises(DataError, match="no dataset holds two images to learn from"):
        Schedule(table(1, 1), weights=[1, 1], batch=4, steps=2, seed=0)


def test_a_step_is_the_same_whatever_came_before() -> None:
    first = Schedule(table(30, 30), weights=[1, 2], batch=8, steps=20, seed=1)
    again = Schedule(table(30, 30), weights=[1, 2], batch=8, steps=20, seed=1)
    for step in range(12):
        first.images(step, NONE, neighbour_share=0)
    assert np.array_equal(first.images(15, NONE, neighbour_share=0), again.images(15, NONE, neighbour_share=0))


def test_neighbours_are_brought_along() -> None:
    near = ((np.arange(60) + 30) % 60)[:, None]
    schedule = Schedule(table(60), weights=[1], batch=16, steps=10, seed=0)
    chosen = set(schedule.images(0, near, neighbour_share=0.5).tolist())
    assert sum((number + 30) % 60 in chosen for number in chosen) >= 14
    alone = set(schedule.images(0, NONE, neighbour_share=0.5).tolist())
    assert sum((number + 30) % 60 in alone for number in alone) < 14


def test_a_batch_that_is_full_draws_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = batches._any_of
    monkeypatch.setattr(batches, "_any_of", lambda *given: (drawn.append(1), real(*given))[1])
    schedule = Schedule(table(60), weights=[1], batch=16, steps=10, seed=0)
    partner = ((np.arange(60) + 30) % 60)[:, None]
    for near, share in ((NONE, 0.5), (partner, 0.0)):
        schedule.images(0, near, neighbour_share=share)
    assert not drawn
    unknown = np.full((60, 1), UNKNOWN)
    assert len(set(schedule.images(0, unknown, neighbour_share=0.5).tolist())) == 16
    assert len(drawn) == 1


def test_a_large_dataset_is_not_permuted_to_fill_a_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    images = table(20, 60)
    schedule = Schedule(images, weights=[1, 1], batch=16, steps=40, seed=0)
    unknown = np.full((80, 1), UNKNOWN)
    before = [schedule.images(step, unknown, neighbour_share=0.5).tolist() for step in range(40)]
    monkeypatch.setattr(batches, "MOST", 40)
    for step, chosen in enumerate(before):
        found = schedule.images(step, unknown, neighbour_share=0.5)
        assert len(set(found.tolist())) == 16
        assert set(images.source_M[found]) == {schedule.source(step)}
        assert (found.tolist() == chosen) == (schedule.source(step) == 0)


def test_hosts_are_the_images_of_a_batch_that_come_in_turn() -> None:
    near = ((np.arange(60) + 30) % 60)[:, None]
    schedule = Schedule(table(60), weights=[1], batch=16, steps=10, seed=0)
    for step in range(10):
        hosts = schedule.hosts(step, neighbour_share=0.5)
        assert len(hosts) == 8
        assert set(hosts) <= set(schedule.images(step, near, neighbour_share=0.5))


@pytest.fixture
def feed(tmp_path: Path) -> Feed:
    images = gather([SourceConfig(path=small.images(tmp_path / "data"), labels=1.0)], seed=0, text_template=None)
    cache = PixelCache(tmp_path / "cache", short_px=80, spec=DecodeSpec(), max_gb=1)
    cache.fill(images.paths)
    schedule = Schedule(images, weights=[1], batch=8, steps=6, seed=0)
    return Feed(images, cache, ViewsConfig(image_px=48, local_views=2, local_px=32), schedule, 0.0, workers=0)


def near(feed: Feed) -> torch.Tensor:
    return torch.full((len(feed.images.paths), 1), UNKNOWN)


def test_batches_have_views_and_facts(feed: Feed) -> None:
    (found,) = feed.batches(0, 1, near(feed))
    assert found.inputs.shape == found.clean.shape == (8, 2, 48, 48, 3)
    assert found.local.shape == (8, 2, 32, 32, 3)
    assert found.inputs.dtype == torch.uint8
    labels = torch.from_numpy(feed.images.label_M)[found.facts.image_N]
    assert torch.equal(found.facts.label_N, labels)
    assert set(labels.tolist()) <= {0, 1}


def test_steps_are_drawn_as_they_come(feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    real = Schedule.images
    monkeypatch.setattr(
        Schedule, "images", lambda own, step, *a, **k: (drawn.append(step), real(own, step, *a, **k))[1]
    )
    next(iter(feed.batches(0, 6, near(feed))))
    assert drawn == [0]


def test_batches_from_the_middle_are_those_of_a_whole_run(feed: Feed) -> None:
    whole = list(feed.batches(0, 4, near(feed)))
    rest = list(feed.batches(2, 4, near(feed)))
    for one, other in zip(whole[2:], rest, strict=True):
        assert torch.equal(one.inputs, other.inputs)
        assert torch.equal(one.seed_B, other.seed_B)


def test_processes_share_a_batch(feed: Feed) -> None:
    (whole,) = feed.batches(1, 2, near(feed))
    parts = []
    for rank in range(2):
        own = Feed(feed.images, feed.cache, feed.views, feed.schedule, 0.0, 0, rank=rank, world=2)
        parts += list(own.batches(1, 2, near(feed)))
    assert torch.equal(whole.facts.image_N[0::2], parts[0].facts.image_N)
    assert torch.equal(whole.inputs[1::2], parts[1].inputs)


@pytest.mark.parametrize("world", [1, 2])
def test_a_batch_that_is_cut_keeps_neighbours_in_one_part(feed: Feed, world: int) -> None:
    """Four sets of near images, so that every image in turn finds one to bring along, and what it brings has it."""
    near_MK = (torch.arange(24)[:, None] + torch.tensor([6, 12, 18])) % 24
    for step in range(6):
        parts: list[set[int]] = [set(), set()]
        for rank in range(world):
            own = replace(feed, neighbour_share=0.5, rank=rank, world=world)
            (batch,) = own.batches(step, step + 1, near_MK)
            for part, piece in zip(parts, loop._pieces(batch, 2), strict=True):
                part.update(piece.facts.image_N.tolist())
        assert [len(part) for part in parts] == [4, 4]
        assert all(part & set(near_MK[number].tolist()) for part in parts for number in part)


def test_worker_processes_change_nothing(feed: Feed) -> None:
    (here,) = feed.batches(0, 1, near(feed))
    with_worker = Feed(feed.images, feed.cache, feed.views, feed.schedule, 0.0, 1)
    (there,) = with_worker.batches(0, 1, near(feed))
    assert torch.equal(here.inputs, there.inputs)
