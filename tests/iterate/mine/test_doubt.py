"""Doubt is high where a decision is close."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from pangu_cv.iterate.mine import doubt
from pangu_runtime.decode import DEFAULT_SPEC
from tests.finetune.tiny import save


def test_a_small_lead_is_a_large_doubt() -> None:
    found = doubt._margin(torch.tensor([[0.5, 0.5, 0], [0.9, 0.1, 0], [0, 0, 1]]))
    assert found.tolist() == pytest.approx([1, 0.2, 0])


def test_a_score_at_the_threshold_is_a_large_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a detector of anomalies, whose score is the share of red here."""

    def run(image_1HW3: np.ndarray) -> dict[str, np.ndarray]:
        score = image_1HW3[..., 0].mean(keepdims=True).ravel() / 255
        return {"score": score, "is_anomalous": score > 0.5, "map": image_1HW3[..., 0], "threshold_applied": [0.5]}

    monkeypatch.setattr(doubt, "TorchDecider", lambda model: SimpleNamespace(run=run))
    grey = [save(tmp_path / f"{level}.png", np.full((8, 8, 3), level, np.uint8)) for level in (0, 127, 191)]
    model = SimpleNamespace(config=SimpleNamespace(kind="anomaly"))
    pool = _Images([*grey, tmp_path / "gone.png"])
    assert doubt._decided(model, pool, DEFAULT_SPEC, None).tolist() == pytest.approx([0, 1, 0.5, 0], abs=0.01)


class _Images:
    """As much of a pool as is needed."""

    def __init__(self, images: list[Path]) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)
