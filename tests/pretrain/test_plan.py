from pathlib import Path

import pytest

from pangu_cv import recipes
from pangu_cv.pretrain import PretrainRecipe
from pangu_cv.pretrain.plan import plan
from tests.pretrain import small


def test_recipe_of_three_billion_has_three_billion() -> None:
    made = plan(PretrainRecipe.load(recipes.find("pretrain", "vit_3b"), ["data=x"]))
    assert made.backbone_parameters == pytest.approx(3.02e9, rel=0.005)
    states = made.weights_gb + made.gradients_gb + made.optimiser_gb
    assert states == pytest.approx(4 * 4 * 3.02, rel=0.04)  # 32 bits all through; the heads are the rest
    assert made.devices == 32
    assert made.on_device_gb < 80
    assert made.least_devices is not None
    assert "3.0" in made.text()


def test_checkpointing_saves_and_fewer_devices_hold_more(tmp_path: Path) -> None:
    few = plan(small.recipe(tmp_path, tmp_path))
    less = plan(small.recipe(tmp_path, tmp_path, engine={"checkpointing": True}))
    shared = plan(small.recipe(tmp_path, tmp_path, engine={"devices": 4, "strategy": "fsdp"}))
    assert less.activations_gb < few.activations_gb
    assert shared.on_device_gb < few.on_device_gb
