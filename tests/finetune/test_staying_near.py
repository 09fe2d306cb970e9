from pathlib import Path

import pytest
import torch

from pangu_cv.errors import SettingsError
from pangu_cv.finetune import FinetuneRecipe, finetune, fitting
from pangu_cv.finetune.staying_near import Start
from pangu_cv.models.adapt import Group
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.training import History
from pangu_cv.tasks.saved import load_model
from tests.finetune.tiny import boxed, class_folders, masked, recipe

VIT = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "task.preprocess.image_px=64")
QUICK = (*VIT, "few_shot.shots=3", "train.steps=8", "train.batch=3", "train.workers=0", "train.backbone_lr=1e-2")


def _start() -> tuple[Start, torch.nn.Parameter]:
    parameter = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    start = Start([Group((parameter,), 1.0)])
    with torch.no_grad():
        parameter.copy_(torch.tensor([2.0, 4.0]))
    return start, parameter


def test_the_spring_pulls_by_the_distance() -> None:
    start, parameter = _start()
    penalty = start.penalty()
    penalty.backward()
    assert float(penalty.detach()) == pytest.approx(2.5)
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [1.0, 2.0]


def test_interpolation_ends_part_of_the_way() -> None:
    start, parameter = _start()
    start.interpolate(0.25)
    assert parameter.tolist() == [1.25, 2.5]


def test_both_keep_the_backbone_nearer(tmp_path: Path) -> None:
    data, weights = class_folders(tmp_path / "data"), tmp_path / "start.pth"
    torch.manual_seed(0)
    before = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build().network.state_dict()
    torch.save(before, weights)
    ways = [f"task.backbone.weights={weights}", "adapt.kind=partial", "adapt.blocks=2"]
    moved = {}
    for name, more in (("free", []), ("spring", ["adapt.l2_sp=10"]), ("half", ["adapt.interpolate=0.5"])):
        result = finetune(recipe("classify", data, tmp_path / name, *QUICK, *ways, *more))
        after = load_model(result.model).model.backbone.network.state_dict()
        moved[name] = sum(float((after[key] - before[key]).square().sum()) for key in before) ** 0.5
    assert moved["spring"] < 0.8 * moved["free"]
    assert moved["half"] == pytest.approx(0.5 * moved["free"], rel=1e-3)


def test_a_head_that_was_trained_goes_part_of_the_way_too(tmp_path: Path) -> None:
    """Classes of different size keep the trained head: next to no way leaves it where the closed form put it."""
    data = class_folders(tmp_path / "data")
    next((data / "train").rglob("*.png")).unlink()
    seen = {}
    ways = ["adapt.kind=partial", "adapt.blocks=2", "few_shot.shots=null", "train.lr=0.1"]
    for name, share in (("start", 1e-6), ("half", 0.5), ("all", 1)):
        result = finetune(recipe("classify", data, tmp_path / name, *QUICK, *ways, f"adapt.interpolate={share}"))
        seen[name] = load_model(result.model).model.head.state_dict()["weight_CD"]
    moved = [float((seen[name] - seen["start"]).norm()) for name in ("half", "all")]
    assert 0 < moved[0] < 0.9 * moved[1]


@pytest.mark.parametrize("kind", ["detect", "segment"])
def test_a_dense_head_is_trained_alone_first_so_that_there_is_a_start(tmp_path: Path, kind: str) -> None:
    """Next to no way leaves the backbone as it was, under the head that was trained on it; half-way is between."""
    data = (boxed if kind == "detect" else masked)(tmp_path / "data")
    weights = tmp_path / "start.pth"
    torch.manual_seed(0)
    before = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build().network.state_dict()
    torch.save(before, weights)
    settings = (*QUICK, f"task.backbone.weights={weights}", "task.head.width=32", "train.backbone_lr=1e-2")
    found, heads, moved = {}, {}, {}
    for name, way in (
        ("alone", "{kind: frozen}"),
        ("start", "{kind: partial, blocks: 2, interpolate: 1.0e-6}"),
        ("half", "{kind: partial, blocks: 2, interpolate: 0.5}"),
    ):
        found[name] = finetune(recipe(kind, data, tmp_path / name, *settings, f"adapt={way}"))
        model = load_model(found[name].model).model
        heads[name] = model.head.state_dict()
        after = model.backbone.network.state_dict()
        moved[name] = sum(float((after[key] - before[key]).square().sum()) for key in before) ** 0.5
    for key, value in heads["alone"].items():
        torch.testing.assert_close(heads["start"][key], value, rtol=1e-3, atol=1e-4)
    assert moved["start"] < 1e-3 < moved["half"]
    assert any(not torch.allclose(heads["half"][key], value, atol=1e-4) for key, value in heads["alone"].items())
    assert f"{2 * 8} steps in" in found["half"].report.read_text()


def test_both_trainings_keep_within_the_time_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float | None]] = []

    def noted(_: object, recipe: FinetuneRecipe, *__: object, **___: object) -> History:
        asked.append((recipe.adapt.kind, recipe.train.max_seconds))
        return History({"total": [1.0]}, seconds=2.0)

    monkeypatch.setattr(fitting, "fit", noted)
    for way, wanted in (
        ("{kind: full, interpolate: 0.5}", [("frozen", 5.0), ("full", 5.0)]),
        ("{kind: full}", [("full", 10.0)]),
        ("{kind: frozen}", [("frozen", 10.0)]),
    ):
        asked.clear()
        made = recipe("segment", tmp_path, tmp_path / "run", "train.max_seconds=10", f"adapt={way}")
        history = fitting.fit_new_head(None, made, None, None, support=(), seed=0)  # type: ignore[arg-type]
        assert asked == wanted
        assert (history.seconds, len(history.losses["total"])) == (2.0 * len(wanted), len(wanted))


def test_what_only_training_heeds_is_not_passed_over(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    with pytest.raises(SettingsError, match=r"adapt.*l2_sp"):
        finetune(recipe("classify", data, tmp_path / "run", *VIT, "adapt={kind: linear, l2_sp: 1}"))
    with pytest.raises(SettingsError, match=r"augment\.paste: is for task\.kind=detect and segment"):
        finetune(recipe("classify", data, tmp_path / "run", *QUICK, "adapt.kind=linear", "augment.paste=0.5"))


@pytest.mark.parametrize("kind", ["classify", "multilabel", "detect", "segment"])
@pytest.mark.parametrize("setting", ["grow_from=model", "forget=[a.png]"])
def test_what_only_banks_heed_is_not_passed_over(kind: str, setting: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"grow_from and forget are for task\.kind=anomaly"):
        finetune(recipe(kind, tmp_path, tmp_path / "run", setting))
