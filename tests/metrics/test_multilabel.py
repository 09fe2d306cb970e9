import json

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score

from pangu_cv.metrics.multilabel import MultilabelOutcome, resamples_of
from pangu_cv.metrics.ranking import Ranking

CLASSES = ("hole", "spur", "never")


def outcome(n: int = 60, *, seed: int = 0, decimals: int = 6) -> MultilabelOutcome:
    rng = np.random.default_rng(seed)
    truth = rng.random((n, 3)) < [0.3, 0.7, 0.0]
    scores = np.clip(0.25 * truth + 0.75 * rng.random((n, 3)), 0, 1).round(decimals)
    return MultilabelOutcome(CLASSES, tuple(f"{i}.png" for i in range(n)), scores, scores >= 0.5, truth, 0.5)


@pytest.mark.parametrize("decimals", [6, 1])
def test_average_precision_is_that_of_scikit_learn_ties_included(decimals: int) -> None:
    o = outcome(decimals=decimals)
    expected = [average_precision_score(o.truth_NC[:, c], o.scores_NC[:, c]) for c in range(2)]
    np.testing.assert_allclose(o.ap_C[:2], expected)
    assert np.isnan(o.ap_C[2])
    assert o.mean_ap == pytest.approx(np.mean(expected))


def test_weights_count_an_image_as_often_as_they_say() -> None:
    o = outcome(12, decimals=1)
    weights = np.random.default_rng(1).integers(0, 4, 12)
    repeated = np.repeat(np.arange(12), weights)
    expected = average_precision_score(o.truth_NC[repeated, 0], o.scores_NC[repeated, 0])
    second = average_precision_score(o.truth_NC[repeated, 1], o.scores_NC[repeated, 1])
    found = o.figures["mean_ap"](weights[None].astype(float))
    assert found[0] == pytest.approx((expected + second) / 2)


def test_f1_and_exact_match() -> None:
    o = outcome()
    present, truth = o.is_present_NC[:, :2], o.truth_NC[:, :2]
    assert o.macro_f1 == pytest.approx(f1_score(truth, present, average="macro"))
    assert o.micro_f1 == pytest.approx(f1_score(o.truth_NC, o.is_present_NC, average="micro", zero_division=0))
    assert {name: o.intervals[name].mean for name in o.figures} == pytest.approx(
        {name: getattr(o, name) for name in ("mean_ap", "micro_f1", "exact_match")}
    )
    for name, figure in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert [one[name] for one in o.per_class()[:2]] == pytest.approx(figure(truth, present, average=None))
    assert o.exact_match == pytest.approx(np.mean((o.is_present_NC == o.truth_NC).all(1)))
    assert o.chance_ap == pytest.approx(truth.mean())
    both, there, found = o.hits_N3.sum(0)
    assert (there, found) == (o.truth_NC.sum(), o.is_present_NC.sum())
    assert both == (o.truth_NC & o.is_present_NC).sum()


def test_interval_is_around_the_mean_and_narrows_with_images() -> None:
    few, many = outcome(40).intervals["mean_ap"], outcome(1000).intervals["mean_ap"]
    assert few
    assert many
    assert few.mean == outcome(40).mean_ap
    assert few.low is not None
    assert few.high is not None
    assert few.low < few.mean < few.high
    assert many.high - many.low < 0.4 * (few.high - few.low)  # type: ignore[operator]
    assert outcome(40).intervals["mean_ap"] == few


def test_summary_is_plain_and_undefined_figures_are_none() -> None:
    o = outcome()
    o.is_present_NC[:, 2] = False
    summary = json.loads(json.dumps(o.summary(), allow_nan=False))
    assert summary["per_class"][2] == {
        "class": "never",
        "images": 0,
        "ap": None,
        "precision": None,
        "recall": None,
        "f1": None,
    }
    nothing = MultilabelOutcome(("a",), ("x",), np.zeros((1, 1)), np.zeros((1, 1), bool), np.zeros((1, 1), bool), 0.5)
    assert (nothing.mean_ap, nothing.micro_f1, nothing.intervals["mean_ap"]) == (None, None, None)
    assert nothing.exact_match == 1


@pytest.mark.parametrize("field", ["scores_NC", "is_present_NC", "truth_NC"])
def test_shapes_are_checked(field: str) -> None:
    arrays = {
        "scores_NC": np.zeros((2, 1)),
        "is_present_NC": np.zeros((2, 1), bool),
        "truth_NC": np.zeros((2, 1), bool),
    }
    with pytest.raises(ValueError, match=field):
        MultilabelOutcome(("a",), ("x", "y"), **(arrays | {field: np.zeros((1, 1))}), threshold=0.5)


def test_classes_are_ranked_once_for_all_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked, rank = [], Ranking.average_precision_R
    monkeypatch.setattr(Ranking, "average_precision_R", lambda self, counts: ranked.append(1) or rank(self, counts))
    outcome().per_class()
    assert len(ranked) == len(CLASSES)


def test_scores_of_all_classes_are_held_against_what_is_there() -> None:
    o = outcome(400)
    stats = o.reliability(2)
    low = o.scores_NC <= 0.5
    assert stats.count_B.tolist() == [low.sum(), (~low).sum()]
    assert stats.accuracy_B.tolist() == pytest.approx([o.truth_NC[low].mean(), o.truth_NC[~low].mean()])
    assert o.summary()["expected_calibration_error"] == o.reliability().expected_error


@pytest.mark.parametrize(("images", "resamples"), [(60, 1000), (14_000, 1000), (100_000, 143), (2_000_000, 100)])
def test_intervals_of_very_many_scores_rest_on_fewer_resamples(images: int, resamples: int) -> None:
    assert resamples_of(images, 300) == resamples


def test_an_interval_ranks_no_more_than_its_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked, rank = [], Ranking.average_precision_R
    monkeypatch.setattr("pangu_cv.metrics.multilabel._MOST_SUMMED", 60 * 3 * 120)
    monkeypatch.setattr(
        Ranking, "average_precision_R", lambda self, counts: ranked.append(counts.size) or rank(self, counts)
    )
    assert outcome(60).intervals["mean_ap"] is not None
    assert sum(ranked) == 60 * 3 * (120 + 1)  # and the figure itself
