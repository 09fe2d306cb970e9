import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace as Namespace
from typing import Any

import numpy as np
import pytest

from pangu_cv.data.sample import Sample
from pangu_cv.errors import GpuMemoryError, SettingsError
from pangu_cv.finetune import FinetuneRecipe, detect, finetune, segment
from pangu_cv.finetune.auto import Auto, Trial, choose
from pangu_cv.finetune.fitting import chosen_way
from pangu_cv.models.adapt import Adapt, Full, Linear, Partial
from tests.finetune.tiny import QUICK, boxed, class_folders, masked, recipe

SUPPORT = [Sample(Path(f"{label}{n}.png"), label=label) for label in "abc" for n in range(5)]


def trial_of(worth: dict[str, Sequence[float]], seconds: float = 0.0) -> Trial:
    """A way is worth so much on every other image."""

    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> list[float]:
        assert not set(learnt) & set(held)
        assert {s.label for s in learnt} == set("abc")
        if way.kind != "frozen":
            time.sleep(seconds)
        return [worth[way.kind][n % 2] for n in range(len(held))]

    return trial


def test_ways_are_compared_on_the_folds_that_both_have() -> None:
    """The first trial of all is slow (imports, weights): another way is late for that fold and not for the next."""
    calls = []

    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> list[float]:
        calls.append(way.kind)
        time.sleep(0.3 if len(calls) == 1 else 0.01)
        return [0.5 if way.kind == "frozen" else 0.9] * len(held)

    odd = [s for s in SUPPORT if s.path.name != "a0.png"]
    found = choose(Auto(ways=(Linear(),)), odd, trial, seed=0, seconds=0.5)
    assert len(found.tried[1].worth) < len(found.tried[0].worth)
    assert found.way == Linear()


def test_a_clear_winner_is_taken() -> None:
    config = Auto(ways=(Linear(), Full()))
    found = choose(
        config, SUPPORT, trial_of({"frozen": (0.5, 0.6), "linear": (0.7, 0.8), "full": (0.6, 0.7)}), seed=0, seconds=9
    )
    assert found.way == Linear()
    assert [round(one.score or 0, 2) for one in found.tried] == [0.53, 0.73, 0.63]


def test_the_yardstick_is_kept_where_none_is_better() -> None:
    trial = trial_of({"frozen": (0.5, 0.5), "linear": (0.5, 0.5)})
    found = choose(Auto(ways=(Linear(),)), SUPPORT, trial, seed=0, seconds=9)
    assert found.tried[1].score == found.tried[0].score
    assert found.way.kind == "frozen"


def test_time_is_kept_and_what_was_not_tried_is_said() -> None:
    config = Auto(ways=(Linear(), Full()))
    worth = {"frozen": (0.5, 0.5), "linear": (0.6, 0.6), "full": (0.6, 0.6)}
    began = time.monotonic()
    found = choose(config, SUPPORT, trial_of(worth, seconds=0.1), seed=0, seconds=0.25)
    assert time.monotonic() - began < 0.6
    assert len(found.tried[0].worth) == 5
    assert len(found.tried[1].worth) < 5


def test_a_way_that_the_network_cannot_take_leaves_the_others() -> None:
    usual = trial_of({"frozen": (0.5, 0.5), "linear": (0.6, 0.6)})

    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> Sequence[float]:
        if way.kind == "partial":
            raise SettingsError("adapt.kind: this network has no blocks")
        return usual(way, learnt, held, seed)

    found = choose(Auto(ways=(Partial(), Linear())), SUPPORT, trial, seed=0, seconds=9)
    assert found.way == Linear()
    assert [one.as_json()["given_up"] for one in found.tried] == ["", "adapt.kind: this network has no blocks", ""]


def test_a_run_says_what_it_tried(tmp_path: Path) -> None:
    settings = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "few_shot.shots=3", "train.steps=2")
    settings += ("train.batch=3", "train.workers=0", "adapt={kind: auto, folds: 2, ways: [{kind: linear}]}")
    result = finetune(recipe("classify", class_folders(tmp_path / "data"), tmp_path / "run", *settings))
    draw = result.metrics["draws"][0]
    assert [one["way"]["kind"] for one in draw["tried"]] == ["frozen", "linear"]
    assert draw["way"]["kind"] in ("frozen", "linear")
    assert "What was tried" in result.report.read_text()


