"""From a model to a smaller one, end to end on tiny images and a tiny network."""

import json
import os
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from filelock import FileLock

from pangu_cv import recipes
from pangu_cv.deploy import export
from pangu_cv.distill import (
    DistillRecipe,
    DistillResult,
    choose,
    costs,
    distill,
    memory,
    settle,
    stage,
    stopwatch,
    teaching,
)
from pangu_cv.distill.budget import Cost
from pangu_cv.distill.recipe import ImagesConfig
from pangu_cv.distill.stopwatch import Stopwatch, millions
from pangu_cv.distill.teaching import Lesson
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.saved import load_model, save_model
from pangu_runtime.images import list_images
from pangu_runtime.probes import measure_probes, read_probes
from tests.finetune.tiny import QUICK, boxed, class_folders, masked, mvtec, recipe, save, tagged

VIT = ("task.backbone.name=test_vit", "task.backbone.weights=random", "cache=false")
TINY = (
    "student.looked_at=2",
    "student.front=1",
    "student.tried=2",
    "student.trial_seconds=1",
    "train.steps=6",
    "train.batch=4",
    "variants=2",
)


@cache
def teacher(kind: str) -> tuple[Path, Path]:
    """A fitted run on a tiny ViT, made once for all tests, and its images; read only."""
    folder = Path(os.environ["PANGU_CV_TESTS_MADE"]) / f"vit-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    images = {"segment": "data/images", "detect": "data/JPEGImages"}.get(kind, "data")
    with FileLock(folder / "lock"):  # tests run in several processes
        if not (folder / "run" / "report.html").is_file():
            torch.manual_seed(0)
            finetune(_recipe_of(kind, folder))
    return folder / "run", folder / images


def _recipe_of(kind: str, folder: Path) -> FinetuneRecipe:
    data, run = folder / "data", folder / "run"
    match kind:
        case "classify":
            return recipe(kind, class_folders(data, train=6, test=4), run, *VIT, "few_shot.shots=4")
        case "multilabel":
            return recipe(kind, tagged(data), run, *VIT, "few_shot.shots=2")
        case "segment":
            return recipe(kind, masked(data, train=9), run, *VIT, *QUICK, "train.steps=20")
        case "detect":
            return recipe(kind, boxed(data, train=9), run, *VIT, *QUICK, "train.steps=20")
        case _:
            return recipe(kind, mvtec(data, normals=20), run, *VIT)


@pytest.fixture(autouse=True)
def _times_are_not_measured(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting takes seconds: only the tests of times export; the others count parameters."""

    def counted(self: Stopwatch, model: TaskModel) -> tuple[Cost, Cost]:
        own, other = (Cost(millions(one), millions(one), 4 * millions(one)) for one in (model, self.teacher))
        return own, other

    monkeypatch.setattr(stopwatch, "_ROUNDS", (1, 1))
    monkeypatch.setattr(settle, "BAND", (0.1, 10.0))  # a tiny network's time is noise; test_settle corrects
    if "measured" not in request.keywords:
        monkeypatch.setattr(Stopwatch, "time", counted)


def taught(run: Path, images: Path, output: Path, *overrides: str, name: str = "extract") -> DistillResult:
    lines = [f"model={run}", f"data.path={images}", f"output={output}", *(TINY if name == "extract" else TINY[4:])]
    result = distill(DistillRecipe.load(recipes.find("distill", name), [*lines, *overrides]))
    assert result is not None
    return result


@pytest.mark.parametrize("kind", ["classify", "multilabel", "anomaly", "segment", "detect"])
def test_every_task_gives_a_smaller_model(kind: str, tmp_path: Path) -> None:
    run, images = teacher(kind)
    large = load_model(run / "model").model
    size = sum(t.numel() for t in large.backbone.network.state_dict().values())
    rest = sum(t.numel() for t in large.state_dict().values()) - size
    result = taught(run, images, tmp_path / "small", f"budget.params_m={(rest + 0.6 * size) / 1e6}")
    small = load_model(result.model)
    assert result.metrics["within"]
    assert sum(t.numel() for t in small.model.backbone.network.state_dict().values()) <= 0.6 * size
    assert small.model.config.kind == kind
    assert result.report.is_file()
    assert not (tmp_path / "small" / "teacher").exists()


@pytest.mark.slow
@pytest.mark.measured
def test_a_share_of_the_time_is_kept_and_timm_alone_loads_what_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every graph is written and runs; its time here is its size, since a tiny network's own is noise."""

    def by_size(kit: Path, **options: Any) -> dict[str, Any]:
        found = measure_probes(kit, **options)
        ms = {probe.name: probe.file.stat().st_size / 1e4 for probe in read_probes(kit)}
        return found | {"probes": {name: one | {"ms": ms[name]} for name, one in found["probes"].items()}}

    for module in (costs, stopwatch):
        monkeypatch.setattr(module, "measure_probes", by_size)
    run, images = teacher("classify")
    few = "student.lattice={sides: [1.0], heads: [1.0], hidden: [1.0, 0.5], least_depth: 3}"
    result = taught(
        run, images, tmp_path / "small", "budget.latency_ratio=0.8", "student.front=3", "student.tried=1", few
    )
    figures = json.loads((result.folder / "metrics.json").read_text())
    network = figures["network"]
    plain = timm.create_model(network["name"], num_classes=0, **network["arguments"])
    plain.load_state_dict(load_model(result.model).model.backbone.network.state_dict())
    assert min(one["cost"]["ms"] for one in figures["candidates"]) > 0
    assert sum(one["is_measured"] for one in figures["candidates"]) == 1
    assert "whole graphs" in figures["timed"]
    assert figures["within"]
    assert 0 < figures["student"]["ms"] < 0.9 * figures["teacher"]["ms"]
    assert figures["steps"] == 6
    made = export(result.model, tmp_path / "bundle", list_images(images)[:4])
    assert made.certificate.holds


def test_only_the_teaching_is_computed_on_a_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[bool]] = {"memory": [], "teaching": []}
    for name, module in (("memory", memory), ("teaching", teaching)):
        monkeypatch.setattr(
            module, "suits_bf16", lambda *_, on_gpu, name=name: bool(asked[name].append(on_gpu)) and on_gpu
        )
    monkeypatch.setattr(teaching, "usable_gpu", lambda: True)
    run, images = teacher("classify")
    taught(run, images, tmp_path / "small", "budget.params_m=0.3")
    assert set(asked["memory"]) == {False}
    assert set(asked["teaching"]) == {False, True}
    assert asked["teaching"][0] is False  # the pupil's head is fitted before it is taught


