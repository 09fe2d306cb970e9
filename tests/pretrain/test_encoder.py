import pytest
import torch

from pangu_cv.pretrain.encoder import Encoder
from pangu_cv.pretrain.patches import draw_visible, visible_pixels
from pangu_cv.tasks.viewed import pooled
from tests.pretrain import small

VIT, CNN = "test_vit", "test_efficientnet"


@pytest.mark.parametrize("name", [VIT, CNN])
def test_all_patches_give_the_backbones_own_features(name: str) -> None:
    backbone = small.backbone(name)
    images = torch.rand(2, 3, 64, 64)
    found, expected = Encoder(backbone)(images), backbone(images)
    vector, mean, deviation = pooled(expected)[:3]
    torch.testing.assert_close(found.pooled[0], torch.cat([mean, deviation], 1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(found.pooled[-1], vector)
    assert [part.shape[1] for part in found.pooled] == Encoder(backbone).widths


@pytest.mark.parametrize("name", [VIT, CNN])
def test_hidden_patches_are_not_seen(name: str) -> None:
    encoder = Encoder(small.backbone(name))
    side = 64 // encoder.patch_px
    keep = torch.tensor([[0, side + 1]])
    images = torch.rand(1, 3, 64, 64)
    other = images * visible_pixels(keep, images, encoder.patch_px)
    first, second = encoder(images, keep), encoder(other, keep)
    for one, two in zip(first.pooled, second.pooled, strict=True):
        torch.testing.assert_close(one, two)
    assert first.tokens_BND.shape[1] == 2


def test_checkpointing_changes_no_gradient() -> None:
    images, gradients = torch.rand(2, 3, 64, 64), []
    for checkpointing in (False, True):
        encoder = Encoder(small.backbone(), checkpointing=checkpointing).train()
        encoder(images).pooled[-1].square().mean().backward()
        gradients.append(encoder.network.blocks[0].mlp.fc1.weight.grad)
    torch.testing.assert_close(*gradients)


def test_visible_patches_follow_from_the_images_own_seed() -> None:
    seeds = torch.tensor([4, 5, 2**61])
    drawn = draw_visible(seeds, patches=16, hidden=0.5, view=0)
    assert drawn is not None
    assert drawn.shape == (3, 8)
    assert torch.equal(drawn, drawn.sort(1).values)
    assert torch.equal(drawn[1:2], draw_visible(seeds[1:2], patches=16, hidden=0.5, view=0))
    assert not torch.equal(drawn, draw_visible(seeds, patches=16, hidden=0.5, view=1))
    assert draw_visible(seeds, patches=16, hidden=0.0, view=0) is None


@pytest.mark.parametrize("name", [VIT, "deit_tiny_patch16_224"])
def test_patches_are_embedded_alike_alone_and_together(name: str) -> None:
    side = 64 if name == VIT else 224
    encoder = Encoder(small.backbone(name))
    images = torch.rand(2, 3, side, side)
    keep = torch.stack([torch.randperm((side // 16) ** 2)[:5].sort().values for _ in images])
    whole = encoder.network._pos_embed(encoder.network.patch_embed(images))
    alone = encoder._embedded(images, keep)
    prefix = encoder.network.num_prefix_tokens
    torch.testing.assert_close(alone[:, :prefix], whole[:, :prefix])
    expected = torch.stack([tokens[chosen] for tokens, chosen in zip(whole[:, prefix:], keep, strict=True)])
    torch.testing.assert_close(alone[:, prefix:], expected)
