import pytest
from torch import nn

from pangu_cv.pretrain.optimiser import OptimConfig, build_optimiser, set_rate
from tests.pretrain import small


def test_each_part_has_its_own_rate() -> None:
    objective = small.joint(repair={"width": 64, "depth": 1, "lr": 2e-2})
    settings = OptimConfig(steps=100, lr=1e-3, layer_decay=0.5, warmup=0)
    optimiser = build_optimiser(objective, settings)
    assert set_rate(optimiser, settings, 0) == 1e-3
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert objective.decoder is not None
    refined = [rates[id(p)] for p in objective.decoder.refine.parameters()]
    assert refined == pytest.approx([2e-2] * len(refined))
    assert {rates[id(p)] for p in (*objective.decoder.blocks.parameters(), *objective.heads.parameters())} == {1e-3}
    blocks = objective.encoder.network.blocks
    first, last = (rates[id(block.attn.qkv.weight)] for block in (blocks[0], blocks[-1]))
    assert first < last <= 1e-3


def test_every_weight_is_learnt_once_and_only_matrices_decay() -> None:
    objective = small.joint()
    optimiser = build_optimiser(objective, OptimConfig(weight_decay=0.1))
    held = [(p, group["weight_decay"]) for group in optimiser.param_groups for p in group["params"]]
    wanted = {id(p) for p in objective.parameters() if p.requires_grad}
    assert len(held) == len(wanted)
    assert {id(p) for p, _ in held} == wanted
    decays = {id(p): decay for p, decay in held}
    convolution = objective.decoder.refine[0] if objective.decoder is not None else None
    assert isinstance(convolution, nn.Conv2d)
    assert decays[id(convolution.weight)] == 0.1
    assert convolution.bias is not None
    assert decays[id(convolution.bias)] == 0


def test_without_a_decoder_nothing_else_is_needed() -> None:
    objective = small.joint(repair={"weight": 0})
    held = {id(p) for group in build_optimiser(objective, OptimConfig()).param_groups for p in group["params"]}
    assert held == {id(p) for p in objective.parameters() if p.requires_grad}
