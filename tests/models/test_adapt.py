"""Which part of a network learns."""

import pytest
import torch
from torch import nn

from pangu_cv.errors import SettingsError
from pangu_cv.models.adapt import Full, Lora, Partial, Prompt
from pangu_cv.models.backbone import BackboneConfig


@pytest.mark.parametrize(("name", "last"), [("test_resnet", "layer4."), ("regnetx_002", "s4.")])
def test_the_last_stage_of_a_cnn_learns_and_no_other(name: str, last: str) -> None:
    backbone = BackboneConfig(name=name, weights="random").build()
    groups = Partial(blocks=1).prepare(backbone)
    assert [group.scale for group in groups] == [1.0]
    assert {key[: len(last)] for key, p in backbone.network.named_parameters() if p.requires_grad} == {last}


def test_shallow_stages_learn_slowly() -> None:
    backbone = BackboneConfig(name="test_resnet", weights="random").build()
    assert [group.scale for group in Full(layer_decay=0.5).prepare(backbone)] == [1.0, 0.5, 0.25, 0.125, 0.0625]


def test_what_lies_behind_the_last_block_learns_as_fast_as_it() -> None:
    backbone = BackboneConfig(name="test_vit", weights="random").build()
    groups = Full(layer_decay=0.5).prepare(backbone)
    scale = {id(p): group.scale for group in groups for p in group.parameters}
    of = {name: scale[id(p)] for name, p in backbone.network.named_parameters()}
    assert of["norm.weight"] == 1.0
    assert of["patch_embed.proj.weight"] == of["pos_embed"] == min(of.values()) < 0.1
    assert sum(len(group.parameters) for group in groups) == len(of)


def test_lora_stands_beside_linear_layers_alone() -> None:
    backbone = BackboneConfig(name="test_vit", weights="random").build()
    Lora().prepare(backbone)
    learning = {name.split(".lora_")[0] for name, p in backbone.network.named_parameters() if p.requires_grad}
    assert "blocks.0.attn.proj" in learning
    assert all(isinstance(backbone.network.get_submodule(name).base_layer, nn.Linear) for name in learning)


def test_prompts_keep_the_positions_of_a_network_without_a_class_token() -> None:
    arguments = {"depth": 2, "embed_dim": 48, "num_heads": 3, "img_size": 64}
    name = "vit_base_patch16_siglip_gap_224"
    backbone = BackboneConfig(name=name, weights="random", arguments=arguments, levels=(3, 4)).build()
    before = backbone.network.pos_embed.detach().clone()
    Prompt(tokens=3).prepare(backbone)
    after = backbone.network.pos_embed
    assert torch.equal(after[:, 3:], before)
    assert not after[:, :3].any()


def test_partial_is_refused_where_there_are_no_blocks() -> None:
    backbone = BackboneConfig(name="densenet121", weights="random").build()
    with pytest.raises(SettingsError, match=r"adapt\.kind: partial finds no blocks or stages in 'densenet121'"):
        Partial().prepare(backbone)
