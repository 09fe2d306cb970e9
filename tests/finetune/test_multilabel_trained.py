from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pangu_cv.data.sample import Sample
from pangu_cv.deploy import export
from pangu_cv.finetune import FinetuneRecipe, finetune, multilabel_trained
from pangu_cv.finetune.auto import Choice, choose
from pangu_cv.finetune.folds import Shown
from pangu_cv.finetune.multilabel_trained import SEEN, Fit, Start, _worth, adapt, tag_loss
from pangu_cv.models.augment import Augment
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.labelled import Labelled
from pangu_cv.tasks.multilabel import MultilabelModel
from pangu_cv.tasks.saved import load_model
from pangu_runtime.images import list_images
from tests.finetune.tiny import boxed, recipe, tagged

VIT = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "task.preprocess.image_px=64")
QUICK = (*VIT, "few_shot.shots=2", "train.steps=6", "train.batch=3", "train.workers=0", "train.backbone_lr=1e-3")


@pytest.mark.parametrize("kind", ["linear", pytest.param("partial", marks=pytest.mark.slow), "full", "lora", "prompt"])
def test_every_way_ends_in_a_plain_network(tmp_path: Path, kind: str) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    data = tagged(tmp_path / "data")
    result = finetune(recipe("multilabel", data, tmp_path / "run", *QUICK, f"adapt.kind={kind}"))
    draw = result.metrics["draws"][0]
    assert draw["mean_ap"] > 0.9  # light and dark bars
    assert draw["learning"] > 0
    assert SEEN in result.metrics["notes"]
    page = result.report.read_text()
    for words in (f"adapted: {kind}", "What training shows", SEEN):
        assert words in page, words
    saved = load_model(result.model)
    assert not any(p.requires_grad for p in saved.model.backbone.parameters())
    if kind == "prompt":
        assert saved.model.config.backbone.arguments == {"reg_tokens": 16}
    if kind == "partial":  # an export takes seconds
        made = export(result.model, tmp_path / "bundle", list_images(data))
        assert made.certificate.difference.flips == 0


