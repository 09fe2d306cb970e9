"""Every recipe that comes with the package loads, and runs end to end on tiny images."""

import json
import re
import shlex
from pathlib import Path

import pytest

from pangu_cv import cli, recipes
from pangu_cv.distill import DistillRecipe, distill
from pangu_cv.errors import SettingsError
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.iterate.fuse import FuseRecipe, fuse
from pangu_cv.iterate.mine import MineRecipe
from pangu_cv.pretrain import PretrainRecipe, pretrain
from pangu_cv.recipes import ShippedRecipe
from pangu_cv.settings import Settings
from pangu_cv.workflows.loop import InTerminal, LoopRecipe, run_loop
from tests.finetune.tiny import boxed, class_folders, masked, mvtec, tagged
from tests.iterate.plants import ancestor

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "recipes").rglob("*.yaml"))


def test_there_are_recipes_and_all_are_listed() -> None:
    assert FILES
    assert [r.path for r in recipes.shipped()] == FILES
    assert all(r.about and not r.about.startswith("#") for r in recipes.shipped())


TAKES: dict[str, type[Settings]] = {
    "distill": DistillRecipe,
    "finetune": FinetuneRecipe,
    "fuse": FuseRecipe,
    "loop": LoopRecipe,
    "mine": MineRecipe,
    "pretrain": PretrainRecipe,
}


@pytest.mark.parametrize("recipe", recipes.shipped(), ids=lambda r: f"{r.stage} {r.name}")
def test_command_that_a_copy_is_given_runs_it(
    recipe: ShippedRecipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "my recipe.yaml"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["recipe", "copy", recipe.stage, recipe.name, str(target)])
    assert not stopped.value.code
    program, verb, file, *settings = shlex.split(capsys.readouterr().out.partition("Next: ")[2])
    assert (program, Path(file)) == ("pangu-cv", target)
    assert verb in cli.app
    assert TAKES[verb].load(target, settings)


@pytest.mark.parametrize("recipe", recipes.shipped(), ids=lambda r: f"{r.stage} {r.name}")
def test_every_command_in_its_comment_is_whole(recipe: ShippedRecipe) -> None:
    comment = "".join(line for line in recipe.path.read_text().splitlines(keepends=True) if line.startswith("#"))
    commands = [line for verb, line in re.findall(r"pangu-cv (\w+) (.*)", comment) if verb == recipe.verb]
    for name, *words in map(shlex.split, commands):
        assert name == recipe.name
        assert TAKES[recipe.verb].load(recipe.path, [word for word in words if not word.startswith("--")])


def of_stage(stage: str) -> list[ShippedRecipe]:
    return [recipe for recipe in recipes.shipped() if recipe.stage == stage]


def test_every_stage_with_recipes_is_run_below() -> None:
    assert {recipe.stage for recipe in recipes.shipped()} == {"distill", "finetune", "iterate", "loop", "pretrain"}


@pytest.mark.parametrize("recipe", of_stage("finetune"), ids=lambda r: r.name)
def test_recipe_runs_end_to_end(recipe: ShippedRecipe, tmp_path: Path) -> None:
    """The network of the recipe itself, with random weights and few pixels."""
    loaded = FinetuneRecipe.load(recipe.path, ["data.path=x"])
    makers = {
        "classify": class_folders,
        "multilabel": tagged,
        "anomaly": mvtec,
        "segment": masked,
        "detect": boxed,
    }
    data = makers[loaded.task.kind](tmp_path / "data")
    shots = [] if loaded.few_shot.shots is None else ["few_shot.shots=2"]
    overrides = ["task.backbone.weights=random", "task.preprocess.image_px=64", f"data.path={data}"]
    overrides += ["train.steps=1", "train.workers=0"]
    result = finetune(FinetuneRecipe.load(recipe.path, [*overrides, *shots, f"output={tmp_path / 'run'}"]))
    assert result.report.is_file()
    assert json.loads((result.folder / "metrics.json").read_text())["task"] == loaded.task.kind
    assert FinetuneRecipe.load(result.folder / "recipe.yaml").task.kind == loaded.task.kind