def test_teaching_brings_the_student_nearer(tmp_path: Path) -> None:
    run, images = teacher("classify")
    more = ("train.steps=60", "train.backbone_lr=1e-3", "student.tried=1")  # trials end by the clock
    result = taught(run, images, tmp_path / "small", "budget.params_m=0.15", *more)
    losses = result.metrics["held_out_loss"]
    assert losses["after"]["decisions"] < 0.5 * losses["before"]["decisions"]
    assert result.metrics["agreement"]["images"] > 0


@pytest.mark.slow
def test_a_killed_run_goes_on_and_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, images = teacher("classify")
    bound = "budget.params_m=0.15"
    whole = taught(run, images, tmp_path / "unbroken", bound, "student.tried=1")
    from pangu_cv.distill import teaching

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(teaching, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        taught(run, images, tmp_path / "broken", bound, "student.tried=1")
    monkeypatch.undo()
    monkeypatch.setattr(choose, "search", killed)  # what was chosen is not chosen again
    again = taught(run, images, tmp_path / "broken", bound, "student.tried=1")
    with pytest.raises(SettingsError, match="holds a model already"):
        taught(run, images, tmp_path / "broken", bound, "student.tried=1")
    one, other = (load_model(result.model).model.state_dict() for result in (whole, again))
    for name, tensor in one.items():
        torch.testing.assert_close(other[name], tensor, msg=name)


def test_the_answers_of_another_teacher_are_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head fitted anew on the same backbone, in the same folder."""
    keys: list[str] = []

    def killed(*_: object, key: str) -> None:
        keys.append(key)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "remember", killed)
    killed_with_a_new_head_at_last(tmp_path, "budget.params_m=0.15")
    assert keys[0] == keys[1] != keys[2]


def killed_with_a_new_head_at_last(folder: Path, budget: str) -> None:
    """Three runs in one folder, the third of a teacher whose head was fitted anew."""
    run, images = teacher("classify")
    model = shutil.copytree(run / "model", folder / "model")
    saved = load_model(model)
    for shift in (0, 0, 1):
        if shift:
            saved.model.head.bias_C.add_(shift)  # type: ignore[union-attr, operator]
            save_model(saved, model)
        with pytest.raises(KeyboardInterrupt):
            taught(model, images, folder / "small", budget)


def test_a_run_killed_while_its_report_is_written_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that holds a model is a finished run."""
    run, images = teacher("classify")
    asked = ("student.name=test_efficientnet", "student.weights=random", "budget.params_m=0.3")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stage, "write_report", killed)
    with pytest.raises(KeyboardInterrupt):
        taught(run, images, tmp_path / "small", *asked, name="student")
    assert not (tmp_path / "small" / "model").exists()
    monkeypatch.undo()
    monkeypatch.setattr(Stopwatch, "time", lambda self, model: (Cost(1, 0.1, 1), Cost(1, 1, 1)))
    monkeypatch.setattr(Lesson, "teach", killed)  # what was taught is kept
    finished = taught(run, images, tmp_path / "small", *asked, name="student")
    assert finished.report.is_file()
    assert not (tmp_path / "small" / "taught.ckpt").exists()


