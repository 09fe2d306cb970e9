import numpy as np
import pytest
from sklearn.metrics import auc, average_precision_score, roc_auc_score

from pangu_cv.metrics.bootstrap import resampled
from pangu_cv.metrics.ranking import Ranking


def ranking(n=60):
    random = np.random.default_rng(0)
    is_positive_N = np.arange(n) % 3 == 0
    return Ranking((random.normal(size=n) + is_positive_N).round(1), is_positive_N)  # rounded: ties occur


def test_areas_of_resamples_are_those_of_sklearn_with_counts_as_weights():
    r = ranking()
    [counts_RN] = resampled(np.arange(60), resamples=20, seed=0)
    auroc_R, precision_R = r.auroc_R(counts_RN), r.average_precision_R(counts_RN)
    for row, counts_N in enumerate(counts_RN):
        weighed = (r.is_positive_N, r.scores_N)
        assert auroc_R[row] == pytest.approx(roc_auc_score(*weighed, sample_weight=counts_N))
        assert precision_R[row] == pytest.approx(average_precision_score(*weighed, sample_weight=counts_N))


def test_all_images_once_is_the_area_itself():
    r, once = ranking(), np.ones((1, 60))
    assert r.auroc_R(once)[0] == pytest.approx(r.auroc)
    assert r.average_precision_R(once)[0] == pytest.approx(r.average_precision)


def test_curves_enclose_their_areas():
    r = ranking()
    assert auc(*r.roc()) == pytest.approx(r.auroc)
    recall, precision = r.precision_recall()
    assert (np.diff(recall) >= 0).all()
    assert (recall[0], recall[-1]) == (0, 1)
    assert (np.diff(recall) * precision[1:]).sum() == pytest.approx(r.average_precision)


def test_one_kind_alone_has_no_area():
    lonely = Ranking(np.arange(4.0), np.ones(4, bool))
    assert (lonely.auroc, lonely.average_precision, lonely.has_both_kinds) == (None, None, False)
    assert np.isnan([lonely.auroc_R(np.ones((1, 4))), lonely.average_precision_R(np.ones((1, 4)))]).all()
    with pytest.raises(ValueError, match="both kinds"):
        lonely.roc()
