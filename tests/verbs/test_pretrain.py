import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pangu_cv import cli
from pangu_cv.pretrain.scores import Score
from tests.pretrain import small

Shown = pytest.CaptureFixture[str]


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["pretrain", *map(str, arguments)])
    return int(stopped.value.code or 0)


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "run", optim={"steps": 2, "batch": 8})
    path = tmp_path / "recipe.yaml"
    path.write_text(made.to_yaml())
    return path


@pytest.fixture
def probes_say(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """What the probes find after the start, where they find 0.5."""

    def set_up(after: float) -> None:
        found = iter([0.5, after])

        def measure(*_: Any) -> list[Score]:
            return [small.score(next(found))]

        monkeypatch.setattr("pangu_cv.pretrain.stage.measure_all", measure)

    return set_up


def test_gain_is_printed_and_the_model_is_next(
    recipe: Path, probes_say: Callable[[float], None], capsys: Shown, tmp_path: Path
) -> None:
    probes_say(0.6)
    assert run(recipe) == 0
    shown = capsys.readouterr().out
    assert "50.0% → 60.0%  use it" in shown
    assert "+10.0 points on the mean of 1 target(s): use it" in shown
    assert "Next: pangu-cv finetune" in shown
    assert f"task.backbone.weights={tmp_path / 'run' / 'model'} task.backbone.name=test_vit" in shown


def test_without_gain_the_original_is_next(recipe: Path, probes_say: Callable[[float], None], capsys: Shown) -> None:
    probes_say(0.4)
    assert run(recipe) == 0
    shown = capsys.readouterr().out
    assert "keep the original" in shown
    assert "Next, with the original weights: pangu-cv finetune" in shown
    assert "task.backbone.weights=random task.backbone.name=test_vit" in shown


def test_without_targets_the_model_is_next(recipe: Path, capsys: Shown, tmp_path: Path) -> None:
    assert run(recipe, "targets=[]") == 0
    shown = capsys.readouterr().out
    assert "No target was named" in shown
    assert f"task.backbone.weights={tmp_path / 'run' / 'model'}" in shown


def test_json_is_all_that_a_program_reads(recipe: Path, capsys: Shown, tmp_path: Path) -> None:
    assert run(recipe, "--json") == 0
    shown = capsys.readouterr()
    told = json.loads(shown.out)
    written = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert told == {name: value for name, value in written.items() if name != "environment"}
    assert "step 2 of 2" in shown.err


def test_plan_counts_and_trains_nothing(recipe: Path, capsys: Shown, tmp_path: Path) -> None:
    assert run(recipe, "--plan") == 0
    assert "test_vit" in capsys.readouterr().out
    assert run(recipe, "--plan", "--json", "engine.devices=2") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["backbone"], told["devices"]) == ("test_vit", 2)
    assert not (tmp_path / "run").exists()
