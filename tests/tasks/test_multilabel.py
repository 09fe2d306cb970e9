import pytest
import torch
from torch import nn

from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_cv.tasks.multilabel import MultilabelConfig, MultilabelModel


def build(*views: str) -> MultilabelModel:
    torch.manual_seed(0)
    return MultilabelConfig(
        backbone=BackboneConfig(name="test_efficientnet", weights="random"),
        preprocess=PreprocessConfig(image_px=64),
        decision_views=views or ("identity",),
    ).build(["a", "b", "c"])


def fitted(*views: str) -> MultilabelModel:
    model = build(*views)
    present = torch.stack([torch.arange(12) >> bit & 1 for bit in range(3)], 1).bool()
    return model.fit(torch.randn(12, 4, sum(model.head.groups)), present)


def test_each_class_is_decided_by_itself_at_the_threshold() -> None:
    model = fitted()
    images = torch.randint(0, 256, (4, 30, 50, 3), dtype=torch.uint8)
    scores, present, applied = model(images, model.threshold)
    assert scores.shape == present.shape == (4, 3)
    assert applied.tolist() == [0.5]
    assert torch.equal(present, scores >= 0.5)
    moved = model(images, scores[:1, 1])
    torch.testing.assert_close(moved[0], scores)
    assert bool(moved[1][0, 1])  # a score at the threshold reaches it
    assert float(moved[2]) == float(scores[0, 1])


def test_cached_features_give_the_decision_of_the_whole_model() -> None:
    model = fitted("identity", "flip_lr")
    image = torch.randint(0, 256, (2, 30, 50, 3), dtype=torch.uint8)
    prepared = model.prepare(image)
    features = torch.stack([model.embed(prepared, view) for view in ("identity", "flip_lr")], 1)
    expected = model(image, model.threshold)[0]
    torch.testing.assert_close(model.decide_from_features(features, model.threshold)[0], expected)


def test_features_are_cached_together_with_those_of_classify() -> None:
    model = build()
    torch.manual_seed(0)
    settings = {name: getattr(model.config, name) for name in ("backbone", "preprocess")}
    assert ClassifyConfig(**settings).build(["a", "b"]).fingerprint == model.fingerprint


def test_calibration_takes_the_views_that_decide() -> None:
    values = torch.arange(4.0).view(1, 4, 1)  # identity, flip_lr, flip_ud, rot90
    assert build("flip_ud", "identity").at_decision(values).item() == 1.0
    config = build("rot90").config.model_copy(update={"fit_views": ("identity", "flip_lr", "flip_ud")})
    model = config.build(["a"])
    assert model.at_decision(values[:, :3]).item() == 1.0  # none of them decides: all


def test_images_that_belong_together_do_not_vouch_for_each_other() -> None:
    """Each is there twice: sigmoids fitted to what its copy says of it do not fit new images."""
    model = build()
    ways = torch.randn(3, sum(model.groups))

    def seen(images: int) -> tuple[torch.Tensor, torch.Tensor]:
        present = torch.rand(images, 3) < 0.5
        return (3 * torch.randn(images, ways.shape[1]) + present.float() @ ways)[:, None].expand(-1, 4, -1), present

    features, present = (one.repeat_interleave(2, 0) for one in seen(20))
    new, truth = seen(400)
    losses = []
    for kin in (None, [str(at // 2) for at in range(40)]):
        model.fit(features, present, kin)
        losses.append(float(nn.functional.binary_cross_entropy_with_logits(model.head(new), truth.float())))
    assert losses[1] < 0.75 * losses[0]


def test_threshold_is_a_share() -> None:
    with pytest.raises(ValueError, match="threshold"):
        MultilabelConfig(threshold=1.5)
