"""Detect and segment as recipes ask for them: ways of adapting, pasting, groups, parts drawn anew."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pangu_cv.data.masks import read_class_mask
from pangu_cv.errors import DataError
from pangu_cv.finetune import FinetuneResult, finetune, fitted
from pangu_cv.models import augment
from pangu_cv.models.copy_paste import Cut
from pangu_cv.models.labelled import Labelled
from pangu_cv.tasks.saved import load_model, marks_of
from tests.finetune.tiny import QUICK, boxed, masked, recipe, save

VIT = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "task.preprocess.image_px=64")
KINDS = pytest.mark.parametrize("kind", ["detect", "segment"])


def data_of(kind: str, root: Path) -> Path:
    return (boxed if kind == "detect" else masked)(root)


def run(tmp_path: Path, kind: str, *overrides: str, name: str = "run") -> FinetuneResult:
    data = tmp_path / "data" if (tmp_path / "data").is_dir() else data_of(kind, tmp_path / "data")
    torch.manual_seed(0)
    return finetune(recipe(kind, data, tmp_path / name, *QUICK, "train.steps=2", *overrides))


@pytest.mark.parametrize(
    ("kind", "way"), [("detect", "full"), ("detect", "lora"), ("detect", "prompt"), ("segment", "prompt")]
)
def test_ways_of_adapting_leave_a_plain_network(tmp_path: Path, kind: str, way: str) -> None:
    if way == "lora":
        pytest.importorskip("peft")
    levels = "task.backbone.levels=[1,2,3,4]" if kind == "detect" else VIT[1]
    result = run(tmp_path, kind, *VIT, levels, f"adapt.kind={way}")
    model = load_model(result.model).model
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert result.metrics["draws"][0]["learning"] > sum(p.numel() for p in model.head.parameters())


def test_the_spring_is_among_the_losses_and_holds_the_backbone(tmp_path: Path) -> None:
    ways = ("adapt.kind=full", "train.backbone_lr=0.05", "train.steps=4")
    moved = {}
    for name, more in (("free", ()), ("spring", ("adapt.l2_sp=10",)), ("start", ("adapt={kind: frozen}",))):
        result = run(tmp_path, "segment", *ways, *more, name=name)
        moved[name] = load_model(result.model).model.backbone.network.state_dict()
        assert (">l2 sp<" in result.report.read_text()) is (name == "spring")

    def distance(name: str) -> float:
        pairs = ((moved[name][key], moved["start"][key]) for key in moved["start"])
        return sum(float((a.float() - b.float()).square().sum()) for a, b in pairs)

    assert distance("spring") < distance("free")


@KINDS
def test_labelled_defects_are_pasted_in_training_and_shown(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pasted, in_training, paste, show = [], [], augment.paste, fitted.training_variants

    def spied(target: Labelled, piece: Cut, random: np.random.Generator) -> Labelled:
        pasted.append(piece)
        return paste(target, piece, random)

    def showing(*what: Any, **more: Any) -> None:
        in_training.append(len(pasted))
        show(*what, **more)

    monkeypatch.setattr(augment, "paste", spied)
    monkeypatch.setattr(fitted, "training_variants", showing)
    page = run(tmp_path, kind, "augment.paste=1").report.read_text()
    assert in_training[0] >= 3  # a batch
    if kind == "segment":  # a detector's images may have no room
        assert "paste 1" in page
    pasted.clear()
    assert "paste 1" not in run(tmp_path, kind, name="without").report.read_text()
    assert not pasted


def grouped(kind: str, tmp_path: Path, *names: str) -> str:
    data_of(kind, tmp_path / "data")
    folder = "JPEGImages" if kind == "detect" else "images"
    table = tmp_path / "groups.csv"
    table.write_text("file,group\n" + "".join(f"{folder}/{name}.png,burst\n" for name in names))
    return f"data.groups={table}"


@KINDS
def test_test_images_of_a_group_that_was_learnt_are_left_out_and_told(tmp_path: Path, kind: str) -> None:
    groups, count = grouped(kind, tmp_path, "train1", "test1"), 3 if kind == "detect" else 2
    result = run(tmp_path, kind, groups, "few_shot.shots=null")
    assert result.metrics["draws"][0]["images"] == count - 1
    told = "test images not measured, because labelled ones are of their group: 1"
    assert told in result.metrics["notes"]
    assert told in result.report.read_text()


@KINDS
def test_where_all_test_images_are_of_a_group_that_was_learnt_the_run_says_what_to_do(
    tmp_path: Path, kind: str
) -> None:
    groups = grouped(kind, tmp_path, "train1", "test0", "test1", "test2")
    with pytest.raises(DataError, match=r"no image is left to measure on.*data\.split=anew"):
        run(tmp_path, kind, groups, "few_shot.shots=null")


@KINDS
def test_parts_drawn_anew_keep_groups_whole(tmp_path: Path, kind: str) -> None:
    burst, shares = ("train1", "test1", "train2"), []
    groups, whole = grouped(kind, tmp_path, *burst), 9 if kind == "detect" else 6
    marks = set(marks_of([path for path in (tmp_path / "data").rglob("*.png") if _is_image_of(path, burst)]))
    for name, more in (("alone", ()), ("together", (groups,))):
        result = run(tmp_path, kind, "data.split=anew", "few_shot.shots=null", *more, name=name)
        [draw] = result.metrics["draws"]
        assert draw["labelled"] + draw["images"] == whole
        assert 0 < draw["images"] < whole / 2
        shares.append(len(marks & set(load_model(result.model).provenance.learnt)))
    assert len(marks) == 3
    assert shares[0] in (1, 2)  # torn
    assert shares[1] in (0, 3)


def _is_image_of(path: Path, names: tuple[str, ...]) -> bool:
    return path.stem in names and path.parent.name != "masks"


def test_masks_of_no_class_are_named_and_not_measured(tmp_path: Path) -> None:
    data = masked(tmp_path / "data")
    (data / "classes.txt").write_text("background\ncrack\nhole\n")
    mask: Any = read_class_mask(data / "masks" / "test1.png", classes=3)
    mask[:5] = 9
    save(data / "masks" / "test1.png", mask)
    result = run(tmp_path, "segment", "few_shot.shots=1")
    [skipped] = result.metrics["skipped"]
    assert (Path(skipped["image"]).name, skipped["reason"]) == ("test1.png", "values")
    assert "allowed are 0 to 2" in skipped["message"]
    assert result.metrics["draws"][0]["images"] == 1