@pytest.mark.measured
def test_the_graph_of_another_teacher_is_not_measured_against(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run killed and started again with another model in the same folder."""
    folders: list[Path] = []

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def noted(recipe: DistillRecipe, watch: Stopwatch, *_: object, **__: object) -> None:
        folders.append(watch.folder)

    monkeypatch.setattr(stage, "plan", noted)
    monkeypatch.setattr(stage, "remember", killed)
    killed_with_a_new_head_at_last(tmp_path, "budget.latency_ratio=0.5")
    assert folders[0] == folders[1] != folders[2]


def test_another_network_can_be_the_student(tmp_path: Path) -> None:
    run, images = teacher("classify")
    named = ("student.name=test_efficientnet", "student.weights=random", "budget.params_m=1")
    with pytest.raises(SettingsError, match="within it already"):
        taught(run, images, tmp_path / "small", *named, name="student")
    result = taught(run, images, tmp_path / "small", *named[:2], "budget.params_m=0.3", name="student")
    assert result.metrics["network"]["name"] == "test_efficientnet"
    assert load_model(result.model).model.backbone.config.name == "test_efficientnet"


@pytest.mark.slow
def test_a_kit_for_the_device_and_its_table(tmp_path: Path) -> None:
    run, images = teacher("classify")
    few = "student.lattice={sides: [1.0], heads: [1.0], hidden: [1.0, 0.5], least_depth: 3}"
    lines = [f"model={run}", f"data.path={images}", "budget.latency_ratio=0.7", *TINY, few]
    kit = tmp_path / "kit"
    assert distill(DistillRecipe.load(recipes.find("distill", "extract"), [*lines, f"probes={kit}"])) is None
    written = json.loads((kit / "probes.json").read_text())
    probes, origin = written["probes"], {name: written[name] for name in ("model", "image_hw")}
    assert {probe["file"] for probe in probes} == {path.name for path in kit.glob("*.onnx")}
    table = {"format": "pangu-cv-latency", "version": 1, "probes": {probe["name"]: {"ms": 1.0} for probe in probes}}
    table |= origin
    table["probes"]["whole"]["ms"] = 7.0  # type: ignore[index]
    (tmp_path / "latency.json").write_text(json.dumps(table))
    table_at = f"budget.table={tmp_path / 'latency.json'}"
    result = taught(run, images, tmp_path / "small", "budget.latency_ms=5.5", table_at, few)
    assert "4 blocks" in result.metrics["shape"]  # a millisecond each, and one for the rest
    assert result.metrics["use"] == pytest.approx(5 / 5.5)  # of the device's times, not of this machine's
    assert "added up" in result.metrics["timed"]
    assert "added up" in result.report.read_text()
    assert not any(one["is_measured"] for one in result.metrics["candidates"])
    named = ("student.name=test_efficientnet", "student.weights=random", "budget.latency_ms=5", table_at)
    with pytest.raises(SettingsError, match="does not fit this model"):
        taught(run, images, tmp_path / "other", *named, name="student")


def test_bad_input_has_a_clear_word(tmp_path: Path) -> None:
    run, images = teacher("classify")
    (tmp_path / "few").mkdir()
    for number in range(3):
        save(tmp_path / "few" / f"{number}.png", np.full((40, 40, 3), 50 * number, np.uint8))
    (tmp_path / "few" / "broken.png").write_bytes(b"no image")
    with pytest.raises(DataError, match="3 images can be read"):
        taught(run, tmp_path / "few", tmp_path / "small", "budget.params_m=0.1")
    with pytest.raises(SettingsError, match="budget: is required"):
        taught(run, images, tmp_path / "small")
    with pytest.raises(SettingsError, match=r"augment\.variants changes nothing here"):
        taught(run, images, tmp_path / "small", "budget.params_m=0.1", "augment.variants=16")
    with pytest.raises(SettingsError, match="give a bound"):
        taught(run, images, tmp_path / "small", "budget={}")
    with pytest.raises(SettingsError, match="smallest sub-model"):
        taught(run, images, tmp_path / "small", "budget.params_m=0.001")


@pytest.mark.parametrize(("there", "most", "taken"), [(7, 5, 5), (7, 7, 7), (7, 30, 7), (7, 1, 1)])
def test_as_many_images_teach_as_may(tmp_path: Path, there: int, most: int, taken: int) -> None:
    for number in range(there):
        save(tmp_path / f"{number}.png", np.full((4, 4, 3), number, np.uint8))
    found = [int(sample.path.stem) for sample in ImagesConfig(path=tmp_path, most=most).read()]
    assert len(set(found)) == len(found) == taken
    assert max(np.diff([*found, there])) <= -(-there // most) + 1
