"""What is refused, and that it is refused before the teacher has looked at anything."""

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from pangu_cv import cli, recipes
from pangu_cv.distill import DistillRecipe, distill, stage
from pangu_cv.distill.memory import Memory
from pangu_cv.distill.student import with_network
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.tasks.known_defects import KnownDefects
from pangu_cv.tasks.saved import load_model, save_model
from pangu_cv.verbs import distill as verb
from tests.distill.test_distill import teacher
from tests.finetune.tiny import copy_of

SMALLER = "budget.params_m=0.15"


@pytest.fixture
def unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images are not to be looked at."""

    def looked(*_: object, **__: object) -> None:
        raise AssertionError("images were read")

    monkeypatch.setattr(stage, "readable_views", looked)


def load(run: Path, images: Path, *overrides: str, name: str = "extract") -> DistillRecipe:
    return DistillRecipe.load(recipes.find("distill", name), [f"model={run}", f"data.path={images}", *overrides])


def test_a_detector_with_known_defects_is_not_distilled(unread: None, tmp_path: Path) -> None:
    """They would be lost without a word, and the student let them pass."""
    run, images = teacher("anomaly")
    saved = load_model(run / "model")
    assert saved.normality is not None
    saved.normality.defects = KnownDefects.of({"missed.png": saved.normality.bank.vectors_MD[:3].clone()})
    save_model(replace(saved), tmp_path / "taught")
    with pytest.raises(SettingsError, match=r"taught 1 missed defects.*--missed"):
        distill(load(tmp_path / "taught", images, SMALLER, f"output={tmp_path / 'small'}"))
    assert not (tmp_path / "small").exists()


def test_what_can_be_counted_is_refused_before_an_image_is_read(unread: None, tmp_path: Path) -> None:
    run, images = teacher("classify")
    large = load_model(run / "model")
    network = BackboneConfig(name="test_efficientnet", weights="random", levels=(2, 3, 4))
    save_model(replace(large, model=with_network(large.model, network, image_px=64), memory=None), tmp_path / "cnn")
    with pytest.raises(SettingsError, match=r"no plain ViT.*pangu-cv distill student .* student.name="):
        distill(load(tmp_path / "cnn", images, SMALLER))
    with pytest.raises(SettingsError, match=r"smallest sub-model.*pangu-cv distill student"):
        distill(load(run, images, "budget.params_m=0.001", "budget.latency_ms=1"))
    with pytest.raises(SettingsError, match="within it already"):
        distill(load(run, images, "budget.params_m=1000"))
    with pytest.raises(SettingsError, match="no head that decides"):
        distill(load(teacher("anomaly")[0], images, SMALLER, "loss.features=0", "loss.similarity=0"))


def test_times_are_refused_before_the_teacher_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def looked(*_: object, **__: object) -> None:
        raise AssertionError("the teacher looked")

    monkeypatch.setattr(stage, "remember", looked)
    run, images = teacher("classify")
    table = {"format": "pangu-cv-latency", "version": 1, "model": "another", "probes": {}}
    (tmp_path / "latency.json").write_text(json.dumps(table))
    asked = ("budget.latency_ms=1", f"budget.table={tmp_path / 'latency.json'}", f"output={tmp_path / 'small'}")
    with pytest.raises(SettingsError, match="another model"):
        distill(load(run, images, *asked))


@pytest.mark.parametrize(
    ("setting", "because"),
    [
        ("train.workers=4", r"train\.workers changes nothing here"),
        ("budget.latency_ratio=1", "less than 1"),
        ("loss={features: 0, similarity: 0, decisions: 0}", "all weights are 0"),
    ],
)
def test_settings_that_cannot_count_are_refused(setting: str, because: str) -> None:
    with pytest.raises(SettingsError, match=because):
        load(Path("run"), Path("images"), SMALLER, setting)


def test_a_model_is_not_written_over_nor_its_folder_shared(unread: None, tmp_path: Path) -> None:
    run, images = teacher("classify")
    own = copy_of(run, tmp_path / "run")
    with pytest.raises(SettingsError, match="holds a model already"):
        distill(load(own, images, SMALLER, f"output={own}"))
    with (
        FileLock(tmp_path / ".small.lock"),
        pytest.raises(SettingsError, match="another process is writing"),
    ):
        distill(load(run, images, SMALLER, f"output={tmp_path / 'small'}"))


def test_a_kit_is_told_as_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(verb.stage, "distill", lambda settings: None)
    asked = ("model=run", "data.path=images", SMALLER, "probes=kit", "--json")
    with pytest.raises(SystemExit):
        cli.main(["distill", "extract", *asked])
    assert json.loads(capsys.readouterr().out) == {"probes": "kit"}


def test_a_full_disk_is_told_with_what_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A memory map of a sparse file would end the process by a signal."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def memory() -> Memory:
        return Memory(tmp_path / "teacher", [(1000,), (500, 2)], rows=1000, key="a", grids=1)

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(DataError, match=r"takes 0\.004 GB here.*No space left"):
        memory()
    assert not (tmp_path / "teacher").exists()
    monkeypatch.undo()
    memory().put([3], [torch.ones(1, 1000), torch.ones(1, 500, 2)])
    assert memory().is_there[3]  # a killed run goes on with what was said
    assert sum(file.stat().st_blocks * 512 for file in (tmp_path / "teacher").iterdir()) >= 4e6
