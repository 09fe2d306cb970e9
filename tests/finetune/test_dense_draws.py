from pathlib import Path

import pytest

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.finetune.dense_draws import draw_dense, notes_of
from pangu_cv.finetune.draws import draw_support
from tests.finetune.test_draws import boxes


def normals(*groups: str | None) -> list[Sample]:
    return [Sample(Path(f"/d/good{at}.png"), label="good", group=group) for at, group in enumerate(groups)]


@pytest.mark.parametrize("shots", [None, 2])
def test_where_every_image_shows_something_the_draw_is_the_plain_one(shots: int | None) -> None:
    contents = boxes("a", "b", "a b", "a", "b", "a", "b", "a")
    for test in ((), tuple(contents)[6:]):
        pool = [s for s in contents if s not in test]
        plain = draw_support(pool, test, contents, shots=shots, seed=3)
        assert draw_dense(pool, test, contents, shots=shots, seed=3) == plain
        assert notes_of([plain], test, contents, shots=shots) == []


@pytest.mark.parametrize(("is_tested", "shots", "added"), [(True, 3, 3), (True, 9, 5), (False, 3, 2)])
def test_as_many_images_that_show_nothing_come_along(is_tested: bool, shots: int, added: int) -> None:
    contents = boxes(*["a"] * 12, *[""] * 5)
    test = tuple(contents)[:2] if is_tested else ()
    pool = [s for s in contents if s not in test]
    support, measured = draw_dense(pool, test, contents, shots=shots, seed=0)
    assert (sum(bool(contents[s]) for s in support), sum(not contents[s] for s in support)) == (shots, added)
    assert not set(support) & set(measured)
    assert is_tested or sum(not contents[s] for s in measured) == 5 - added  # half are left to measure on
    told = f"{added} of the {shots + added} images drawn show nothing"
    assert told in notes_of([(support, measured)], test, contents, shots=shots)[0]


def test_normal_images_of_a_group_that_is_measured_are_not_learnt() -> None:
    contents = boxes(*["a"] * 4, group={0: "p", 1: "q", 2: "r", 3: "s"})
    good = normals("p", "q", "r", "s", None)
    for shots in (None, 1, 3):
        support, measured = draw_dense(list(contents), (), contents, shots=shots, seed=0, normal=good)
        taken = {s.group for s in measured}
        assert taken
        assert not {s.group for s in support} & taken
        assert any(s.label == "good" for s in support)


@pytest.mark.parametrize("is_tested", [True, False])
def test_images_that_show_nothing_cost_none_that_is_measured(*, is_tested: bool) -> None:
    """Lots of parts, each with a defect and empty frames: empty frames of every lot would leave nothing to measure."""
    count = 6
    groups = {at: f"lot{at % count}" for at in range(3 * count)}
    contents = boxes(*["a"] * count, *[""] * (2 * count), group=groups)
    test = tuple(contents)[3:count] if is_tested else ()
    pool = [s for s in contents if s not in test]
    for seed in range(8):
        measured = draw_support(pool, test, contents, shots=2, seed=seed)[1]
        support, left = draw_dense(pool, test, contents, shots=2, seed=seed)
        assert set(left) == set(measured) - set(support)
        assert not {s.group for s in left} & {s.group for s in support}
        assert {s for s in measured if contents[s]} <= set(left)


def test_half_of_the_empty_images_of_the_pool_are_left_to_measure_on() -> None:
    contents = boxes(*["a"] * 12, *[""] * 4)
    for seed in range(6):
        _, measured = draw_dense(list(contents), (), contents, shots=5, seed=seed, normal=normals(None, None))
        assert sum(not contents[s] for s in measured) >= 2


def test_the_next_image_of_each_class_stands_in_for_one_that_cannot_be_used() -> None:
    contents = boxes(*["a"] * 8, *["b"] * 8)
    order = {name: [s for s in _order(contents, seed=1) if name in contents[s]] for name in "ab"}
    bad = {order["a"][0], order["a"][2], order["b"][7]}
    support, measured = draw_dense(list(contents), (), contents, shots=2, seed=1, usable=lambda s: s not in bad)
    assert set(support) == {*order["a"][:4], *order["b"][:2]}  # what is bad of them is named by whoever reads
    assert not set(support) & set(measured)


def _order(contents: dict[Sample, frozenset[str]], *, seed: int) -> tuple[Sample, ...]:
    """Every image of each class, as more and more shots draw them."""
    drawn = [draw_support([*contents], tuple(contents), contents, shots=k, seed=seed)[0] for k in range(1, 9)]
    return tuple(dict.fromkeys(s for one in drawn for s in one))


def test_what_stands_in_is_not_measured_nor_its_group() -> None:
    plain = boxes("a", "a", "a")
    [first] = draw_support(list(plain), (), plain, shots=1, seed=0)[0]
    contents = boxes("a", "a", "a", group={at: "p" for at, s in enumerate(plain) if s != first})
    assert len(draw_dense(list(contents), (), contents, shots=1, seed=0)[1]) == 2
    with pytest.raises(DataError, match="no image is left to measure on"):
        draw_dense(list(contents), (), contents, shots=1, seed=0, usable=lambda s: s != first)
