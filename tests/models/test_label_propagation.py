"""Labels follow the shape of the data, and a head that learns from images without labels follows them."""

import math

import pytest
import torch
from torch import Tensor

from pangu_cv.models.label_propagation import spread_labels
from pangu_cv.models.ridge_head import RidgeHead, RidgeHeadConfig
from pangu_cv.models.ridge_propagated import Others, fit_with_others


def arcs(each: int) -> tuple[Tensor, Tensor]:
    """Two classes, each an arc of 100 degrees on the unit circle, 40 degrees apart at one end: rows, labels."""
    angles = torch.linspace(0, math.radians(100), each)
    both = torch.cat([angles, angles + math.radians(140)])
    return torch.stack([both.cos(), both.sin()], 1), torch.arange(2).repeat_interleave(each)


def test_labels_spread_along_the_data_not_by_distance() -> None:
    rows, truth = arcs(60)
    told = torch.tensor([0, 60])  # of the second arc the end that the first comes near with its other one
    near = (rows @ rows[told].T).argmax(1)
    rest = [at for at in range(len(rows)) if at not in told]
    found = spread_labels(rows[told], truth[told], rows[rest], classes=2, neighbours=4)
    assert (near[rest] == truth[rest]).float().mean() < 1, "nearest labelled images alone get some wrong"
    assert torch.equal(found.probability_UC.argmax(1), truth[rest])
    assert torch.allclose(found.probability_UC.sum(1), torch.ones(len(rest), dtype=torch.float64))
    assert 0 <= float(found.certainty_U.min()) <= float(found.certainty_U.max()) <= 1


def test_what_no_label_reaches_counts_for_nothing() -> None:
    island = torch.tensor([[0.0, 0, 1], [0, 0.1, 1], [0.1, 0, 1]])
    told = torch.tensor([[1.0, 0, 0], [-1, 0, 0]])
    near = torch.tensor([[1.0, 0.1, 0], [-1, 0.1, 0]])
    found = spread_labels(told, torch.tensor([0, 1]), torch.cat([near, island]), classes=2, neighbours=1)
    assert found.probability_UC[:2].argmax(1).tolist() == [0, 1]
    assert torch.equal(found.certainty_U[2:], torch.zeros(3, dtype=torch.float64))
    assert torch.allclose(found.probability_UC[2:], torch.full((3, 2), 0.5, dtype=torch.float64))


def test_a_class_with_more_labels_does_not_spread_further() -> None:
    """The middle of a line of images between one label of a class and three copies of another."""
    line = torch.stack([torch.linspace(0, 1.5, 31).cos(), torch.linspace(0, 1.5, 31).sin()], 1)
    told = torch.cat([line[:1], line[-1:].expand(3, 2)])
    found = spread_labels(told, torch.tensor([0, 1, 1, 1]), line[1:-1], classes=2, neighbours=4)
    assert 10 <= int((found.probability_UC.argmax(1) == 0).sum()) <= 19


def test_many_labels_of_one_of_two_like_clusters_do_not_take_the_other() -> None:
    """The clusters touch, so that labels spread from one to the other."""
    random = torch.Generator().manual_seed(0)
    truth = torch.arange(2).repeat_interleave(200)
    rows = 0.25 * torch.randn(400, 8, generator=random)
    rows[:, 0] += 1
    rows[:, 1] += truth - 0.5
    told = torch.cat([torch.arange(40), torch.tensor([200, 201])])
    rest = torch.tensor([at for at in range(400) if at not in told])
    found = spread_labels(rows[told], truth[told], rows[rest], classes=2).probability_UC.argmax(1)
    assert float((found == truth[rest]).float().mean()) > 0.9


def test_a_label_reaches_an_image_that_has_nearer_neighbours() -> None:
    """Two images at 0 and 2 degrees are nearest to each other, that with the label at 10 degrees to the second."""
    angles = torch.deg2rad(torch.tensor([10.0, 180, 2, 0]))
    rows = torch.stack([angles.cos(), angles.sin()], 1)
    found = spread_labels(rows[:2], torch.tensor([0, 1]), rows[2:], classes=2, neighbours=1)
    assert found.certainty_U.tolist() == pytest.approx([1, 1])
    assert found.probability_UC.argmax(1).tolist() == [0, 0]


@pytest.fixture
def head() -> RidgeHead:
    return RidgeHeadConfig().build(groups=[8], classes=2)


def clusters(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Two long thin clusters side by side in 8 dimensions: one image tells nothing of where they end."""
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(2).repeat_interleave(count)
    rows = 0.1 * torch.randn(2 * count, 8, generator=random)
    rows[:, 0] += 3 * torch.rand(2 * count, generator=random) - 1.5
    rows[:, 1] += labels - 0.5
    return rows, labels


def test_others_teach_what_a_few_labels_cannot(head: RidgeHead) -> None:
    rows, truth = clusters(200, seed=0)
    tested, answers = clusters(200, seed=1)
    told = torch.tensor([int(rows[:200, 0].argmax()), 200 + int(rows[200:, 0].argmin())])  # at opposite ends

    def right() -> float:
        return float((head(tested[:, None]).argmax(1) == answers).float().mean())

    head.fit(rows[told][:, None], truth[told])
    alone = right()
    rest = [at for at in range(len(rows)) if at not in told]
    found = fit_with_others(head, rows[told][:, None], truth[told], Others(rows[rest], neighbours=6))
    assert float((found.probability_UC.argmax(1) == truth[rest]).float().mean()) > 0.95
    assert alone < 0.8 < 0.95 < right()


def test_others_that_weigh_nothing_change_nothing_but_the_statistics(head: RidgeHead) -> None:
    rows, truth = clusters(20, seed=0)
    head.fit(rows[:, None], truth)
    weight, bias = head.weight_CD.clone(), head.bias_C.clone()
    fit_with_others(head, rows[:, None], truth, Others(rows, weight=1e-9))  # the same images: the same statistics
    assert torch.allclose(head.weight_CD, weight, atol=1e-5)
    assert torch.allclose(head.bias_C, bias, atol=1e-5)


def test_an_image_on_which_head_and_graph_disagree_does_not_count(head: RidgeHead) -> None:
    rows, truth = clusters(20, seed=0)
    others = clusters(20, seed=1)[0]
    head.fit(rows[:, None], truth)
    agreed = fit_with_others(head, rows[:, None], truth, Others(others))
    assert float((agreed.certainty_U > 0).float().mean()) > 0.9
    head.fit(rows[:, None], 1 - truth)  # a head that takes everything for the other class
    weight = head.weight_CD.clone()
    found = fit_with_others(head, rows[:, None], truth, Others(others))
    assert float((found.certainty_U > 0).float().mean()) < 0.1
    assert torch.equal(found.probability_UC, agreed.probability_UC)
    assert not torch.allclose(head.weight_CD, weight)  # it is fitted to the labels it is given all the same


def test_no_image_weighs_more_than_a_labelled_one(head: RidgeHead) -> None:
    rows, truth = clusters(20, seed=0)
    fitted = []
    for weight in (1.0, 1000.0):
        head.fit(rows[:, None], truth)
        fit_with_others(head, rows[:, None], truth, Others(clusters(1, seed=3)[0][:1], weight=weight))
        fitted.append(head.weight_CD.clone())
    assert torch.equal(*fitted)
