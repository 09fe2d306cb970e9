import pytest
import torch

from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel, see


def build(*views: str) -> ClassifyModel:
    torch.manual_seed(0)
    return ClassifyConfig(
        backbone=BackboneConfig(name="test_efficientnet", weights="random"),
        preprocess=PreprocessConfig(image_px=64),
        decision_views=views or ("identity",),
    ).build(["a", "b", "c"])


def test_views_show_the_picture_as_they_say() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    assert torch.equal(see(image, "identity"), image)
    assert see(image, "flip_lr")[0, 0, 0].tolist() == [2, 1, 0]
    assert see(image, "flip_ud")[0, 0, :, 0].tolist() == [6, 3, 0]
    assert see(image, "rot90")[0, 0, 0].tolist() == [2, 5, 8]


def test_scores_sum_to_one_and_the_label_is_the_best() -> None:
    model = build()
    model.fit(torch.randn(9, 4, sum(model.head.groups)), torch.arange(9) % 3)
    scores, labels = model(torch.randint(0, 256, (4, 30, 50, 3), dtype=torch.uint8))
    torch.testing.assert_close(scores.sum(1), torch.ones(4))
    assert torch.equal(labels, scores.argmax(1))


def test_cached_features_give_the_decision_of_the_whole_model() -> None:
    model = build("identity", "flip_lr")
    model.fit(torch.randn(9, 4, sum(model.head.groups)), torch.arange(9) % 3)
    image = torch.randint(0, 256, (2, 30, 50, 3), dtype=torch.uint8)
    prepared = model.prepare(image)
    features = torch.stack([model.embed(prepared, view) for view in ("identity", "flip_lr")], 1)
    torch.testing.assert_close(model.decide_from_features(features)[0], model(image)[0])


def test_symmetric_views_decide_a_mirrored_image_alike() -> None:
    model = build("identity", "flip_lr")
    model.fit(torch.randn(9, 4, sum(model.head.groups)), torch.arange(9) % 3)
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    torch.testing.assert_close(model(image)[0], model(image.flip(2))[0], atol=1e-5, rtol=1e-4)


def test_fingerprint_follows_what_features_depend_on() -> None:
    one, same = build(), build("identity", "flip_lr")
    assert one.fingerprint == same.fingerprint  # views are in the key of a vector, not in that of the store
    torch.manual_seed(0)
    other = ClassifyModel(one.config.model_copy(update={"preprocess": PreprocessConfig(image_px=96)}), ["a", "b"])
    assert other.backbone.fingerprint == one.backbone.fingerprint
    assert other.fingerprint != one.fingerprint


def test_unknown_view_is_refused() -> None:
    with pytest.raises(ValueError, match="fit_views"):
        ClassifyConfig(fit_views=("upside_down",))  # type: ignore[arg-type]
