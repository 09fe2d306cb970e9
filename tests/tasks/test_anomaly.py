import pytest
import torch

from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.anomaly import AnomalyConfig, AnomalyModel, describe


@pytest.fixture
def model() -> AnomalyModel:
    torch.manual_seed(0)
    model = AnomalyConfig(
        backbone=BackboneConfig(name="test_efficientnet", weights="random", levels=(2, 3)),
        preprocess=PreprocessConfig(image_px=64),
        top_share=0.1,
    ).build()
    model.set_bank(torch.nn.functional.normalize(torch.randn(50, model.features), dim=1))
    return model


def test_distances_equal_brute_force(model: AnomalyModel) -> None:
    patches = model.patches(torch.rand(2, 3, 64, 64))
    expected = torch.cdist(patches.flatten(0, 2).double(), model.bank_MD.double()).amin(1).view(2, -1)
    torch.testing.assert_close(model.distances(patches), expected.float(), atol=1e-4, rtol=1e-4)


def test_score_is_the_mean_of_the_largest_share(model: AnomalyModel) -> None:
    assert model.grid_hw == (8, 8)
    assert model.top_k == 6
    distances = torch.arange(64.0)[None]
    assert float(model.image_score(distances)) == pytest.approx(60.5)


def test_decision_compares_with_the_threshold_given(model: AnomalyModel) -> None:
    image = torch.randint(0, 256, (3, 30, 50, 3), dtype=torch.uint8)
    scores, maps, flags, applied = model(image, torch.tensor([0.0]))
    assert maps.shape == (3, 30, 50)
    assert bool(flags.all())
    assert applied.tolist() == [0.0]
    middle = scores.sort().values[1:2]
    assert model(image, middle)[2].sum() == 1  # a score at the threshold is normal
    assert not bool(model(image, torch.tensor([99.0]))[2].any())


def test_unit_scales_scores_and_maps(model: AnomalyModel) -> None:
    image = torch.randint(0, 256, (1, 30, 50, 3), dtype=torch.uint8)
    before = model(image, model.threshold)
    model.unit.fill_(2.0)
    after = model(image, model.threshold)
    torch.testing.assert_close(after[0] * 2, before[0])
    torch.testing.assert_close(after[1] * 2, before[1])


def test_descriptors_do_not_change_with_brightness_of_features() -> None:
    grid = torch.rand(1, 5, 6, 6)

    def patches(scale: float) -> torch.Tensor:
        return describe((grid * scale, grid[..., :3, :3] * scale), smooth=1)

    torch.testing.assert_close(patches(1.0), patches(7.0))
    assert patches(1.0).shape == (1, 6, 6, 10)
    torch.testing.assert_close(patches(1.0).norm(dim=-1).amax(), torch.tensor(1.0), atol=1e-2, rtol=0)


def test_smoothing_averages_over_the_neighbours_there_are() -> None:
    grid = torch.zeros(1, 2, 3, 3)
    grid[:, 0], grid[0, 1, 0, 0] = 1.0, 4.0
    smooth = describe((grid,), smooth=3)[0]
    ratio = smooth[..., 1] / smooth[..., 0]
    assert float(ratio[0, 0]) == pytest.approx(1.0)  # 4 over the 4 patches of a corner, not over 9
    assert float(ratio[1, 1]) == pytest.approx(4 / 9)
    assert float(ratio[2, 2]) == 0


def test_fingerprint_follows_smoothing(model: AnomalyModel) -> None:
    other = AnomalyModel(model.config.model_copy(update={"smooth_patches": 1}))
    other.backbone.load_state_dict(model.backbone.state_dict())
    assert other.backbone.fingerprint == model.backbone.fingerprint
    assert other.fingerprint != model.fingerprint
