from pathlib import Path

import numpy as np

from pangu_cv.data.sample import Sample
from pangu_cv.finetune.folds import folds_of

SUPPORT = [Sample(Path(f"{label}{n}.png"), label=label) for label in "abc" for n in range(5)]


def test_folds_spread_classes_and_keep_groups_whole() -> None:
    folds = folds_of(SUPPORT, 5, seed=0)
    assert sorted(s.path for fold in folds for s in fold) == sorted(s.path for s in SUPPORT)
    assert all({s.label for s in fold} == set("abc") for fold in folds)
    assert folds != folds_of(SUPPORT, 5, seed=1)
    grouped = [Sample(Path(f"{n}"), label="a", group=str(n // 2)) for n in range(6)]
    assert all(len({s.group for s in fold}) == len(fold) / 2 for fold in folds_of(grouped, 3, seed=0))
    assert folds_of([Sample(Path("1"), label="a")], 3, seed=0) == []


def test_a_group_of_several_classes_is_held_out_whole() -> None:
    support = [Sample(Path(f"{label}{n}.png"), label=label, group=f"part{n}") for label in "ab" for n in range(6)]
    folds = folds_of(support, 3, seed=0)
    assert sum(len(fold) for fold in folds) == 12
    sides = [{s.group for s in fold} for fold in folds]
    assert not sides[0] & sides[1] | sides[1] & sides[2] | sides[0] & sides[2]


def test_a_class_is_spread_though_its_images_show_others_too() -> None:
    """By the labels alone, 2 images of 24 that show the rare class would share a fold in one draw of four."""
    images = [Sample(Path(f"{n}.png")) for n in range(24)]
    shown = {s: frozenset({"often"} | ({"rare"} if n in (3, 4) else set())) for n, s in enumerate(images)}
    for seed in range(20):
        folds = folds_of(images, 4, seed=seed, shown=shown)
        assert [len(fold) for fold in folds] == [6, 6, 6, 6]
        assert sum(any("rare" in shown[s] for s in fold) for fold in folds) == 2


def test_what_alone_shows_a_class_is_always_learnt_from() -> None:
    images = [Sample(Path(f"{n}.png")) for n in range(9)]
    shown = {s: frozenset({"often"} | ({"once"} if n == 5 else set())) for n, s in enumerate(images)}
    folds = folds_of(images, 3, seed=0, shown=shown)
    assert sorted(s.path.name for fold in folds for s in fold) == [f"{n}.png" for n in range(9) if n != 5]


def test_images_that_show_nothing_are_spread_like_a_class() -> None:
    images = [Sample(Path(f"{n}.png")) for n in range(8)]
    shown = {s: frozenset({"a"} if n < 4 else ()) for n, s in enumerate(images)}
    assert [sorted(map(len, map(shown.__getitem__, fold))) for fold in folds_of(images, 4, seed=3, shown=shown)] == [
        [0, 1]
    ] * 4


def test_a_class_is_spread_evenly_though_parts_differ_in_size() -> None:
    """A group of five images weighs on one part; the images of the other class do not make up for it."""
    images = [Sample(Path(f"{n}.png"), group="line" if n < 5 else None) for n in range(12)]
    shown = {s: frozenset({"x"} if n < 6 else {"y"}) for n, s in enumerate(images)}
    folds = folds_of(images, 2, seed=0, shown=shown)
    assert [sum("y" in shown[s] for s in fold) for fold in folds] == [3, 3]


def test_what_is_learnt_without_a_part_knows_every_class() -> None:
    """With two images of each of six classes, and more of other classes on them, all of a class may come together."""
    random, together = np.random.default_rng(0), 0
    for seed in range(200):
        images = [Sample(Path(f"{n}.png")) for n in range(8)]
        shown = {s: frozenset(f"c{c}" for c in range(6) if random.random() < 0.3) for s in images}
        folds = folds_of(images, 3, seed=seed, shown=shown)
        for name in frozenset().union(*shown.values()):
            showing = {s for s in images if name in shown[s]}
            together += any(showing <= set(fold) for fold in folds)
    assert not together
