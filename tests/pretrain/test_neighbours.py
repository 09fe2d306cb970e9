import numpy as np
import pytest
import torch

from pangu_cv.pretrain import neighbours
from pangu_cv.pretrain.neighbours import nearest_images, of_all, sample
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


@pytest.mark.parametrize("mutual", [False, True])
def test_lists_are_exact_up_to_the_limit(mutual: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "MOST", 30)
    features = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    source = np.arange(30) % 2
    numbers = torch.from_numpy(sample(source, np.array([7]), seed=[0]))
    near = nearest_images(features[numbers], k=4, source_M=torch.from_numpy(source)[numbers], mutual=mutual)
    unit = torch.nn.functional.normalize(features, dim=1)
    cosine = (unit @ unit.T).masked_fill(
        torch.eye(30, dtype=torch.bool) | (torch.from_numpy(source)[:, None] != torch.from_numpy(source)), -2
    )
    expected = cosine.argsort(1, descending=True)[:, :4]
    if mutual:
        expected = torch.tensor([[n if m in expected[n] else UNKNOWN for n in expected[m].tolist()] for m in range(30)])
    assert torch.equal(of_all(near, numbers, 30), expected)


def test_beyond_the_limit_datasets_share_the_sample_and_those_asked_for_come_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(neighbours, "MOST", 40)
    source = np.repeat([0, 1, 2, 3], [900, 6, 700, 50])
    first = np.array([3, 899, 901, 1000])
    numbers = sample(source, first, seed=[1, 2])
    assert set(first) <= set(numbers)
    assert np.bincount(source[numbers], minlength=4).tolist() == [2 + 16, 1 + 5, 1 + 15, 0]
    assert np.all(np.diff(numbers) > 0)
    assert np.array_equal(numbers, sample(source, first, seed=[1, 2]))
    assert not np.array_equal(numbers, sample(source, first, seed=[1, 3]))
    assert sample(source, np.arange(60), seed=[0]).tolist() == list(range(60))


def test_lists_of_a_sample_name_images_of_all() -> None:
    near = torch.tensor([[2, 1], [0, UNKNOWN], [UNKNOWN, UNKNOWN]])
    unknown = [UNKNOWN, UNKNOWN]
    assert of_all(near, torch.tensor([1, 3, 4]), 5).tolist() == [unknown, [4, 3], unknown, [1, UNKNOWN], unknown]
