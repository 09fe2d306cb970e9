import pytest
import torch

from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import Backbone, BackboneConfig

CNN, VIT, STAGES = "test_efficientnet", "test_vit", "test_convnext"  # tiny ones of timm: 5 depths, 6 blocks, 4 stages


def build(name: str, *levels: int) -> Backbone:
    return BackboneConfig(name=name, weights="random", levels=levels or (2, 3, 4)).build()


@pytest.mark.parametrize(("level", "side"), [(0, 32), (1, 16), (2, 8), (3, 4), (4, 2)])
def test_levels_of_a_cnn_halve_the_grid(level: int, side: int) -> None:
    found = build(CNN, level)(torch.rand(2, 3, 64, 64))
    assert [grid.shape[-2:] for grid in found.grids_BDhw] == [(side, side)]


@pytest.mark.parametrize("name", [CNN, VIT, STAGES])
def test_one_grid_per_level_and_one_vector(name: str) -> None:
    network = build(name, 1, 3, 4)
    found = network(torch.rand(2, 3, 64, 64))
    assert len(found.grids_BDhw) == 3
    assert all(grid.ndim == 4 and len(grid) == 2 for grid in found.grids_BDhw)
    assert found.vector_BD.ndim == 2


@pytest.mark.parametrize("name", [CNN, VIT, STAGES])
def test_grids_alone_are_the_same_grids_for_less_work(name: str) -> None:
    network, images = build(name, 1, 3), torch.rand(2, 3, 64, 64)
    ran: list[int] = []
    blocks = getattr(network.network, "blocks", None) or network.network.stages
    blocks[-1].register_forward_hook(lambda *_: ran.append(1))
    expected = network(images).grids_BDhw
    assert ran == [1]
    for grid, same in zip(expected, network.grids(images), strict=True):
        torch.testing.assert_close(grid, same)
    assert ran == [1]


def test_levels_of_a_vit_are_fifths_of_its_blocks() -> None:
    network = build(VIT, 0, 4)
    assert network.indices == [0, 5]
    found = network(torch.rand(1, 3, 64, 96))
    assert [grid.shape[-2:] for grid in found.grids_BDhw] == [(4, 6), (4, 6)]
    prefix = network.network.num_prefix_tokens
    assert found.vector_BD.shape[1] == found.grids_BDhw[0].shape[1] * (2 if prefix else 1)


def test_last_level_is_the_last_of_the_network() -> None:
    for name in (CNN, VIT, STAGES):
        network = build(name, 4)
        assert network.indices == [len(network.network.feature_info) - 1]


@pytest.mark.parametrize(
    ("name", "levels"),
    [(CNN, (5,)), (CNN, (-1,)), (CNN, (3, 2)), (CNN, (2, 2)), (VIT, (5,)), (VIT, (-1, 4)), (STAGES, (0,))],
)
def test_levels_out_of_range_name_what_is_allowed(name: str, levels: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match=r"backbone\.levels: .* allowed: increasing numbers from [01] to 4"):
        build(name, *levels)
    with pytest.raises(SettingsError, match=r"backbone\.levels"):
        BackboneConfig(name=name, weights="random", levels=()).build()


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(SettingsError, match=r"backbone\.name: .* nearest is 'tf_efficientnet_lite0'"):
        build("tf_eficientnet_lite0")


def test_fingerprint_follows_weights_and_levels() -> None:
    torch.manual_seed(0)
    one = build(CNN, 2)
    torch.manual_seed(0)
    same, other = build(CNN, 2), build(CNN, 2)
    assert one.fingerprint == same.fingerprint != other.fingerprint
    torch.manual_seed(0)
    assert build(CNN, 3).fingerprint != one.fingerprint
    with torch.no_grad():
        next(same.network.parameters())[0] += 1e-3
    assert same.fingerprint != one.fingerprint


def test_network_is_frozen_and_ready() -> None:
    network = build(CNN)
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert network.source is None


def test_mean_and_deviation_follow_the_weights_named() -> None:
    assert build("tf_efficientnet_lite0.in1k").mean == (0.5, 0.5, 0.5)
    assert build(CNN).mean == pytest.approx((0.485, 0.456, 0.406))


def test_batch_does_not_change_an_image() -> None:
    network, images = build(CNN), torch.rand(3, 3, 64, 64)
    together = network(images).vector_BD
    for row in range(3):
        torch.testing.assert_close(network(images[row : row + 1]).vector_BD[0], together[row], atol=1e-5, rtol=1e-4)


def test_weights_of_our_own_come_with_the_package() -> None:
    """They load under their name, whose tag timm does not know, and see a picture."""
    backbone = BackboneConfig(name="vit_tiny_patch16_224.pangu_cv_embedded").build()
    assert backbone.source is not None
    assert backbone.source.licence == "Apache-2.0"
    assert backbone.mean == (0.5, 0.5, 0.5)
    seen = backbone.probe(64)
    assert seen.vector_BD.shape == (1, 384)
    assert torch.isfinite(seen.vector_BD).all()
