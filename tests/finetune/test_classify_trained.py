from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from pangu_cv.data.sample import Sample
from pangu_cv.deploy import export
from pangu_cv.errors import SettingsError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.features import FeatureStore
from pangu_cv.finetune import closed_form, finetune
from pangu_cv.finetune.classify_trained import Start, adapt
from pangu_cv.finetune.closed_form import shown_features
from pangu_cv.models.adapt import Partial, Prompt
from pangu_cv.models.augment import Augment
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.class_losses import LogitAdjusted, Loss
from pangu_cv.models.cut import Cut
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_cv.tasks.saved import load_model
from pangu_runtime.images import list_images
from tests.finetune.tiny import COLOURS, class_folders, picture, recipe, save

VIT = ("task.backbone.name=test_vit", "task.backbone.levels=[1,3,4]", "task.preprocess.image_px=64")
QUICK = (*VIT, "few_shot.shots=3", "train.steps=6", "train.batch=3", "train.workers=0", "train.backbone_lr=1e-3")


@pytest.mark.parametrize("kind", ["linear", "partial", "full", "lora", "prompt"])
def test_every_way_ends_in_a_plain_network(tmp_path: Path, kind: str) -> None:
    if kind == "lora":
        pytest.importorskip("peft")
    data = class_folders(tmp_path / "data")
    result = finetune(recipe("classify", data, tmp_path / "run", *QUICK, f"adapt.kind={kind}"))
    draw = result.metrics["draws"][0]
    assert draw["balanced_accuracy"] > 0.9  # two colours
    assert draw["learning"] > 0
    saved = load_model(result.model)
    assert not any(p.requires_grad for p in saved.model.backbone.parameters())
    if kind == "prompt":  # the one whose network is another one afterwards; an export takes seconds
        assert saved.model.config.backbone.arguments == {"reg_tokens": 16}
        made = export(result.model, tmp_path / "bundle", list_images(data / "test"))
        assert made.certificate.difference.flips == 0


@pytest.mark.parametrize(("kind", "moves"), [("linear", False), ("partial", True), ("full", True)])
def test_the_backbone_moves_where_it_should(tmp_path: Path, kind: str, moves: bool) -> None:
    data = class_folders(tmp_path / "data")
    torch.manual_seed(0)
    weights = tmp_path / "start.pth"
    before = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build().network.state_dict()
    torch.save(before, weights)
    ways = [f"task.backbone.weights={weights}", f"adapt.kind={kind}"]
    ways += ["adapt.blocks=2"] if kind == "partial" else []
    result = finetune(recipe("classify", data, tmp_path / "run", *QUICK, *ways))
    after = load_model(result.model).model.backbone.network.state_dict()
    blocks = [name for name in before if name.startswith("blocks")]
    moved = {name.split(".")[1] for name in blocks if not torch.equal(before[name], after[name])}
    if not moves:
        assert not moved
    elif kind == "partial":
        assert moved == {str(n) for n in sorted({int(name.split(".")[1]) for name in blocks})[-2:]}
    else:
        assert "0" in moved


def test_prompts_change_nothing_but_what_they_say() -> None:
    """With prompts of zero attention the network would be the same; here: shapes, and all old weights are kept."""
    backbone = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build()
    before = {name: value.clone() for name, value in backbone.network.state_dict().items()}
    grids = backbone.grids(torch.randn(1, 3, 64, 64))
    [group] = Prompt(tokens=5).prepare(backbone)
    assert [tuple(p.shape) for p in group.parameters] == [(1, 5, before["pos_embed"].shape[2])]
    after = backbone.network.state_dict()
    for name, value in before.items():
        if name != "pos_embed":
            assert torch.equal(after[name], value), name
    assert [g.shape for g in backbone.grids(torch.randn(1, 3, 64, 64))] == [g.shape for g in grids]


def test_prompts_want_a_vit() -> None:
    backbone = BackboneConfig(name="test_efficientnet", weights="random").build()
    with pytest.raises(SettingsError, match=r"adapt\.kind: prompt needs a ViT"):
        Prompt().prepare(backbone)


def test_settled_blocks_are_frozen_and_the_saving_is_told(tmp_path: Path) -> None:
    more = ("adapt.kind=partial", "adapt.blocks=3", "adapt.settled=0.95", "train.steps=40", "train.lr=1e-3")
    result = finetune(recipe("classify", class_folders(tmp_path / "data"), tmp_path / "run", *QUICK, *more))
    assert 0 < result.metrics["draws"][0]["saved_by_freezing"] < 1


