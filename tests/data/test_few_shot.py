import itertools
import random
from collections import Counter
from pathlib import Path

import pytest

from pangu_cv.data.few_shot import draw, draw_split, holdout
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError

ROOT = Path("/data")


def samples(root: Path = ROOT, groups: int = 0, **counts: int) -> list[Sample]:
    return [
        Sample(root / label / f"{at}.png", label, group=f"g{at % groups}" if groups else None)
        for label, count in counts.items()
        for at in range(count)
    ]


def names(drawn: tuple[Sample, ...]) -> list[str]:
    return [f"{s.path.parent.name}/{s.path.name}" for s in drawn]


def test_draws_are_these_on_every_machine() -> None:
    assert names(draw(samples(a=20, b=20), shots=3, seed=0)) == [
        "a/2.png",
        "a/14.png",
        "a/16.png",
        "b/4.png",
        "b/9.png",
        "b/8.png",
    ]


def test_draw_ignores_order_root_and_other_classes() -> None:
    whole = samples(a=20, b=20, c=9)
    shuffled = random.Random(1).sample(whole, len(whole))
    first = names(draw(whole, shots=5, seed=7))
    assert names(draw(shuffled, shots=5, seed=7)) == first
    assert names(draw(samples(Path("/other/place"), a=20, b=20, c=9), shots=5, seed=7)) == first
    assert names(draw(samples(b=20), shots=5, seed=7)) == first[5:10]
    assert names(draw(whole, shots=5, seed=8)) != first


def test_fewer_shots_are_part_of_more() -> None:
    for groups in (0, 4):
        whole = samples(a=20, groups=groups)
        drawn = [draw(whole, shots=k, seed=3) for k in range(1, 21)]
        assert all(more[: len(less)] == less for less, more in itertools.pairwise(drawn))
        assert len(set(drawn[-1])) == 20


def test_none_means_all_and_unlabelled_are_passed_over() -> None:
    whole = [*samples(b=2, a=3), Sample(ROOT / "x.png")]
    assert [s.label for s in draw(whole, shots=None, seed=0)] == ["a"] * 3 + ["b"] * 2
    assert len(draw_split(whole, shots=2, seed=0).rest) == 2


def test_too_few() -> None:
    with pytest.raises(DataError, match=r"5 shots per class asked, but 'a' has 2, 'c' has 4; label more"):
        draw(samples(a=2, b=9, c=4), shots=5, seed=0)
    with pytest.raises(DataError, match="no sample has a label"):
        draw([Sample(ROOT / "x.png")], shots=1, seed=0)
    with pytest.raises(DataError, match="at least 1"):
        draw(samples(a=2), shots=0, seed=0)
    with pytest.raises(DataError, match="seed"):
        draw(samples(a=2), shots=1, seed=-1)


def test_groups_are_spread_and_never_straddle() -> None:
    whole = samples(a=20, b=20, groups=5)
    drawn = draw_split(whole, shots=3, seed=0)
    for label in "ab":
        assert len({s.group for s in drawn.support if s.label == label}) == 3
    assert {s.group for s in drawn.support}.isdisjoint(s.group for s in drawn.rest)
    assert {*drawn.support, *drawn.rest, *drawn.dropped} == set(whole)
    assert len(drawn.support) + len(drawn.rest) + len(drawn.dropped) == 40


def test_more_shots_than_groups_take_seconds_evenly() -> None:
    drawn = draw(samples(a=20, groups=5), shots=7, seed=0)
    assert sorted(Counter(s.group for s in drawn).values()) == [1, 1, 1, 2, 2]


def test_holdout_is_stratified_and_repeatable() -> None:
    whole = samples(a=100, b=10, c=2, d=1)
    parts = holdout(whole, fraction=0.2, seed=0)
    assert Counter(s.label for s in parts.held_out) == {"a": 20, "b": 2, "c": 1}
    assert {*parts.kept, *parts.held_out} == set(whole)
    assert holdout(whole[::-1], fraction=0.2, seed=0) == parts
    assert holdout(whole, fraction=0.2, seed=1) != parts


@pytest.mark.parametrize("seed", range(5))
def test_holdout_keeps_groups_whole(seed: int) -> None:
    whole = samples(a=60, b=30, groups=10)
    parts = holdout(whole, fraction=0.3, seed=seed)
    assert {s.group for s in parts.kept}.isdisjoint(s.group for s in parts.held_out)
    assert Counter(s.label for s in parts.held_out) == {"a": 18, "b": 9}


def test_holdout_never_takes_the_last_of_a_class() -> None:
    parts = holdout(samples(a=6, groups=1), fraction=0.5, seed=0)
    assert parts.held_out == ()
    with pytest.raises(DataError, match="between 0 and 1"):
        holdout(samples(a=6), fraction=1.0, seed=0)


@pytest.mark.parametrize("seed", range(5))
def test_holdout_never_takes_the_last_of_another_class_along(seed: int) -> None:
    """Nearly all of one class stand in groups with all of another."""
    mixed = [Sample(ROOT / f"m{at}.png", label, group="m") for at, label in enumerate("aaabb")]
    parts = holdout([*mixed, *samples(a=7)], fraction=0.5, seed=seed)
    assert {s.label for s in parts.held_out} == {"a"}
    assert "b" in {s.label for s in parts.kept}
