import torch
from torch import nn

from pangu_cv.pretrain.soft_nce import soft_nce


def test_one_target_each_is_cross_entropy() -> None:
    similarity, labels = torch.randn(6, 9), torch.randint(0, 9, (6,))
    expected = nn.functional.cross_entropy(similarity, labels)
    torch.testing.assert_close(soft_nce(similarity, nn.functional.one_hot(labels, 9).float()), expected)


def test_several_targets_are_supcon() -> None:
    """L_out of Khosla et al.: the mean of log-probabilities over positives."""
    similarity = torch.randn(4, 5)
    targets = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [1, 0, 1, 1, 0], [0, 0, 0, 0, 1.0]])
    log_q = similarity.log_softmax(1)
    expected = torch.stack([-log_q[row][targets[row] > 0].mean() for row in range(4)]).mean()
    torch.testing.assert_close(soft_nce(similarity, targets), expected)


def test_scale_of_a_row_does_not_matter() -> None:
    similarity, targets = torch.randn(3, 4), torch.rand(3, 4)
    scaled = targets * torch.tensor([[0.1], [1.0], [30.0]])
    torch.testing.assert_close(soft_nce(similarity, targets), soft_nce(similarity, scaled))


def test_candidate_taken_out_and_anchor_without_target_count_nowhere() -> None:
    similarity = torch.randn(3, 4)
    targets = torch.eye(3, 4)[[1, 2, 0]]
    targets[2] = 0
    similarity[:, 3] = float("-inf")
    without = soft_nce(similarity[:2, :3], targets[:2, :3])
    torch.testing.assert_close(soft_nce(similarity, targets), without)


def test_no_target_at_all_is_a_zero_with_a_gradient() -> None:
    similarity = torch.randn(3, 4, requires_grad=True)
    loss = soft_nce(similarity, torch.zeros(3, 4))
    loss.backward()
    assert loss.item() == 0
    assert similarity.grad is not None
    assert similarity.grad.abs().max() == 0