@pytest.mark.parametrize("recipe", of_stage("pretrain"), ids=lambda r: r.name)
def test_pretraining_recipe_runs_one_step(recipe: ShippedRecipe, tmp_path: Path) -> None:
    """A tiny network on one process; the objective and the views are the recipe's."""
    if PretrainRecipe.load(recipe.path, ["data=x"]).objective.kind == "dino":
        pytest.importorskip("lightly")
    tiny = ["backbone.name=test_vit", "backbone.weights=random", "backbone.arguments={}"]
    tiny += ["views.image_px=64", "views.local_px=32", "optim.steps=1", "optim.batch=4", "round_steps=1"]
    tiny += ["engine={accelerator: cpu, workers: 0}", f"output={tmp_path / 'run'}", "cache_gb=1"]
    if recipe.name == "embedded":
        tiny.append("objective.teachers=[{backbone: {name: test_efficientnet, weights: random}}]")
    made = PretrainRecipe.load(recipe.path, [*tiny, f"data={class_folders(tmp_path / 'data')}"])
    result = pretrain(made)
    assert result.report.is_file()
    assert result.metrics["steps"] == 1
    assert PretrainRecipe.load(result.folder / "recipe.yaml") == made


@pytest.mark.slow
@pytest.mark.parametrize("recipe", of_stage("distill"), ids=lambda r: r.name)
def test_distilling_recipe_runs_one_step(recipe: ShippedRecipe, tmp_path: Path) -> None:
    """The recipe's own search and losses on a tiny teacher."""
    data = class_folders(tmp_path / "data", train=6, test=2)
    tiny = ["task.backbone={name: test_vit, weights: random, levels: [2, 3, 4]}", "task.preprocess.image_px=64"]
    tiny += [f"data.path={data}", "few_shot.shots=4", f"output={tmp_path / 'run'}", "cache=false"]
    finetune(FinetuneRecipe.load(recipes.find("finetune", "classify"), tiny))
    lines = [f"model={tmp_path / 'run'}", f"data.path={data}", f"output={tmp_path / 'small'}", "train.steps=1"]
    own = {
        "extract": ["budget.params_m=0.2", "student.looked_at=2", "student.front=0", "student.tried=1"],
        "student": ["budget.params_m=0.29", "student.name=test_efficientnet", "student.weights=random"],
    }
    made = DistillRecipe.load(recipe.path, [*lines, *own[recipe.name], "variants=2"])
    result = distill(made)
    assert result is not None
    assert result.report.is_file()
    assert DistillRecipe.load(result.folder / "recipe.yaml") == made


def test_fusing_recipe_makes_one_of_two(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=6, test=2)
    tiny = ["task.backbone={name: test_vit, weights: random, levels: [2, 3, 4]}", "task.preprocess.image_px=64"]
    for name in ("one", "other"):
        lines = [f"data.path={data}", "few_shot.shots=3", f"output={tmp_path / name}", "cache=false"]
        finetune(FinetuneRecipe.load(recipes.find("finetune", "classify"), [*tiny, *lines]))
    models = f"models=[{tmp_path / 'one'}, {tmp_path / 'other'}]"
    lines = [models, f"data.path={data}", f"output={tmp_path / 'fused'}", "cache=false"]
    result = fuse(made := FuseRecipe.load(recipes.find("iterate", "fuse"), lines))
    assert result.report.is_file()
    assert FuseRecipe.load(result.folder / "recipe.yaml") == made


@pytest.mark.parametrize("recipe", of_stage("loop"), ids=lambda r: r.name)
def test_loop_recipe_closes_a_round(recipe: ShippedRecipe, tmp_path: Path) -> None:
    """A table answers; the network of the recipe would be drawn anew each time, so a file's is taken."""
    data = class_folders(tmp_path / "data", train=10, test=0)
    network = f"task.backbone={{name: test_efficientnet, weights: {ancestor(tmp_path / 'start.safetensors')}}}"
    lines = [f"images={data}", f"oracle={data}", "classes=[blue, red]", "gate_images=6", "count=10", "rounds=1"]
    lines += [network, "task.preprocess.image_px=64", f"output={tmp_path / 'run'}"]
    made = LoopRecipe.load(recipe.path, lines)
    result = run_loop(made, people=InTerminal("nobody"), say=lambda _: None)
    assert result.bundle is not None
    assert result.report.is_file()
    assert LoopRecipe.load(result.folder / "recipe.yaml") == made


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
