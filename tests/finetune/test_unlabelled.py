"""A classifier learns from images without labels, never from those it is measured on, and says what they did."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pangu_cv.errors import DataError, SettingsError
from pangu_cv.finetune import finetune, unlabelled
from pangu_cv.finetune.classify import draws_of
from pangu_cv.finetune.classify_trained import Start, adapt_draw
from pangu_cv.finetune.unlabelled_pool import with_pools
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.models.label_propagation import Spread
from pangu_cv.models.ridge_head import RidgeHead
from pangu_cv.models.ridge_propagated import Others, fit_with_others
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_cv.tasks.saved import load_model
from tests.finetune.tiny import class_folders, copy_of, picture, recipe, save


def test_images_without_labels_teach(tmp_path: Path) -> None:
    torch.manual_seed(0)
    data = class_folders(tmp_path / "data", train=12, test=4)
    result = finetune(recipe("classify", data, tmp_path / "both", "few_shot.shots=2", "unlabelled={}"))
    [draw] = result.metrics["draws"]
    assert draw["balanced_accuracy"] == 1
    told = draw["unlabelled"]
    assert told["helped"]
    assert told["taken_for"] == {"blue": 10, "red": 10}
    assert told["counted"] == told["images"] == 20
    assert "20, 20 taught too" in result.report.read_text()
    assert load_model(result.model).memory is None  # what was learnt is not in sums over labelled images


def test_no_image_that_is_measured_on_teaches(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=4, test=3)
    more = copy_of(data / "test", tmp_path / "more")  # the test images under other names
    save(more / "new.png", picture((90, 90, 90), 1))
    (more / "broken.png").write_bytes(b"no image")
    asked = recipe("classify", data, tmp_path / "run", "few_shot.shots=2", f"unlabelled.path={more}")
    dataset = asked.data.read()
    [draw] = with_pools(draws_of(dataset, shots=2, seeds=[0]), asked, dataset)
    assert {path.name for path in draw.pool} == {"new.png", "broken.png"}
    result = finetune(asked)
    assert result.metrics["draws"][0]["unlabelled"]["images"] == 1
    assert [Path(one["image"]).name for one in result.metrics["skipped"]] == ["broken.png"]


def test_the_pool_is_what_was_not_drawn_and_bounded(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=6, test=3)
    asked = recipe("classify", data, tmp_path / "run", "few_shot.shots=2", "unlabelled.most=5")
    dataset = asked.data.read()
    [draw] = with_pools(draws_of(dataset, shots=2, seeds=[0]), asked, dataset)
    assert len(draw.pool) == 5
    assert not {s.path for s in (*draw.support, *draw.test)} & set(draw.pool)
    assert all("train" in path.parts for path in draw.pool)


def test_where_nothing_is_left_it_is_said(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=4, test=0)  # what is not drawn measures
    with pytest.raises(DataError, match=r"no training image beside.*unlabelled\.path=FOLDER"):
        finetune(recipe("classify", data, tmp_path / "run", "few_shot.shots=2", "unlabelled={}"))
    with pytest.raises(SettingsError, match=r"unlabelled: .*found task\.kind=multilabel"):
        finetune(recipe("multilabel", data, tmp_path / "run", "unlabelled={}"))
    with pytest.raises(SettingsError, match=r"adapt\.kind=linear"):
        finetune(recipe("classify", data, tmp_path / "run", "adapt.kind=linear", "unlabelled={}"))
    uneven = class_folders(tmp_path / "uneven", train=4, test=2)
    (uneven / "train" / "red" / "0.png").unlink()
    ways = ("adapt.kind=partial", "few_shot.shots=null", f"unlabelled.path={data}")
    with pytest.raises(SettingsError, match=r"unlabelled: partial keeps a trained head here.*few_shot\.shots"):
        finetune(recipe("classify", uneven, tmp_path / "run", *ways))


def test_they_are_left_aside_where_they_mislead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others that turn a head round make the left-out answers worse, and nothing of it stays."""
    data = class_folders(tmp_path / "data", train=8, test=3)
    torch.manual_seed(0)
    plain = finetune(recipe("classify", data, tmp_path / "plain", "few_shot.shots=4"))

    def turned(head: RidgeHead, *given: Any) -> Spread:
        spread = fit_with_others(head, *given)
        head.weight_CD.neg_()
        return spread

    monkeypatch.setattr(unlabelled, "fit_with_others", turned)
    settings = ("few_shot.shots=4", "unlabelled={}")
    torch.manual_seed(0)
    misled = finetune(recipe("classify", data, tmp_path / "misled", *settings))
    told = misled.metrics["draws"][0]["unlabelled"]
    assert not told["helped"]
    assert told["left_out_right_together"] < told["left_out_right_alone"] == 1
    first, second = (load_model(one.model).model.head for one in (plain, misled))
    assert torch.equal(first.weight_CD, second.weight_CD)
    assert torch.equal(first.temperature, second.temperature)


