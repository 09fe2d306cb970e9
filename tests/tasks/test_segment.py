import math

import pytest
import torch

from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.segment import SegmentConfig

# Shares of background, crack and a class that no pixel shows: a crack, half of one, none; the last pixel is ignored.
SHARE = torch.tensor([[[[0.0, 0.5], [1.0, 0.0]], [[1.0, 0.5], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]]])
COUNTS = torch.tensor([[[1.0, 1.0], [1.0, 0.0]]])
FOUND = torch.tensor([[[[0.2, 0.4], [0.8, 0.9]], [[0.8, 0.6], [0.2, 0.1]], [[1e-9, 1e-9], [1e-9, 1e-9]]]])


def test_losses_are_those_by_hand_and_ignored_pixels_teach_nothing() -> None:
    backbone = BackboneConfig(name="test_efficientnet", weights="random", levels=(1, 2, 3, 4))
    model = SegmentConfig(backbone=backbone, preprocess=PreprocessConfig(image_px=64)).build(["background", "a", "b"])
    logits = FOUND.log().requires_grad_(True)
    losses = model.losses(logits, SHARE, COUNTS)
    assert set(losses) == {"cross_entropy", "dice"}
    assert losses["cross_entropy"].item() == pytest.approx(-math.log(0.8 * 0.8 * math.sqrt(0.4 * 0.6)) / 3, abs=1e-6)
    overlap, found, truth = 0.8 + 0.5 * 0.6, 0.8 + 0.6 + 0.2, 1 + 0.5
    assert losses["dice"].item() == pytest.approx(1 - 2 * overlap / (found + truth), abs=1e-6)
    for loss in losses.values():
        [gradient] = torch.autograd.grad(loss, logits, retain_graph=True)
        assert (gradient.abs().sum(1) > 1e-3).tolist() == [[[True, True], [True, False]]]
        assert not gradient[..., 1, 1].any()
