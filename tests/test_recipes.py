"""Every recipe that comes with the package loads, and runs end to end on tiny images."""

import json
from pathlib import Path

import pytest

from pangu_cv import recipes
from pangu_cv.errors import SettingsError
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.recipes import ShippedRecipe
from tests.finetune.tiny import class_folders, mvtec

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "recipes").rglob("*.yaml"))


def test_there_are_recipes_and_all_are_listed() -> None:
    assert FILES
    assert [r.path for r in recipes.shipped()] == FILES
    assert all(r.about and not r.about.startswith("#") for r in recipes.shipped())


@pytest.mark.parametrize("recipe", recipes.shipped(), ids=lambda r: f"{r.stage}/{r.name}")
def test_recipe_runs_end_to_end(recipe: ShippedRecipe, tmp_path: Path) -> None:
    """The network of the recipe itself, with random weights and few pixels."""
    assert recipe.stage == "finetune", "say here how a recipe of the new stage is run"
    loaded = FinetuneRecipe.load(recipe.path, ["data.path=x"])
    data = (mvtec if loaded.task.kind == "anomaly" else class_folders)(tmp_path / "data")
    shots = [] if loaded.few_shot.shots is None else ["few_shot.shots=2"]
    overrides = ["task.backbone.weights=random", "task.preprocess.image_px=64", f"data.path={data}"]
    result = finetune(FinetuneRecipe.load(recipe.path, [*overrides, *shots, f"output={tmp_path / 'run'}"]))
    assert result.report.is_file()
    assert json.loads((result.folder / "metrics.json").read_text())["task"] == loaded.task.kind
    assert FinetuneRecipe.load(result.folder / "recipe.yaml").task.kind == loaded.task.kind


def test_recipe_is_found_by_name_or_path(tmp_path: Path) -> None:
    assert recipes.find("finetune", "classify") == ROOT / "recipes" / "finetune" / "classify.yaml"
    mine = tmp_path / "mine.yaml"
    mine.write_text("task: {}")
    assert recipes.find("finetune", str(mine)) == mine


def test_unknown_recipe_names_those_there_are() -> None:
    with pytest.raises(SettingsError, match="there are: anomaly, classify"):
        recipes.find("finetune", "clasify")
    with pytest.raises(SettingsError, match="no shipped nowhere recipe"):
        recipes.find("nowhere", "classify")