def test_a_threshold_of_unknown_comes_from_folds(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=16, test=8)
    for number in range(4):
        save(data / "test" / "white" / f"{number}.png", picture((250, 250, 250), number))
    asked = ("few_shot.shots=10", "task.unknown_rate=0.2", "unlabelled={}")
    result = finetune(recipe("classify", data, tmp_path / "run", *asked))
    assert result.metrics["threshold"]["value"] > 0
    assert "folds of the labelled ones were left out together" in result.metrics["threshold"]["statement"]


def grouped(root: Path, groups: dict[str, list[str]], more: list[str]) -> Path:
    """A table of blue and red images by their groups, test images of groups of their own, and unlabelled ones."""
    lines = ["file,label,split,group"]
    colours = {"blue": (60, 80, 190), "red": (200, 70, 60)}
    for name, colour in colours.items():
        for number, group in enumerate([*groups[name], "test", "test"]):
            save(root / f"{name}{number}.png", picture(colour, abs(hash((name, number))) % 2**31))
            lines.append(f"{name}{number}.png,{name},{'test' if group == 'test' else 'train'},{group}")
    for number, group in enumerate(more):
        save(root / f"more{number}.png", picture((100, 80, 100), 900 + number))
        lines.append(f"more{number}.png,,train,{group}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root / "labels.csv"


def test_no_image_of_a_group_that_is_checked_on_teaches(tmp_path: Path) -> None:
    groups = {"blue": ["a", "b", "c"], "red": ["d", "e", "f"]}
    data = grouped(tmp_path / "data", groups, ["test", "a", "b", "c", "d", "e", "f", "new"])
    asked = recipe("classify", data, tmp_path / "run", "few_shot.shots=3", "unlabelled={}")
    dataset = asked.data.read()
    [draw] = with_pools(draws_of(dataset, shots=3, seeds=[0]), asked, dataset)
    assert [path.name for path in draw.pool] == ["more7.png"]


def test_images_of_one_group_are_left_out_together_when_the_others_are_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = recipe("classify", tmp_path, tmp_path / "run")
    assert isinstance(asked.task, ClassifyConfig)
    model = asked.task.build(("blue", "red"))
    rows = torch.randn(12, 1, sum(model.head.groups), generator=torch.Generator().manual_seed(0))
    labels, kin = torch.arange(12) % 2, [f"part {number // 4}" for number in range(12)]
    learnt: list[set[str]] = []

    def fitted(head: RidgeHead, features_NVD: torch.Tensor, *given: Any) -> Spread:
        learnt.append({kin[at] for at in range(12) if (features_NVD[:, 0] == rows[at, 0]).all(1).any()})
        return fit_with_others(head, features_NVD, *given)

    monkeypatch.setattr(unlabelled, "fit_with_others", fitted)
    held, _ = unlabelled._left_out(model, rows, labels, kin, Others(rows[:, 0], 2, 1.0), seed=0)
    assert held.all()
    assert sorted(map(len, learnt)) == [2, 2, 2]  # of three parts, each left out once


def test_a_threshold_needs_folds(tmp_path: Path) -> None:
    data = grouped(tmp_path / "data", {"blue": ["a"] * 10, "red": ["b"] * 10}, ["new"])
    asked = ("few_shot.shots=10", "task.unknown_rate=0.2", "unlabelled={}")
    with pytest.raises(
        SettingsError, match=r"2 labelled images of every class, blue, red has 1 \(copies, and images of one group"
    ):
        finetune(recipe("classify", data, tmp_path / "run", *asked))


def test_trials_of_ways_go_by_labels_alone(tmp_path: Path) -> None:
    """Folds by group leave classes of different sizes, whose trained heads others could not teach."""
    data = grouped(tmp_path / "data", {"blue": ["a", "b", "c"], "red": ["d", "d", "e"]}, ["new"])
    vit = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "train.steps=2", "train.batch=2")
    ways = ("adapt={kind: auto, folds: 2, ways: [{kind: partial, blocks: 2}]}", "train.workers=0", "few_shot.shots=3")
    found = finetune(recipe("classify", data, tmp_path / "run", *vit, *ways, "unlabelled={}")).metrics
    assert found["draws"][0]["unlabelled"]["images"] == 1


def test_what_cannot_be_checked_is_said(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=4, test=3)
    result = finetune(recipe("classify", data, tmp_path / "run", "few_shot.shots=1", "unlabelled={}"))
    told = result.metrics["draws"][0]["unlabelled"]
    assert told["left_out_right_together"] is None
    assert "cannot be checked" in result.report.read_text()


def test_a_way_that_moves_the_backbone_learns_from_them_too(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data", train=6, test=3)
    vit = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "train.steps=2", "train.batch=2")
    asked = recipe(
        "classify", data, tmp_path / "run", *vit, "few_shot.shots=2", "adapt.kind=partial", "train.workers=0",
        "unlabelled={}",
    )  # fmt: skip
    dataset = asked.data.read()
    [draw] = with_pools(draws_of(dataset, shots=2, seeds=[0]), asked, dataset)
    assert asked.task.kind == "classify"
    found = adapt_draw(asked.task, asked, ("blue", "red"), draw, Start.of(asked, asked.task, ("blue", "red")))
    assert found.taught is not None
    assert len(found.taught.paths) == 2 * (6 - 2)
    assert np.isfinite(mean_interval([found.result.outcome.balanced_accuracy]).mean)
