"""Of more images than a round can compare it compares a sample, in which those that it shows have their neighbours."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pangu_cv.models import checkpoint
from pangu_cv.pretrain import loop, neighbours, pictures, pretrain
from pangu_cv.pretrain.batches import Feed
from pangu_cv.pretrain.neighbours import IntArray
from pangu_cv.pretrain.relations import UNKNOWN
from tests.pretrain import small

MOST = 16
CHANGES: dict[str, Any] = {"targets": [], "optim": {"steps": 6, "batch": 8, "lr": 1e-3}, "round_steps": 2}


def objective(**of_neighbours: object) -> dict[str, Any]:
    return {"objective": {"kind": "joint", "embedding": 16, "neighbours": of_neighbours}}


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The numbers that were embedded, call by call."""
    monkeypatch.setattr(neighbours, "MOST", MOST)
    found: list[list[int]] = []
    real = loop.embed

    def spy(parts: loop.Parts, numbers_P: IntArray) -> torch.Tensor:
        found.append(numbers_P.tolist())
        return real(parts, numbers_P)

    monkeypatch.setattr(loop, "embed", spy)
    monkeypatch.setattr(pictures, "embed", spy)
    return found


def test_images_of_the_round_have_neighbours_and_no_more_than_the_sample_is_embedded(
    embedded: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, guests = Feed.batches, 0

    def spy(feed: Feed, first: int, end: int, near_MK: torch.Tensor) -> Any:
        nonlocal guests
        has_M = (near_MK != UNKNOWN).any(1)
        assert has_M[feed.hosts(first, end)].all()
        assert np.flatnonzero(has_M).tolist() == embedded[-1]
        for batch in real(feed, first, end, near_MK):
            shown = batch.facts.image_N
            assert set(shown[0::2].tolist()) <= set(feed.hosts(first, end).tolist())
            guests += int((batch.facts.near_NK[0::2] == shown[1::2, None]).any(1).sum())
            yield batch

    monkeypatch.setattr(Feed, "batches", spy)
    pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run", **CHANGES, **objective(mutual=False)))
    assert [len(numbers) for numbers in embedded] == [MOST] * 4  # three rounds and the report
    assert len({tuple(numbers) for numbers in embedded}) == 4
    assert guests == 6 * 4


def test_up_to_the_limit_all_are_embedded(embedded: list[list[int]], tmp_path: Path) -> None:
    data = small.images(tmp_path / "data", count=MOST // 2)
    pretrain(small.recipe(data, tmp_path / "run", **CHANGES, **objective()))
    assert embedded == [list(range(MOST))] * 4


def test_a_killed_run_ends_like_an_unbroken_one(
    embedded: list[list[int]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = small.images(tmp_path / "data")
    pretrain(small.recipe(data, tmp_path / "unbroken", **CHANGES, **objective(mutual=False)))
    samples = embedded[:3]
    small.dies_at(monkeypatch, 4)
    with pytest.raises(KeyboardInterrupt):
        pretrain(small.recipe(data, tmp_path / "killed", **CHANGES, **objective(mutual=False)))
    embedded.clear()
    pretrain(small.recipe(data, tmp_path / "killed", **CHANGES, **objective(mutual=False)))
    assert embedded[:2] == samples[1:]
    expected, found = (checkpoint.load(tmp_path / run / "model").components for run in ("unbroken", "killed"))
    for name, tensor in expected["backbone"].items():
        assert torch.equal(found["backbone"][name], tensor), name
