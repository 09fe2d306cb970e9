import copy
from dataclasses import replace
from typing import cast

import pytest
import timm
import torch

from pangu_cv.distill.extraction import Streams, directions, extract, streams, sub_config
from pangu_cv.distill.importance import Importance, importance
from pangu_cv.distill.shape import LatticeConfig, Shape, lattice, params_in, require_plain, whole
from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import Backbone, BackboneConfig, BackboneFeatures

LEVELS = (2, 3, 4)


@pytest.fixture(scope="module")
def teacher() -> Backbone:
    torch.manual_seed(0)
    backbone = BackboneConfig(name="test_vit", weights="random", levels=LEVELS).build()
    for name, parameter in backbone.network.named_parameters():  # timm's random blocks hardly do anything
        torch.nn.init.normal_(parameter, mean=float(name.endswith("norm1.weight") or "norm" in name), std=0.1)
    return backbone


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(12, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def scores(teacher: Backbone, images: torch.Tensor) -> Importance:
    pairs = [(images[:6], images[:6].flip(-1))]
    return importance(teacher, pairs, lambda a, b, one, other: (a.vector_BD - b.vector_BD).square().mean(), depth=6)


@pytest.fixture(scope="module")
def seen(teacher: Backbone, images: torch.Tensor) -> Streams:
    return streams(teacher, images, depth=6)


def full(teacher: Backbone) -> Shape:
    return whole(teacher, image_px=64, depth=6)


def error(student: Backbone, teacher: Backbone, images: torch.Tensor) -> float:
    """Of the best linear map from the student's deepest grid to the teacher's, in shares of its variance."""
    with torch.no_grad():
        x, y = (b(images).grids_BDhw[-1].permute(0, 2, 3, 1).flatten(0, 2).double() for b in (student, teacher))
    x = torch.cat([x, torch.ones(len(x), 1)], 1)
    rest = y - x @ torch.linalg.lstsq(x, y).solution
    return float(rest.square().sum() / (y - y.mean(0)).square().sum())


def test_the_whole_is_the_teacher(teacher: Backbone, images: torch.Tensor, scores: Importance, seen: Streams) -> None:
    made = extract(teacher, full(teacher), scores, seen, levels=LEVELS)
    fresh = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        for mine, theirs in zip(made(fresh).grids_BDhw, teacher(fresh).grids_BDhw, strict=True):
            torch.testing.assert_close(mine, theirs, atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize("cut", [{"heads": 1}, {"hidden": 96}, {"depth": 4}], ids=str)
def test_a_cut_is_made_good(
    cut: dict[str, int], teacher: Backbone, images: torch.Tensor, scores: Importance, seen: Streams
) -> None:
    shape = replace(full(teacher), **cut)
    made = extract(teacher, shape, scores, seen, levels=LEVELS)
    blank = sub_config(teacher.config, shape, levels=LEVELS).build()
    assert error(made, teacher, images) < 0.5 * error(blank, teacher, images)


def test_timm_alone_loads_it(teacher: Backbone, images: torch.Tensor, scores: Importance, seen: Streams) -> None:
    shape = Shape(image_px=64, depth=3, heads=1, hidden=48, head_dim=32)
    made = extract(teacher, shape, scores, seen, levels=LEVELS)
    plain = timm.create_model("test_vit", num_classes=0, **made.config.arguments)
    plain.load_state_dict(made.network.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(plain.eval()(images), made.network(images))
    assert (plain.embed_dim, len(plain.blocks)) == (32, 3)


def test_directions_suit_a_layer_norm(seen: Streams) -> None:
    into_kD = directions(seen, 32)
    turned = into_kD @ into_kD.T  # a projection on what adds up to nothing
    torch.testing.assert_close(turned, torch.eye(32) - 1 / 32, atol=1e-5, rtol=0)
    torch.testing.assert_close(into_kD.sum(0), torch.zeros(64), atol=1e-5, rtol=0)
    torch.testing.assert_close(into_kD.sum(1), torch.zeros(32), atol=1e-4, rtol=0)


def test_a_stream_of_few_directions_loses_nothing(teacher: Backbone) -> None:
    """Tokens that lie in 31 directions are kept whole by 32 channels."""
    basis = torch.linalg.qr(torch.cat([torch.ones(64, 1), torch.randn(64, 31)], 1)).Q[:, 1:]
    tokens = torch.randn(4, 9, 31) @ basis.T
    into_kD = directions(Streams(tokens, (), ()), 32)
    kept = tokens @ into_kD.T
    torch.testing.assert_close(kept.square().sum(-1), tokens.square().sum(-1), atol=1e-3, rtol=1e-3)


def test_what_does_nothing_goes_first(images: torch.Tensor) -> None:
    torch.manual_seed(3)
    idle = BackboneConfig(name="test_vit", weights="random", levels=LEVELS).build()
    for parameter in idle.network.blocks.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with torch.no_grad():
        for layer in (idle.network.blocks[2].attn.proj, idle.network.blocks[2].mlp.fc2):
            layer.weight.zero_()
            layer.bias.zero_()
        idle.network.blocks[1].attn.proj.weight[:, 32:] = 0  # its second head
        idle.network.blocks[1].mlp.fc2.weight[:, 100:] = 0
    pairs = [(images[:6], images[:6].flip(-1))]
    found = importance(idle, pairs, lambda a, b, one, other: (a.vector_BD - b.vector_BD).square().mean(), depth=6)
    assert found.order[0] == 2
    assert found.blocks(5) == [0, 1, 3, 4, 5]
    assert found.heads(1, 1).tolist() == [0]
    assert found.hidden(1, 100).tolist() == list(range(100))
    assert sum(len(block.attn.proj._forward_pre_hooks) for block in idle.network.blocks) == 0


class OfPixels:
    """A network whose vector comes from no block, so that telling images apart says nothing of any."""

    def __init__(self, backbone: Backbone) -> None:
        self.backbone, self.network = backbone, backbone.network

    def __call__(self, images_B3SS: torch.Tensor) -> BackboneFeatures:
        return replace(self.backbone(images_B3SS), vector_BD=images_B3SS.flatten(1))


def test_what_the_task_alone_needs_is_kept(teacher: Backbone, images: torch.Tensor) -> None:
    needy = copy.deepcopy(teacher)
    with torch.no_grad():
        needy.network.blocks[5].attn.proj.weight[:, :32] = 0  # its first head
    pairs = [(images[:6], images[:6].flip(-1))]
    backbone = cast(Backbone, OfPixels(needy))
    found = importance(backbone, pairs, lambda a, b, one, other: a.grids_BDhw[-1].square().mean(), depth=6)
    assert found.heads(5, 1).tolist() == [1]
    assert found.heads_BH[5, 1] > 0
    assert not importance(backbone, pairs, lambda *_: torch.zeros(()), depth=6).heads_BH.any()


@pytest.mark.parametrize("cut", [{}, {"heads": 1, "hidden": 48}, {"depth": 3, "image_px": 96}], ids=str)
def test_parameters_are_counted_as_timm_has_them(cut: dict[str, int], teacher: Backbone) -> None:
    shape = replace(full(teacher), **cut)
    made = sub_config(teacher.config, shape, levels=LEVELS).build()
    assert params_in(shape, teacher.network) == sum(p.numel() for p in made.network.parameters())


def test_only_a_plain_vit_can_be_cut() -> None:
    with pytest.raises(SettingsError, match="pangu-cv distill student"):
        require_plain(BackboneConfig(name="test_efficientnet", weights="random").build())
    require_plain(BackboneConfig(name="test_vit", weights="random").build())


def test_the_lattice_fits_patch_and_head() -> None:
    shapes = lattice(Shape(448, 12, 3, 768, 64), LatticeConfig(), patch_px=16, multiple_px=32, least_depth=4)
    assert {s.image_px % 32 for s in shapes} == {0}
    assert {s.heads for s in shapes} == {1, 2, 3}
    assert min(s.depth for s in shapes) == 4
    assert max(shapes) == Shape(448, 12, 3, 768, 64)
