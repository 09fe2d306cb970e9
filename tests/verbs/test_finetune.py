import json
from pathlib import Path
from typing import Any

import pytest

from pangu_cv import cli, recipes
from pangu_cv.verbs.finetune import figures
from tests.finetune.tiny import Made


def interval(mean: float, low: float | None, high: float | None) -> dict[str, Any]:
    return {"mean": mean, "low": low, "high": high, "n": 9}


def told(task: str, key: str, *draws: dict[str, Any], over_draws: dict[str, Any]) -> str:
    """The lines of a run whose figure ``key`` has these intervals over images, draw by draw."""
    common = {"labelled": 6, "images": 9, "seconds": 1.0, "learning": 10, "expected_calibration_error": 0.1}
    other = dict.fromkeys(("ap", "ap50", "mean_iou", "f1"), over_draws)
    found = [common | {"intervals": other | {key: one}} for one in draws]
    return "\n".join(figures({"task": task, "skipped": [], "draws": found, **other, key: over_draws}))


@pytest.mark.parametrize(
    ("task", "key"), [("classify", "balanced_accuracy"), ("detect", "ap50"), ("detect", "ap"), ("segment", "f1")]
)
def test_the_interval_of_one_draw_is_that_over_its_images(task: str, key: str) -> None:
    alone = interval(0.8, None, None)
    assert "80.0% [70.0%, 90.0%]" in told(task, key, interval(0.8, 0.7, 0.9), over_draws=alone)
    several = told(task, key, interval(0.8, 0.7, 0.9), interval(0.6, 0.5, 0.7), over_draws=interval(0.7, 0.6, 0.75))
    assert "70.0% [60.0%, 75.0%]" in several


def test_an_interval_of_no_width_is_none() -> None:
    assert "100.0% on 9" in told("segment", "f1", interval(1, 1, 1), over_draws=interval(1, None, None))


def test_draws_that_are_all_alike_tell_the_interval_over_images() -> None:
    alike = [interval(0.8, 0.7, 0.9)] * 2
    assert "80.0% [70.0%, 90.0%]" in told("segment", "f1", *alike, over_draws=interval(0.8, 0.8, 0.8))


def test_no_share_is_told_beyond_what_it_can_be() -> None:
    """Student's interval of two draws knows no bounds."""
    two = [interval(0.05, 0.04, 0.06), interval(0.95, 0.94, 0.96)]
    assert "50.0% [0.0%, 100.0%]" in told("segment", "f1", *two, over_draws=interval(0.5, -5.2, 6.2))


@pytest.mark.parametrize("kind", ["classify", "detect", "segment", "multilabel"])
def test_every_task_writes_the_interval_that_is_told(kind: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(kind)
    metrics = json.loads((Path(made.run) / "metrics.json").read_text())
    lines = "\n".join(figures(metrics))
    first = metrics["draws"][0]["intervals"][
        {"classify": "balanced_accuracy", "detect": "ap50", "segment": "f1", "multilabel": "mean_ap"}[kind]
    ]
    if first["low"] < first["high"]:
        assert f"{first['mean']:.1%} [{first['low']:.1%}, {first['high']:.1%}] on" in lines
    else:
        assert f"{first['mean']:.1%} on" in lines


def test_help_names_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["finetune", "--help"])
    words = capsys.readouterr().out.replace(",", " ").replace(".", " ").split()
    assert {one.name for one in recipes.shipped() if one.verb == "finetune"} <= set(words)
