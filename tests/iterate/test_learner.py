"""The ridge of a session: exact when left out, silent about what was struck out, honest about what it never saw."""

import numpy as np

from pangu_cv.iterate.learner import Taught, learn, masked_teacher, probabilities
from tests.iterate.clusters import clusters


def test_left_out_answers_are_those_of_a_ridge_without_the_image() -> None:
    features, labels = clusters(3, 5, spread=1.0)
    soft = (np.array([11, 12]), np.array([[0.7, 0.3, 0.0], [0.0, 0.0, 1.0]]), np.array([0.3, 0.1]))
    rows = np.arange(10)
    whole = learn(features, Taught(rows, labels[:10], *soft), classes=3, penalty=0.1)
    without = learn(features, Taught(rows[1:], labels[1:10], *soft), classes=3, penalty=0.1)
    ridge = features[0].astype(np.float64) @ without.weight_DC + without.bias_C
    scale = whole.logits_NC[0, 0] / (features[0] @ whole.weight_DC + whole.bias_C)[0]
    np.testing.assert_allclose(whole.left_out_LC[0] / scale, ridge, rtol=1e-4)


def test_a_class_struck_out_has_no_share_and_the_others_keep_their_ratio() -> None:
    logits = np.array([[2.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    struck = np.array([[True, False, False], [True, True, True]])
    found = masked_teacher(logits, struck)
    assert found[0, 0] == 0
    np.testing.assert_allclose(found[0, 1] / found[0, 2], np.e)
    np.testing.assert_array_equal(found[1], 0)


def test_clusters_are_told_apart_from_two_labels_each() -> None:
    features, labels = clusters(5, 20)
    rows = np.concatenate([np.flatnonzero(labels == c)[:2] for c in range(5)])
    taught = Taught.labels(rows, labels[rows])
    found = probabilities(learn(features, taught, classes=5, penalty=0.1), taught, np.zeros((100, 5), bool))
    assert (found.argmax(1) == labels).all()
    np.testing.assert_allclose(found.sum(1), 1)
    assert found.max(1).mean() > 0.8


def test_unseen_classes_get_the_share_of_good_and_turing() -> None:
    features, labels = clusters(4, 10)
    rows = np.flatnonzero(labels < 2)
    taught = Taught.labels(rows, labels[rows])
    found = probabilities(learn(features, taught, classes=4, penalty=0.1), taught, np.zeros((40, 4), bool))
    np.testing.assert_allclose(found[:, 2:].sum(1), 1 / 21)


def test_a_good_model_is_believed_and_a_bad_one_is_not() -> None:
    features, labels = clusters(4, 10, spread=1.5)
    rows = np.arange(12)
    taught = Taught.labels(rows, labels[rows])
    learnt = learn(features, taught, classes=4, penalty=0.1)
    good = np.full((40, 4), 0.01) + 0.96 * np.eye(4)[labels]
    bad = np.roll(good, 1, axis=1)
    none = np.zeros((40, 4), bool)
    assert (probabilities(learnt, taught, none, prior_NC=good).argmax(1) == labels).all()
    alone = probabilities(learnt, taught, none)
    np.testing.assert_allclose(probabilities(learnt, taught, none, prior_NC=bad), alone)
    np.testing.assert_allclose(probabilities(None, taught, none, prior_NC=good), good)


def test_images_that_a_model_has_learnt_say_nothing_of_how_far_to_believe_it() -> None:
    """It knows by heart what it was told of twelve images, and is wrong about all others."""
    features, labels = clusters(4, 20)
    right = np.full((80, 4), 0.01) + 0.96 * np.eye(4)[labels]
    prior = np.roll(right, 1, axis=1)
    prior[:12] = np.nan
    none = np.zeros((80, 4), bool)

    def found(count: int, prior_NC: np.ndarray | None) -> np.ndarray:
        taught = Taught.labels(np.arange(count), labels[:count])
        learnt = learn(features, taught, classes=4, penalty=0.1)
        return probabilities(learnt, taught, none, prior_NC=prior_NC)

    np.testing.assert_allclose(found(18, prior), found(18, None))
    half = (found(12, None)[12:] + prior[12:]) / 2  # none of the labelled images is new to it
    np.testing.assert_allclose(found(12, prior)[12:], half, atol=1e-6)
    np.testing.assert_allclose(found(12, prior)[:12], found(12, None)[:12])
    first = probabilities(None, Taught.labels([], []), none, prior_NC=prior)
    np.testing.assert_allclose(first[:12], 0.25)
    np.testing.assert_allclose(first[12:], prior[12:])


def test_one_label_neither_makes_nor_breaks_a_model() -> None:
    features, labels = clusters(4, 20)
    taught, none = Taught.labels(np.arange(13), labels[:13]), np.zeros((80, 4), bool)
    learnt = learn(features, taught, classes=4, penalty=0.1)
    alone = probabilities(learnt, taught, none)
    sure = np.full((80, 4), 0.001) + 0.996 * np.eye(4)[labels]
    for said in (sure, np.roll(sure, 1, axis=1)):
        said[:12] = np.nan
        mixed = probabilities(learnt, taught, none, prior_NC=said)
        share = (mixed - alone)[20:] / (said - alone)[20:]
        assert ((share > 0.1) & (share < 0.9)).all()
