"""Who is believed, by passing messages."""

import numpy as np
import pytest

from pangu_cv.iterate.fuse.ensemble import ensemble, known, spread
from pangu_cv.iterate.fuse.graph import MessagesConfig, beside, carried, joined, pass_messages, weights_of

CLASSES = ("a", "b", "c")
OWN = (("a", "b"), ("b", "c"))
KNOWS = known(OWN, CLASSES)
EACH = 20


def two_plants(seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores [2,N,3] of plants that know a, b and b, c; unit features of three clusters [N,8]; truth [N].

    On a class that it does not know a plant is often sure of a wrong one.
    """
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(3), EACH)
    scores = []
    for own in OWN:
        numbers = [CLASSES.index(name) for name in own]
        right = np.array([numbers.index(t) if t in numbers else random.integers(2) for t in truth])
        sure = np.where(
            np.isin(truth, numbers), random.uniform(0.75, 1.0, len(truth)), random.uniform(0.5, 1.0, len(truth))
        )
        found = np.stack([np.where(right == k, sure, 1 - sure) for k in range(2)], 1)
        scores.append(spread(found, own, CLASSES))
    centres = np.eye(8)[:3]
    features = centres[truth] + 0.15 * random.normal(size=(len(truth), 8))
    unit = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    return np.stack(scores), unit, truth


def test_a_class_is_voted_on_by_those_that_know_it() -> None:
    scores = np.stack(
        [spread(np.array([[0.9, 0.1]]), OWN[0], CLASSES), spread(np.array([[0.7, 0.3]]), OWN[1], CLASSES)]
    )
    votes = np.array([[0.9, (0.1 + 0.7) / 2, 0.3]])
    np.testing.assert_allclose(ensemble(scores, KNOWS), votes / votes.sum())
    equal = np.full((1, 2), 0.5)
    np.testing.assert_allclose(ensemble(scores, KNOWS, equal), ensemble(scores, KNOWS))
    first = ensemble(scores, KNOWS, np.array([[1.0, 0.0]]))
    np.testing.assert_allclose(first, np.array([[0.9, 0.05, 0.0]]) / 0.95)


def test_no_vote_at_all_is_no_opinion() -> None:
    np.testing.assert_allclose(ensemble(np.zeros((2, 1, 3)), KNOWS), np.full((1, 3), 1 / 3))


def test_the_right_expert_is_believed_where_plants_see_different_classes() -> None:
    scores, unit, truth = two_plants()
    plain = ensemble(scores, KNOWS).argmax(1)
    none = np.full(len(truth), -1)
    believed = pass_messages(scores, KNOWS, joined([unit], neighbours=4), none, MessagesConfig())
    assert believed.weights_NM[truth == 0, 0].mean() > 0.8
    assert believed.weights_NM[truth == 2, 1].mean() > 0.8
    assert abs(believed.weights_NM[truth == 1].mean(0)[0] - 0.5) < 0.1
    assert (plain == truth).mean() < 0.97
    assert (believed.beliefs_NC.argmax(1) == truth).mean() > (plain == truth).mean()
    np.testing.assert_allclose(believed.weights_NM.sum(1), 1)
    np.testing.assert_allclose(believed.beliefs_NC.sum(1), 1)
    assert believed.moved[-1] < believed.moved[0]


def test_labels_are_believed_and_help_their_neighbours() -> None:
    scores, unit, truth = two_plants(3)
    scores[:] = spread(np.full((len(truth), 2), 0.5), OWN[0], CLASSES)  # neither says anything of use
    labels = np.where(np.arange(len(truth)) % 2 == 0, truth, -1)
    bare = (labels < 0) & (truth < 2)
    alike = known((OWN[0], OWN[0]), CLASSES)
    found = pass_messages(scores, alike, joined([unit], neighbours=4), labels, MessagesConfig()).beliefs_NC
    np.testing.assert_array_equal(found[labels >= 0].argmax(1), truth[labels >= 0])
    assert (found.argmax(1) == truth)[bare].mean() > 0.85  # two have no mutual neighbour


def test_without_rounds_it_is_the_plain_ensemble() -> None:
    scores, unit, truth = two_plants()
    config = MessagesConfig(rounds=0, certainty=1.0)
    believed = pass_messages(scores, KNOWS, joined([unit], neighbours=4), np.full(len(truth), -1), config)
    np.testing.assert_allclose(believed.beliefs_NC, ensemble(scores, KNOWS))
    np.testing.assert_allclose(believed.weights_NM, 0.5)


def test_new_images_take_weights_from_their_neighbours() -> None:
    scores, unit, truth = two_plants()
    old = np.arange(len(truth)) % 2 == 0
    config = MessagesConfig()
    none = np.full(old.sum(), -1)
    believed = pass_messages(scores[:, old], KNOWS, joined([unit[old]], neighbours=4), none, config)
    edges = beside([unit[~old]], [unit[old]], neighbours=4)
    np.testing.assert_allclose(edges.sum(1), 1, rtol=1e-5)
    weights = weights_of(scores[:, ~old], KNOWS, carried(edges, believed.beliefs_NC), config)
    assert weights[truth[~old] == 0, 0].mean() > 0.8
    assert weights[truth[~old] == 2, 1].mean() > 0.8


def test_neighbours_are_mutual_and_nobody_is_his_own() -> None:
    line = np.array([[0.0], [0.1], [0.25], [3.0]])
    unit = np.concatenate([np.cos(line), np.sin(line)], 1).astype(np.float32)
    edges = joined([unit], neighbours=1).toarray()
    assert edges.diagonal().sum() == 0
    assert edges[0, 1] == pytest.approx(1)
    assert edges[3].sum() == 0  # its nearest has a nearer one


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images_do_no_harm(images: int) -> None:
    scores, unit, _ = two_plants()
    believed = pass_messages(
        scores[:, :images], KNOWS, joined([unit[:images]], neighbours=4), np.full(images, -1), MessagesConfig()
    )
    assert np.isfinite(believed.beliefs_NC).all()
    np.testing.assert_allclose(believed.beliefs_NC.sum(1), 1)