def test_the_head_is_fitted_again_to_what_the_last_blocks_have_become(tmp_path: Path) -> None:
    weights = tmp_path / "start.pth"
    torch.manual_seed(0)
    before = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build().network.state_dict()
    torch.save(before, weights)
    ways = (f"task.backbone.weights={weights}", "adapt.kind=partial", "adapt.blocks=2")
    saved = load_model(finetune(recipe("multilabel", tagged(tmp_path / "data"), tmp_path / "run", *QUICK, *ways)).model)
    model, memory = saved.model, saved.memory
    assert isinstance(model, MultilabelModel)
    after = model.backbone.network.state_dict()
    names = [name for name in before if name.startswith("blocks")]
    numbers = sorted({int(name.split(".")[1]) for name in names})
    assert {int(n.split(".")[1]) for n in names if not torch.equal(before[n], after[n])} == set(numbers[-2:])
    assert memory is not None
    assert memory.fingerprint == model.fingerprint
    weight_CD, slope_C = model.head.weight_CD.clone(), model.head.slope_C.clone()
    memory.teach(model)  # the closed form of what it remembers: nothing may change by itself
    torch.testing.assert_close(model.head.weight_CD, weight_CD, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(model.head.slope_C, slope_C, rtol=1e-3, atol=0)


def test_a_head_that_was_trained_stays(tmp_path: Path) -> None:
    data = tagged(tmp_path / "data")
    way = ("adapt.kind=linear", "few_shot.seeds=[0,1]")
    result = finetune(recipe("multilabel", data, tmp_path / "run", *QUICK, *way))
    saved = load_model(result.model)
    assert isinstance(saved.model, MultilabelModel)
    assert saved.model.head.slope_C.tolist() == [1.0, 1.0]
    assert saved.model.head.offset_C.tolist() == [0.0, 0.0]
    assert saved.memory is None
    assert result.metrics["mean_ap"]["n"] == 2
    assert "All draws" in result.report.read_text()


def test_ways_are_tried_on_folds_that_show_every_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The way that answers best is taken and fitted to all images; by a wide margin here, so that chance has no say."""
    adapted: list[tuple[str, int]] = []
    spread: list[Shown | None] = []

    def choosing(*arguments: Any, **options: Any) -> Choice:
        spread.append(options.get("shown"))
        return choose(*arguments, **options)

    def tampered(start: Start, recipe: FinetuneRecipe, support: Sequence[Sample], shown: Shown, *, seed: int) -> Fit:
        assert all(sum(name in shown[s] for s in support) for name in start.model.classes)
        adapted.append((recipe.adapt.kind, len(support)))
        made = adapt(start, recipe, support, shown, seed=seed)
        if recipe.adapt.kind == "frozen":
            made.model.head.weight_CD.neg_()
        return made

    monkeypatch.setattr(multilabel_trained, "adapt", tampered)
    monkeypatch.setattr(multilabel_trained, "choose", choosing)
    ways = "adapt={kind: auto, folds: 2, seconds: 600, ways: [{kind: partial, blocks: 1}]}"
    result = finetune(recipe("multilabel", tagged(tmp_path / "data"), tmp_path / "run", *QUICK, ways))
    draw = result.metrics["draws"][0]
    assert [(one["way"]["kind"], one["folds"]) for one in draw["tried"]] == [("frozen", 2), ("partial", 2)]
    assert draw["tried"][0]["score"] < 0.5 < draw["tried"][1]["score"]
    assert draw["way"]["kind"] == "partial"
    assert [kind for kind, _ in adapted] == ["frozen", "partial", "frozen", "partial", "partial"]
    assert adapted[-1][1] == draw["labelled"]
    assert spread[0] is not None
    assert {name for names in spread[0].values() for name in names} == {"dark", "light"}
    assert SEEN in result.metrics["notes"]
    assert "What was tried" in result.report.read_text()


def test_a_way_without_time_leaves_the_closed_form(tmp_path: Path) -> None:
    ways = "adapt={kind: auto, folds: 2, seconds: 0.5, ways: [{kind: full}]}"
    settings = (*QUICK, "train.steps=100000", ways)
    result = finetune(recipe("multilabel", tagged(tmp_path / "data"), tmp_path / "run", *settings))
    draw = result.metrics["draws"][0]
    assert draw["tried"][1]["score"] is None
    assert draw["way"]["kind"] == "frozen"
    assert SEEN not in result.metrics["notes"]
    assert load_model(result.model).memory is not None


def test_to_find_nothing_is_worth_as_little_as_to_find_everything() -> None:
    truth_C = np.array([True, False, False, False])
    nothing, everything = ~truth_C, truth_C
    assert _worth(nothing.astype(float), truth_C) == _worth(everything.astype(float), truth_C) == 0.5
    assert _worth(np.ones(4), np.zeros(4, bool)) == 1.0


def test_to_miss_a_rare_class_costs_what_to_find_it_everywhere_does() -> None:
    present_NC = torch.zeros(400, 1, dtype=torch.bool)
    present_NC[:30] = True
    loss = tag_loss(present_NC)
    missed, everywhere = (float(loss(torch.full((400, 1), logit), present_NC)) for logit in (-100.0, 100.0))
    assert 0.8 < missed / everywhere < 1.25  # unweighted 30 against 370


def test_the_sigmoid_still_says_how_many_images_show_a_class() -> None:
    """Where images tell nothing, the best logit is the one of the classes' shares, as with no weights at all."""
    present_NC = torch.zeros(2000, 2, dtype=torch.bool)
    present_NC[:200, 0], present_NC[:1000, 1] = True, True
    logit_C = torch.zeros(2, requires_grad=True)
    optimiser, loss = torch.optim.LBFGS([logit_C], max_iter=100, line_search_fn="strong_wolfe"), tag_loss(present_NC)

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(logit_C.expand(2000, 2), present_NC)
        value.backward()
        return value

    optimiser.step(closure)
    assert logit_C.sigmoid().tolist() == pytest.approx([0.1, 0.5], abs=0.01)


def test_no_crop_loses_a_class_whose_boxes_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The squares are apart, so that a small crop shows one of them at most."""
    drawn, classes = Augment.__call__, []

    def spied(self: Augment, labelled: Labelled, *, seed: int, donor: Labelled | None = None) -> Labelled:
        variant = drawn(self, labelled, seed=seed, donor=donor)
        classes.append((set(labelled.label_K.tolist()), set(variant.label_K.tolist())))
        return variant

    monkeypatch.setattr(Augment, "__call__", spied)
    asked = ("adapt.kind=linear", "augment.scale=[0.2,0.3]")
    finetune(recipe("multilabel", boxed(tmp_path / "data"), tmp_path / "run", *QUICK, *asked))
    assert ({0, 1}, {0, 1}) in classes
    assert all(before == after for before, after in classes)