def test_classes_of_different_size_are_left_to_the_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows the counts, and the head that it trained is kept: here by a loss that wants one answer for all."""
    counted = []

    def build(loss: LogitAdjusted, counts: Sequence[int]) -> Loss:
        counted.append(list(counts))
        return lambda logits, labels: nn.functional.cross_entropy(logits, torch.ones_like(labels))

    monkeypatch.setattr(LogitAdjusted, "build", build)
    blue = np.stack([picture(COLOURS["blue"], number) for number in range(5)])
    support = [Sample(save(tmp_path / f"{n}.png", image), label="blue") for n, image in enumerate(blue)]
    support.append(Sample(save(tmp_path / "red.png", picture(COLOURS["red"], 9)), label="red"))
    asked = recipe("classify", tmp_path, tmp_path / "run", *QUICK, "adapt.kind=linear", "train.lr=1", "train.pool=6")
    assert isinstance(asked.task, ClassifyConfig)
    classes = ("blue", "red")
    model = adapt(asked.task, asked, classes, support, seed=0, start=Start.of(asked, asked.task, classes)).model
    assert counted == [[5, 1]]
    assert TorchDecider(model).run(blue)["label"].tolist() == [1] * 5
    assert float(model.head.temperature) == 1.0


def test_partial_takes_the_last_blocks_deepest_first() -> None:
    backbone = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build()
    groups = Partial(blocks=2, layer_decay=0.5).prepare(backbone)
    assert [group.scale for group in groups] == [1.0, 0.5]
    last = backbone.network.blocks[-1]
    assert groups[0].parameters[0] is next(last.parameters())


def test_the_closed_form_is_fitted_to_views_and_variants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = recipe("classify", class_folders(tmp_path / "data"), tmp_path / "run", *VIT, "augment.variants=6")
    assert isinstance(made.task, ClassifyConfig)
    samples = [s for s in made.data.read() if s.split == "train"]
    model, store = made.task.build(("blue", "red")), FeatureStore(None, "")
    found = shown_features(model, samples, made, store).features_NVD
    assert found.shape[:2] == (len(samples), 4 + 6)
    assert len(np.unique(found[0].round(4), axis=0)) == 10  # no two are alike
    plain = made.model_copy(update={"augment": made.augment.model_copy(update={"variants": 0})})
    assert np.array_equal(shown_features(model, samples, plain, store).features_NVD, found[:, :4])
    monkeypatch.setattr(model, "embed", None)  # what the store holds is not worked out again
    assert np.array_equal(shown_features(model, samples[1:], made, store).features_NVD, found[1:])


def test_variants_are_the_same_in_every_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn follows from the seed alone; what the network says of it is kept apart for each precision."""
    data, seeds, asked = class_folders(tmp_path / "data"), [], []
    drawn, suits = Augment.__call__, closed_form.suits_bf16
    monkeypatch.setattr(Augment, "__call__", lambda self, *of, seed: seeds.append(seed) or drawn(self, *of, seed=seed))
    monkeypatch.setattr(
        closed_form, "suits_bf16", lambda *of, on_gpu: asked.append(on_gpu) or suits(*of, on_gpu=on_gpu)
    )
    store = FeatureStore(None, "")
    for precision in ("32-true", "bf16-mixed"):
        made = recipe("classify", data, tmp_path / "run", *VIT, "augment.variants=2", f"train.precision={precision}")
        assert isinstance(made.task, ClassifyConfig)
        torch.manual_seed(0)
        samples = [s for s in made.data.read() if s.split == "train"]
        shown_features(made.task.build(("blue", "red")), samples, made, store)
    half = len(seeds) // 2
    assert half == 2 * len(samples)
    assert seeds[:half] == seeds[half:]
    assert asked == [False, False]  # the CPU computes, whatever else there is


def test_trials_share_what_the_frozen_blocks_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shallow, cuts = Cut.shallow, []
    monkeypatch.setattr(Cut, "shallow", lambda cut, images: cuts.append(cut.at) or shallow(cut, images))
    auto = "adapt={kind: auto, folds: 2, seconds: 60, ways: [{kind: partial, blocks: 1}]}"
    more = ("train.steps=40", "train.pool=24")
    result = finetune(recipe("classify", class_folders(tmp_path / "data"), tmp_path / "run", *QUICK, auto, *more))
    assert [one["folds"] for one in result.metrics["draws"][0]["tried"]] == [2, 2]
    assert len(cuts) <= 6 * (24 // 3)  # 6 images, at most as many variants of each as the smaller fold has room for
