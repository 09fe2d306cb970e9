import pytest
import torch

from pangu_cv.pretrain.neighbours import nearest_images, purity
from pangu_cv.pretrain.relations import UNKNOWN


def test_nearest_first_and_never_oneself() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3, 3.0])
    features = torch.stack([angles.cos(), angles.sin()], 1) * torch.tensor([[1], [5], [2], [9.0]])
    found = nearest_images(features, k=2, source_M=torch.zeros(4, dtype=torch.int64))
    assert found.tolist() == [[1, 2], [0, 2], [1, 0], [2, 1]]


def test_neighbours_are_of_the_same_dataset() -> None:
    features = torch.eye(4)[[0, 0, 0, 1]]
    found = nearest_images(features, k=3, source_M=torch.tensor([0, 1, 0, 1]))
    assert found.tolist() == [
        [2, UNKNOWN, UNKNOWN],
        [3, UNKNOWN, UNKNOWN],
        [0, UNKNOWN, UNKNOWN],
        [1, UNKNOWN, UNKNOWN],
    ]


def test_mutual_drops_one_sided_pairs() -> None:
    angles = torch.tensor([0.0, 0.1, 0.3])
    features = torch.stack([angles.cos(), angles.sin()], 1)
    found = nearest_images(features, k=1, source_M=torch.zeros(3, dtype=torch.int64), mutual=True)
    assert found.tolist() == [[1], [0], [UNKNOWN]]


def test_blocks_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    features = torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    source = torch.arange(50) % 3
    whole = nearest_images(features, k=5, source_M=source)
    monkeypatch.setattr("pangu_cv.pretrain.neighbours._BLOCK", 7)
    assert torch.equal(whole, nearest_images(features, k=5, source_M=source))


def test_purity_counts_labelled_pairs() -> None:
    near = torch.tensor([[1, 2], [0, UNKNOWN], [0, 1]])
    assert purity(near, ["a", "a", "b"]) == pytest.approx(2 / 5)
    assert purity(near, [None, None, "b"]) is None
