import numpy as np
import pytest

from pangu_runtime.compare import Difference, Limits, compact, compare, from_record, recordable, worst

SCORES = {"scores": np.array([[0.7, 0.3]], np.float32), "label": np.array([0])}


def anomaly(score: float, *, flag: bool = False, level: float = 1.0) -> dict[str, np.ndarray]:
    return {
        "score": np.array([score], np.float32),
        "map": np.full((1, 20, 30), level, np.float32),
        "is_anomalous": np.array([flag]),
        "threshold_applied": np.array([1.0], np.float32),
    }


def test_equal_answers_do_not_differ() -> None:
    assert compare(SCORES, SCORES) == Difference()
    assert compare(anomaly(1), anomaly(1)) == Difference()


def test_flips_scores_and_maps_are_told_apart() -> None:
    assert compare(SCORES, SCORES | {"label": np.array([1])}).flips == 1
    assert compare(anomaly(1), anomaly(1.5)).score == pytest.approx(0.5)
    assert compare(anomaly(1), anomaly(1, level=1.25)).map == pytest.approx(0.25)
    moved = anomaly(1) | {"threshold_applied": np.array([1.5], np.float32)}
    assert compare(anomaly(1), moved).score == pytest.approx(0.5)


def test_a_flip_is_any_tag_that_differs_and_unknown_is_an_answer() -> None:
    tags = {"scores": np.array([[0.7, 0.6]], np.float32), "is_present": np.array([[True, True]])}
    assert compare(tags, tags | {"is_present": np.array([[True, False]])}) == Difference(flips=1)
    assert compare(SCORES, SCORES | {"label": np.array([-1])}).flips == 1
    again = from_record(recordable(tags | {"label": np.array([-1])}))
    assert again["is_present"].dtype == bool
    assert compare(tags | {"label": np.array([-1])}, again) == Difference(score=pytest.approx(0, abs=1e-6))


@pytest.mark.parametrize("side", ["expected", "found", "both"])
def test_not_a_number_never_passes_wherever_it_stands(side: str) -> None:
    odd, fine = anomaly(float("nan")), anomaly(1)
    pair = {"expected": (odd, fine), "found": (fine, odd), "both": (odd, odd)}[side]
    bad, good = compare(*pair), compare(fine, fine)
    assert not bad.within(Limits())
    assert not worst([bad, good]).within(Limits())
    assert not worst([good, bad, good]).within(Limits())


def test_other_shapes_never_pass() -> None:
    assert not compare(SCORES, SCORES | {"scores": np.ones((1, 3), np.float32)}).within(Limits())


def test_worst_adds_flips_and_keeps_the_largest() -> None:
    assert worst([Difference(1, 0.1, 0.5), Difference(1, 0.3, 0.2)]) == Difference(2, 0.3, 0.5)
    assert worst([]) == Difference()


def test_limits_are_inclusive() -> None:
    assert Difference(0, 1e-3, 1e-3).within(Limits())
    assert not Difference(1, 0, 0).within(Limits())


@pytest.mark.parametrize("size", [(20, 30), (3, 5), (1, 1)])
def test_record_gives_back_what_it_took(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    outputs = anomaly(1.25, flag=True) | {"map": rng.random((1, *size), np.float32)}
    assert compare(from_record(recordable(outputs)), compact(outputs)).score < 1e-6
    assert compare(from_record(recordable(outputs)), compact(outputs)).map < 1e-6
    assert compare(from_record(recordable(outputs)), compact(outputs)).flips == 0
