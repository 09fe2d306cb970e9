from dataclasses import replace

import numpy as np
import pytest

from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome
from pangu_cv.metrics.paired import paired


def classified(right_N, *, offset=0):
    """Two classes in turn; right where asked."""
    truth_N = np.arange(len(right_N)) % 2
    said_N = np.where(right_N, truth_N, 1 - truth_N)
    paths = tuple(f"{offset + i}.png" for i in range(len(right_N)))
    return ClassificationOutcome(("a", "b"), paths, np.eye(2)[said_N] * 0.8 + 0.1, truth_N)


def detector(scores_N, is_defect_N):
    n = len(scores_N)
    kinds = tuple("bad" if d else "good" for d in is_defect_N)
    return AnomalyOutcome(tuple(map(str, range(n))), scores_N, is_defect_N, scores_N > 0.5, 0.5, kinds, 0.01)


def test_the_better_one_is_named_and_the_order_turns_the_sign():
    sure, poor = classified(np.arange(120) >= 4), classified(np.arange(120) >= 24)
    found, turned = paired(sure, poor), paired(poor, sure)
    main, back = found.differences["balanced_accuracy"], turned.differences["balanced_accuracy"]
    assert main.interval.mean == pytest.approx(20 / 120)
    assert (found.winner, turned.winner) == ("a", "b")
    assert main.interval.low == pytest.approx(-back.interval.high)
    assert (main.a, main.b) == (back.b, back.a)


def test_pairing_narrows_the_interval():
    random = np.random.default_rng(0)
    is_defect_N = np.arange(200) % 2 == 0
    hardness_N = random.normal(size=200)
    a, b = (detector(hardness_N + is_defect_N + random.normal(0, 0.1, 200), is_defect_N) for _ in range(2))
    difference = paired(a, b).differences["image_auroc"].interval
    alone = a.intervals["image_auroc"]
    assert difference.high - difference.low < (alone.high - alone.low) / 3
    shuffled = random.permutation(200)
    apart = replace(b, scores_N=b.scores_N[shuffled], is_defect_N=is_defect_N[shuffled])
    assert difference.high - difference.low < np.ptp(_ends(paired(a, apart))) / 3


def test_images_of_a_group_are_drawn_together_for_both():
    """Five pictures of each of 24 parts: what looked like a difference is one of 24."""
    right_N = np.repeat(np.arange(24) >= 3, 5)
    parts = tuple(f"part {at // 5}" for at in range(120))
    better, worse = (classified(np.ones(120, bool)), classified(right_N))
    alone = paired(better, worse)
    together = paired(replace(better, groups=parts), replace(worse, groups=parts))
    assert (alone.units, together.units, together.images) == (120, 24, 120)
    wide, narrow = (np.ptp(_ends(one, "accuracy")) for one in (together, alone))
    assert wide > 1.8 * narrow  # 2.2: the root of five
    later = classified(right_N, offset=60)  # the second half of the images of ``line``, and others
    line = replace(better, groups=("line",) * 60 + tuple(map(str, range(60))))
    assert (paired(line, later).images, paired(line, later).units) == (60, 60)
    few = replace(better, groups=tuple(f"part {at // 20}" for at in range(120)))
    assert paired(few, worse).is_too_small


def _ends(comparison, figure="image_auroc"):
    interval = comparison.differences[figure].interval
    return interval.low, interval.high


def test_equal_models_cannot_be_told_apart():
    one = classified(np.arange(60) % 5 > 0)
    found = paired(one, one)
    assert found.winner is None
    assert vars(found.disagreement) == {
        "only_a_right": 0,
        "only_b_right": 0,
        "both_right": 48,
        "neither_right": 12,
        "p_value": 1.0,
    }


def test_chance_alone_seldom_names_a_winner():
    random = np.random.default_rng(0)
    pairs = [
        (classified(random.uniform(size=100) < 0.8), classified(random.uniform(size=100) < 0.8)) for _ in range(60)
    ]
    assert sum(paired(*pair).winner is not None for pair in pairs) <= 8  # 3 are expected


def test_disagreement_is_counted_and_its_chance_is_that_of_coins():
    a, b = classified(np.arange(20) >= 1), classified(np.arange(20) < 15)
    found = paired(a, b).disagreement
    assert (found.only_a_right, found.only_b_right, found.both_right, found.neither_right) == (5, 1, 14, 0)
    assert found.p_value == pytest.approx(2 * (1 + 6) / 64)


def test_only_images_that_both_read_count():
    a, b = classified(np.arange(30) % 3 > 0), classified(np.ones(30, bool), offset=10)
    found = paired(a, b)
    assert found.images == 20
    assert [a.paths[i] for i in found.index_a_P] == [b.paths[i] for i in found.index_b_P]
    shared = replace(a, paths=a.paths[10:], scores_NC=a.scores_NC[10:], truth_N=a.truth_N[10:])
    assert found.differences["accuracy"].a == pytest.approx(shared.accuracy)
    assert found.differences["accuracy"].b == 1


def test_few_images_or_none_name_no_winner():
    few = paired(classified(np.ones(8, bool)), classified(np.zeros(8, bool)))
    assert few.differences["accuracy"].interval.mean == 1
    assert (few.is_too_small, few.winner) == (True, None)
    none = paired(classified(np.ones(4, bool)), classified(np.ones(4, bool), offset=90))
    assert (none.images, none.differences, none.winner) == (0, {}, None)


def test_a_figure_that_is_undefined_is_left_out():
    only_good = np.zeros(20, bool)
    found = paired(detector(np.linspace(0, 1, 20), only_good), detector(np.linspace(0, 2, 20), only_good))
    assert (found.differences, found.winner) == ({}, None)
    assert found.disagreement.only_a_right == 5
