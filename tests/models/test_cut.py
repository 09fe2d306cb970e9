import pytest
import torch

from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.cut import Cut


@pytest.mark.parametrize("deep", [0, 1, 3, 99])
def test_the_two_parts_say_what_the_whole_says(deep: int) -> None:
    backbone = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build()
    cut, images = Cut(backbone, deep=deep), torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        whole, parts = backbone(images), cut.deep(cut.shallow(images), images)
    assert torch.equal(whole.vector_BD, parts.vector_BD)
    assert len(whole.grids_BDhw) == len(parts.grids_BDhw)
    assert all(torch.equal(a, b) for a, b in zip(whole.grids_BDhw, parts.grids_BDhw, strict=True))


def test_the_shallow_part_takes_no_gradient_from_the_deep_one() -> None:
    backbone = BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build().requires_grad_(True)
    cut, images = Cut(backbone, deep=2), torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        kept = cut.shallow(images)
    cut.deep(kept, images).vector_BD.sum().backward()
    named = [name.split(".") for name, p in backbone.network.named_parameters() if p.grad is not None]
    taught = {parts[1] for parts in named if parts[0] == "blocks"}
    assert taught == {str(n) for n in range(cut.at, len(backbone.network.blocks))}


def test_only_plain_vits_are_cut() -> None:
    assert Cut.is_possible(BackboneConfig(name="test_vit", weights="random", levels=(1, 3, 4)).build())
    assert not Cut.is_possible(BackboneConfig(name="test_efficientnet", weights="random").build())