def test_a_way_too_slow_for_its_share_is_given_up_at_once(tmp_path: Path) -> None:
    settings = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "few_shot.shots=3", "train.steps=100000")
    settings += ("train.batch=3", "train.workers=0", "adapt={kind: auto, folds: 2, seconds: 2, ways: [{kind: linear}]}")
    began = time.monotonic()
    result = finetune(recipe("classify", class_folders(tmp_path / "data"), tmp_path / "run", *settings))
    assert time.monotonic() - began < 60
    draw = result.metrics["draws"][0]
    assert [one["folds"] for one in draw["tried"]] == [2, 0]
    assert draw["way"]["kind"] == "frozen"
    assert "no time" in result.report.read_text()


@pytest.mark.parametrize("kind", ["segment", "detect"])
def test_dense_tasks_try_ways_that_move_the_backbone(tmp_path: Path, kind: str) -> None:
    data = (masked if kind == "segment" else boxed)(tmp_path / "data")
    auto = "adapt={kind: auto, folds: 2, ways: [{kind: linear}, {kind: partial, blocks: 1}]}"
    result = finetune(recipe(kind, data, tmp_path / "run", *QUICK, "train.steps=2", auto))
    [draw] = result.metrics["draws"]
    assert [(one["way"]["kind"], one["folds"]) for one in draw["tried"]] == [("frozen", 2), ("partial", 2)]
    assert "What was tried" in result.report.read_text()


def test_an_image_left_out_is_worth_its_ap50_or_f1_and_without_boxes_the_silence_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imagined = [Namespace(score_K=np.array(scores)) for scores in ([0.1, 0.3], [])]
    outcomes = [Namespace(ap50=0.4), *(Namespace(ap50=None, found=[found]) for found in imagined)]
    left = iter(outcomes)
    fitted: list[tuple[Adapt, Sequence[Sample]]] = []

    def fit(
        task: Any, tried: FinetuneRecipe, classes: Any, learnt: Sequence[Sample], *, seed: int
    ) -> tuple[None, None]:
        fitted.append((tried.adapt, learnt))
        return None, None

    for module, name in ((detect, "fit_boxes"), (segment, "fit_masks")):
        monkeypatch.setattr(module, name, fit)
    monkeypatch.setattr(detect, "evaluate_detect", lambda decider, images, **_: Namespace(outcome=next(left)))
    by_f1 = Namespace(outcome=Namespace(f1_per_image_N=np.array([0.9, 0.2])))
    monkeypatch.setattr(segment, "evaluate_segment", lambda decider, images, **_: by_f1)
    for module, worth in ((detect, [0.4, 0.7, 1.0]), (segment, [0.9, 0.2])):
        asked = recipe(module.__name__.split(".")[-1], tmp_path, tmp_path / "run")
        trial = module._trial(asked.task, asked, ("a",))
        assert trial(Full(), SUPPORT[3:], SUPPORT[: len(worth)], 0) == pytest.approx(worth)
    assert fitted == [(Full(), SUPPORT[3:])] * 2


def test_dense_trials_share_the_time_equally(tmp_path: Path) -> None:
    auto = "adapt={kind: auto, folds: 5, seconds: 60, ways: [{kind: partial}, {kind: full}, {kind: linear}]}"
    seen = []

    def trial(brief: FinetuneRecipe) -> Trial:
        seen.append(brief.train.max_seconds)
        return trial_of({"frozen": (0.5, 0.5), "partial": (0.5, 0.5), "full": (0.7, 0.7)})

    asked = recipe("segment", tmp_path, tmp_path / "run", auto)
    found, choice = chosen_way(asked, SUPPORT, trial, seed=0)
    assert seen == [60 / (3 * 5)]
    assert choice is not None
    assert found.adapt == Full()
    assert found.train.max_seconds is None  # the way that is taken is trained as the recipe says


def test_a_way_that_does_not_fit_the_gpu_is_given_up_and_the_others_go_on() -> None:
    def trial(way: Adapt, learnt: Sequence[Sample], held: Sequence[Sample], seed: int) -> list[float]:
        if way.kind == "full":
            raise GpuMemoryError("full")
        return [0.5 if way.kind == "frozen" else 0.9] * len(held)

    found = choose(Auto(ways=(Full(), Linear())), SUPPORT, trial, seed=0, seconds=60)
    assert found.way == Linear()
    assert [one.given_up for one in found.tried] == ["", "no memory on the GPU", ""]
