import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, roc_auc_score

from pangu_cv.pretrain.scores import Judged, Score, area_parts, balanced_parts
from pangu_cv.pretrain.state import State


def test_what_images_add_is_the_figure() -> None:
    random = np.random.default_rng(0)
    label_N = random.integers(0, 3, 40)
    predicted_DN = random.integers(0, 3, (4, 40))
    accuracies = [balanced_accuracy_score(label_N, predicted_N) for predicted_N in predicted_DN]
    judged = Judged.of(balanced_parts(predicted_DN == label_N, label_N))
    assert judged.by_draw == pytest.approx(accuracies)
    assert np.mean(judged.by_image) == pytest.approx(judged.mean) == pytest.approx(np.mean(accuracies))
    score_DN = random.integers(0, 6, (4, 40)).astype(float)  # with ties
    areas = [roc_auc_score(label_N == 0, score_N) for score_N in score_DN]
    assert Judged.of(area_parts(score_DN, label_N == 0)).by_draw == pytest.approx(areas)


def test_spread_of_what_images_add_is_that_of_the_area_over_samples() -> None:
    random = np.random.default_rng(0)
    is_defect_N = np.arange(60) < 20
    parts_RN = area_parts(random.normal(size=(2000, 60)) + is_defect_N, is_defect_N)
    expected = (parts_RN.std(1, ddof=1) / 60**0.5).mean()
    assert parts_RN.mean(1).std() == pytest.approx(expected, rel=0.1)


def test_a_few_defects_vary_as_much_as_a_few_do() -> None:
    """DeLong's own denominators: with four defects the plain ones find a quarter less."""
    random = np.random.default_rng(0)
    is_defect_N = np.arange(60) < 4
    parts_RN = area_parts(random.normal(size=(4000, 60)) + is_defect_N, is_defect_N)
    assert parts_RN.mean(1).var() == pytest.approx((parts_RN.var(1, ddof=1) / 60).mean(), rel=0.1)


def test_a_state_has_its_scores_again() -> None:
    score = Score("steel", (Judged((0.4, 0.5), (0.0, 1.0, 0.35)), Judged((0.4, 0.6), (0.5,))), None)
    state = State(step=3, rounds=[[score]], minutes=[0.0])
    assert State.from_text(state.as_text()) == state


def test_images_count_alike_however_they_are_parted() -> None:
    few, many = Judged((0.5, 0.5), (0.5,) * 8), Judged((0.7, 0.7), (0.7,) * 22)
    score = Score("steel", (few, many), None)
    assert score.mean == pytest.approx((8 * 0.5 + 22 * 0.7) / 30)
    assert score.mean_beside(0) == pytest.approx(0.7)
    assert Score("steel", (few,), None).mean_beside(0) == pytest.approx(0.5)


def test_folds_joined_are_the_figure_of_all_their_images() -> None:
    parts_DN = np.random.default_rng(0).random((3, 10))
    joined = Judged.joined([Judged.of(parts_DN[:, :4]), Judged.of(parts_DN[:, 4:])])
    whole = Judged.of(parts_DN)
    assert joined.by_draw == pytest.approx(whole.by_draw)
    assert joined.by_image == pytest.approx(whole.by_image)
