import numpy as np
import pytest

from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome
from pangu_cv.metrics.bootstrap import (
    bootstrap,
    intervals,
    mean_of_defined,
    resampled,
    share,
    together_told,
    units_of,
)
from pangu_cv.metrics.detection import DetectionOutcome, Found
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.metrics.segmentation import SegmentationOutcome

_NO_BOX = Found(np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0))


def mean_of(values_N):
    return lambda counts_RN: counts_RN @ values_N / counts_RN.sum(1)


def test_rows_are_draws_with_replacement_in_blocks_that_do_not_matter(monkeypatch):
    [whole] = resampled(np.arange(50), resamples=400, seed=3)
    assert whole.shape == (400, 50)
    assert (whole.sum(1) == 50).all()
    assert whole.var(0).mean() == pytest.approx(49 / 50, abs=0.05)  # each count is binomial(50, 1/50)
    monkeypatch.setattr("pangu_cv.metrics.bootstrap._MOST_COUNTS", 50 * 7)
    blocks = list(resampled(np.arange(50), resamples=400, seed=3))
    assert max(map(len, blocks)) == 7
    assert np.array_equal(np.concatenate(blocks), whole)


def test_interval_of_a_mean_is_the_one_of_the_normal_law():
    values_N = np.random.default_rng(0).normal(size=400)
    found = bootstrap(mean_of(values_N), 400, resamples=4000)
    half = 1.96 * values_N.std() / 20
    assert found.mean == pytest.approx(values_N.mean())
    assert (found.low, found.high) == pytest.approx((found.mean - half, found.mean + half), abs=0.01)
    assert bootstrap(mean_of(values_N), 400, resamples=4000) == found
    narrow = bootstrap(mean_of(values_N), 400, level=0.5, resamples=4000)
    assert narrow.high - narrow.low < 0.5 * (found.high - found.low)


def test_it_covers_the_truth_as_often_as_it_says():
    random = np.random.default_rng(1)
    covered = [0.3 in bootstrap(mean_of(random.uniform(size=80) < 0.3), 80, resamples=300) for _ in range(200)]
    assert 0.89 <= np.mean(covered) <= 0.99


def test_what_is_undefined_is_none_and_rare_kinds_are_left_out_where_they_were_not_drawn():
    is_rare_N = np.arange(12) == 0
    values_N = np.where(is_rare_N, 5.0, 1.0)

    def of_rare(counts_RN):
        return share(counts_RN @ (values_N * is_rare_N), counts_RN @ is_rare_N)

    assert intervals({"rare": of_rare, "none": lambda c: np.full(len(c), np.nan)}, 12)["none"] is None
    rare = bootstrap(of_rare, 12)
    assert (rare.mean, rare.low, rare.high, rare.n) == (5, 5, 5, 12)


def test_images_of_a_group_are_drawn_together_and_tell_no_more_than_one():
    values_N = np.repeat(np.random.default_rng(0).normal(size=50), 4)  # four pictures of each part, all alike
    groups = [f"part {at // 4}" for at in range(200)]
    alone, together = bootstrap(mean_of(values_N), 200), bootstrap(mean_of(values_N), 200, groups)
    of_parts = bootstrap(mean_of(values_N[::4]), 50)
    assert (together.mean, together.n) == (pytest.approx(alone.mean), 50)
    assert (together.low, together.high) == pytest.approx((of_parts.low, of_parts.high))
    assert together.high - together.low > 1.8 * (alone.high - alone.low)  # 2: the root of four
    [counts_RN] = resampled(units_of(200, groups), resamples=50, seed=0)
    assert (counts_RN.reshape(50, 50, 4) == counts_RN.reshape(50, 50, 4)[..., :1]).all()


def test_without_a_group_an_image_is_alone():
    assert units_of(4, [None, "a", None, "a"]).tolist() == [0, 1, 2, 1]
    assert bootstrap(mean_of(np.arange(30)), 30, [None] * 30) == bootstrap(mean_of(np.arange(30)), 30)
    assert bootstrap(mean_of(np.arange(30)), 30, ["one"] * 30).low is None
    assert together_told([None, "a", "b"]) == together_told(()) == []
    assert "the 3 images as 2, too few to believe them, since" in together_told([None, "a", "a"])[0]
    assert "the 12 images as 11, since" in together_told(["a", "a", *[None] * 10])[0]
    with pytest.raises(ValueError, match="4 images need as many groups"):
        units_of(4, ["a"])


@pytest.mark.parametrize(
    "outcome",
    [
        lambda groups: ClassificationOutcome(("a", "b"), ("1", "2"), np.eye(2), np.array([0, 1]), groups=groups),
        lambda groups: MultilabelOutcome(
            ("a",), ("1", "2"), *[np.ones((2, 1), t) for t in (float, bool, bool)], 0.5, groups
        ),
        lambda groups: DetectionOutcome(("a",), ("1", "2"), ((9, 9),) * 2, (_NO_BOX,) * 2, (_NO_BOX,) * 2, 0.5, groups),
        lambda groups: SegmentationOutcome(
            ("-", "a"), ("1", "2"), np.ones((2, 2), np.int64), np.ones((2, 3, 2), np.int32), groups=groups
        ),
        lambda groups: AnomalyOutcome(
            ("1", "2"), np.arange(2.0), *[np.array([False, True])] * 2, 0.5, ("good", "x"), 0.05, groups=groups
        ),
    ],
)
def test_every_outcome_has_as_many_groups_as_images_or_none(outcome):
    for groups in ((), ("a", None)):
        assert outcome(groups).groups == groups
    with pytest.raises(ValueError, match="2 images need as many groups, or none at all, not 1"):
        outcome(("a",))


def test_one_image_has_no_interval():
    found = bootstrap(mean_of(np.ones(1)), 1)
    assert (found.mean, found.low, found.high) == (1, None, None)
    with pytest.raises(ValueError, match="level"):
        bootstrap(mean_of(np.ones(1)), 1, level=95)


def test_means_leave_out_what_is_undefined():
    table = np.array([[1.0, np.nan, 3.0], [np.nan, np.nan, np.nan]])
    assert mean_of_defined(table).tolist()[0] == 2
    assert np.isnan(mean_of_defined(table)[1])
