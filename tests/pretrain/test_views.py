import numpy as np
import pytest

from pangu_cv.errors import SettingsError
from pangu_cv.pretrain.views import DamageConfig, ViewsConfig, damage

IMAGE = np.random.default_rng(0).integers(0, 256, (90, 120, 3)).astype(np.uint8)
SMOOTH = np.repeat(np.linspace(0, 255, 96)[None, :, None], 96, 0).repeat(3, 2).astype(np.uint8)


def test_same_seed_same_views() -> None:
    views = ViewsConfig(image_px=48).build()
    first, other, again = views(IMAGE, seed=5), views(IMAGE, seed=6), views(IMAGE, seed=5)
    assert np.array_equal(first.inputs, again.inputs)
    assert not np.array_equal(first.inputs, other.inputs)
    assert not np.array_equal(first.clean[0], first.clean[1])


@pytest.mark.parametrize("kind", ["noise", "blur", "jpeg", "downscale"])
def test_every_damage_harms_and_keeps_the_picture(kind: str) -> None:
    rough = np.where(np.indices((64, 64)).sum(0)[..., None] % 8 < 4, 30, 220).repeat(3, 2).astype(np.uint8)
    found = damage(rough, DamageConfig(p=1, kinds=(kind,)), np.random.default_rng(1))
    assert found.shape == rough.shape
    assert found.dtype == np.uint8
    error = np.abs(found.astype(float) - rough).mean()
    assert 0.5 < error < 110


@pytest.mark.parametrize(("is_grey", "alike"), [(True, 1.0), (False, 0.0)])
def test_noise_is_that_of_the_camera(*, is_grey: bool, alike: float) -> None:
    """A decoder that averages channels to remove noise would do nothing on a grey camera's image."""
    view = np.full((96, 96, 3), (128, 128, 128) if is_grey else (120, 128, 136), np.uint8)
    noise = damage(view, DamageConfig(p=1, kinds=("noise",)), np.random.default_rng(1)) - view.astype(float)
    assert np.corrcoef(noise[..., 0].ravel(), noise[..., 2].ravel())[0, 1] == pytest.approx(alike, abs=0.05)
    assert noise.std() > 3


def test_damage_can_be_switched_off() -> None:
    views = ViewsConfig(image_px=48, damage=DamageConfig(p=0)).build()
    seen = views(IMAGE, seed=1)
    assert np.array_equal(seen.inputs, seen.clean)
    harmed = ViewsConfig(image_px=48, damage=DamageConfig(p=1)).build()(IMAGE, seed=1)
    assert not np.array_equal(harmed.inputs, harmed.clean)
    assert np.array_equal(harmed.clean, seen.clean)


@pytest.mark.parametrize("long_px", [200, 400, 1000])
def test_all_of_a_long_image_is_seen(long_px: int) -> None:
    """The brightness tells the place: views of a strip come from everywhere in it."""
    ramp = np.linspace(0, 255, long_px)[None, :, None].repeat(100, 0).repeat(3, 2).astype(np.uint8)
    config = ViewsConfig(image_px=32, jitter=0, grey=0, blur=0, damage=DamageConfig(p=0))
    views = config.build()
    for strip in (ramp, ramp.transpose(1, 0, 2)):
        means = [view.mean() for seed in range(20) for view in views(strip, seed=seed).clean]
        assert min(means) < 100
        assert max(means) > 155
        assert len({round(float(mean)) for mean in means}) > 10


def test_orientation_is_kept_where_it_means_something() -> None:
    config = ViewsConfig(image_px=32, flip_lr=False, flip_ud=False, rot90=False, jitter=0, grey=0, blur=0)
    for seed in range(12):
        for view in config.build()(SMOOTH, seed=seed).clean:
            assert view[:, -4:].mean() > view[:, :4].mean()


def test_defect_survives_in_most_views() -> None:
    """A dark mark of 1 % of the picture's area stays visible in at least one of two views nearly always."""
    picture = np.full((160, 160, 3), 170, np.uint8)
    picture[70:86, 74:90] = 20
    views = ViewsConfig(image_px=64).build()
    found = [min(view.mean(2).min() / view.mean() for view in views(picture, seed=s).clean) < 0.5 for s in range(60)]
    assert np.mean(found) > 0.9


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"scale": (0, 1)}, "greater than 0"),
        ({"scale": (0.4, 2)}, "less than or equal to 1"),
        ({"local_scale": (1, 0.4)}, "the lower bound comes first"),
        ({"damage": {"kinds": ["nois"]}}, "'noise', 'blur', 'jpeg' or 'downscale'"),
        ({"damage": {"jpeg_quality": (60, 10)}}, "the lower bound comes first"),
        ({"damage": {"blur_sigma": (0, 0)}}, "greater than 0"),
    ],
)
def test_settings_that_would_learn_something_else_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        ViewsConfig.parse(settings, origin="test")
