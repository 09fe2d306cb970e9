import pytest
import torch

from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel
from pangu_cv.tasks.viewed import see


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
    scores, labels, applied = model(torch.randint(0, 256, (4, 30, 50, 3), dtype=torch.uint8), model.threshold)
    assert applied.tolist() == [0.0]
    torch.testing.assert_close(scores.sum(1), torch.ones(4))
    assert torch.equal(labels, scores.argmax(1))


def test_cached_features_give_the_decision_of_the_whole_model() -> None:
    model = build("identity", "flip_lr")
    model.fit(torch.randn(9, 4, sum(model.head.groups)), torch.arange(9) % 3)
    image = torch.randint(0, 256, (2, 30, 50, 3), dtype=torch.uint8)
    prepared = model.prepare(image)
    features = torch.stack([model.embed(prepared, view) for view in ("identity", "flip_lr")], 1)
    expected = model(image, model.threshold)[0]
    torch.testing.assert_close(model.decide_from_features(features, model.threshold)[0], expected)


def test_symmetric_views_decide_a_mirrored_image_alike() -> None:
    model = build("identity", "flip_lr")
    model.fit(torch.randn(9, 4, sum(model.head.groups)), torch.arange(9) % 3)
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    one, other = (model(shown, model.threshold)[0] for shown in (image, image.flip(2)))
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


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


def clusters(model: ClassifyModel, *, images: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Features float32[images,4,D] around a centre per class, the class number of each."""
    rng = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, sum(model.head.groups), generator=torch.Generator().manual_seed(99))
    labels = torch.arange(images) % classes
    noise = torch.randn(images, 1, centres.shape[1], generator=rng)
    views = 0.2 * torch.randn(images, 4, centres.shape[1], generator=rng)
    return centres[labels][:, None] + 3 * noise + views, labels


def calibrated(rate: float | None, *views: str, images: int = 60) -> ClassifyModel:
    model = build(*views)
    model.config = model.config.model_copy(update={"unknown_rate": rate})
    return model.fit(*clusters(model, images=images, classes=3))


def test_without_a_rate_no_image_is_unknown_and_scores_are_the_same() -> None:
    plain, wary = calibrated(None), calibrated(0.1)
    features, _ = clusters(plain, images=90, classes=5, seed=1)
    for key, value in plain.head.state_dict().items():
        assert torch.equal(value, wary.head.state_dict()[key]), key
    scores, labels, _ = plain.decide_from_features(features[:, :1], plain.threshold)
    wary_scores, wary_labels, applied = wary.decide_from_features(features[:, :1], wary.threshold)
    assert torch.equal(scores, wary_scores)
    assert int(labels.min()) >= 0
    is_unknown = wary_labels < 0
    assert torch.equal(is_unknown, scores.amax(1) < applied)
    assert torch.equal(wary_labels[~is_unknown], labels[~is_unknown])
    assert plain.calibration is None
    assert "every image" in plain.statement


def test_new_images_of_known_classes_are_unknown_about_as_often_as_asked() -> None:
    rates = []
    for seed in range(6):
        model = build()
        model.config = model.config.model_copy(update={"unknown_rate": 0.2})
        model.fit(*clusters(model, images=90, classes=3, seed=seed))
        known, _ = clusters(model, images=300, classes=3, seed=100 + seed)
        strange, labels = clusters(model, images=300, classes=6, seed=200 + seed)
        rates.append(float((model.decide_from_features(known[:, :1], model.threshold)[1] < 0).float().mean()))
        others = model.decide_from_features(strange[labels > 2][:, :1], model.threshold)[1] < 0
        assert float(others.float().mean()) > rates[-1] + 0.1
    assert 0.12 < sum(rates) / len(rates) < 0.25


def test_threshold_is_the_rank_of_left_out_doubts_in_the_view_that_decides() -> None:
    model = calibrated(0.1, "rot90")
    features, labels = clusters(model, images=60, classes=3)
    place = model.config.fit_views.index("rot90")
    again = model.config.head.build(groups=model.head.groups, classes=3)
    left_out = again.fit(features, labels)[:, place]  # equal to refitting, see tests of the head
    doubts = (1 - left_out.softmax(1).amax(1)).sort().values
    assert float(model.threshold) == pytest.approx(1 - float(doubts[54]), abs=1e-6)  # ceil(61 * 0.9) is 55
    assert model.calibration
    assert model.calibration.holds


def test_too_few_images_for_the_rate_say_the_lowest() -> None:
    model = calibrated(0.01, images=9)
    assert model.certified_rate == pytest.approx(0.1)
    assert "9 labelled images cannot certify 1.00%" in model.statement
    assert "99 labelled images would do" in model.statement


def test_near_copies_are_unknown_as_seldom_as_asked_where_they_are_told_to_belong_together() -> None:
    """30 pictures, 5 near copies of each: copies explain each other, and no new picture has one that was learnt."""
    rates, counted = [], []
    for seed in range(4):
        model = build()
        model.config = model.config.model_copy(update={"unknown_rate": 0.2})
        features, labels = clusters(model, images=30, classes=3, seed=seed)
        noise = 0.05 * torch.randn(150, *features.shape[1:], generator=torch.Generator().manual_seed(seed))
        kin = [f"burst {number}" for number in range(30) for _ in range(5)]
        model.fit(features.repeat_interleave(5, 0) + noise, labels.repeat_interleave(5), kin)
        known, _ = clusters(model, images=300, classes=3, seed=100 + seed)
        rates.append(float((model.decide_from_features(known[:, :1], model.threshold)[1] < 0).float().mean()))
        assert model.calibration
        counted.append(model.calibration.normals)
    assert counted == [30] * 4
    assert sum(rates) / len(rates) < 0.3
    assert model.statement.endswith("copies, and images of one group, are left out together and count once")


def test_one_group_of_a_class_cannot_be_calibrated() -> None:
    model = build()
    model.config = model.config.model_copy(update={"unknown_rate": 0.1})
    features, labels = clusters(model, images=9, classes=3)
    kin = [f"burst {number}" if label < 2 else "one burst" for number, label in enumerate(labels)]
    with pytest.raises(SettingsError, match=r"every class, c has 1 \(copies, and images of one group, count once\)"):
        model.fit(features, labels, kin)


def test_one_image_of_a_class_cannot_be_calibrated() -> None:
    model = build()
    model.config = model.config.model_copy(update={"unknown_rate": 0.1})
    features, labels = clusters(model, images=7, classes=3)
    with pytest.raises(SettingsError, match="2 labelled images of every class, c has 1"):
        model.fit(features[[0, 1, 2, 3, 4]], labels[[0, 1, 2, 3, 4]])


def test_views_that_decide_must_have_been_fitted() -> None:
    config = build().config.model_copy(update={"unknown_rate": 0.1, "fit_views": ("flip_lr",)})
    with pytest.raises(SettingsError, match=r"task\.decision_views: identity is not in task\.fit_views"):
        config.build(["a", "b"])
