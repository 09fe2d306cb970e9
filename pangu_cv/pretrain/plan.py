"""What a recipe needs before it is run: parameters and memory by part, and how many devices share it out.

Counted on the meta device, which holds shapes and no numbers. Activations are estimated after Korthikanti et al.
(arXiv 2205.05198) for attention that keeps no score matrix: 34 numbers of two bytes per token and feature of a block,
one with checkpointing, beside one whole block.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch

from pangu_cv.models.backbone import Backbone
from pangu_cv.pretrain.objectives import Objective
from pangu_cv.pretrain.recipe import PretrainRecipe
from pangu_cv.pretrain.texts import TextTable

_MIXED = (4, 4, 2)  # bytes of weights, moments, activations
_BYTES = {"auto": _MIXED, "32-true": (4, 4, 4), "bf16-mixed": _MIXED}
_PER_TOKEN = 34 / 2  # numbers kept per token and feature of a block
_RESERVE = 0.15  # share of a device left to the allocator, buffers and communication
DEVICE_GB = 80


@dataclass(frozen=True)
class Plan:
    """Sizes in GB (1e9 bytes); ``on_device_gb`` is one device's part with the recipe's devices."""

    backbone: str
    backbone_parameters: int
    other_parameters: int
    weights_gb: float
    gradients_gb: float
    optimiser_gb: float
    activations_gb: float
    whole_block_gb: float
    devices: int
    on_device_gb: float
    least_devices: int | None

    def as_json(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)

    def text(self) -> str:
        """For people."""
        states = self.weights_gb + self.gradients_gb + self.optimiser_gb
        least = (
            f"{self.least_devices} device(s) of {DEVICE_GB} GB are enough for this batch with engine.strategy=fsdp"
            if self.least_devices
            else f"no number of devices of {DEVICE_GB} GB is enough: use checkpointing or a smaller batch per device"
        )
        return "\n".join(
            [
                f"backbone      {self.backbone}: {self.backbone_parameters / 1e9:.3f} billion parameters",
                f"heads         {self.other_parameters / 1e6:.1f} million",
                f"weights       {self.weights_gb:9.2f} GB",
                f"gradients     {self.gradients_gb:9.2f} GB",
                f"AdamW         {self.optimiser_gb:9.2f} GB   (all three: {states:.2f} GB; strategy=fsdp shares them)",
                f"activations   {self.activations_gb:9.2f} GB   of one device's part of the batch",
                f"one block     {self.whole_block_gb:9.2f} GB   gathered whole while it computes",
                f"per device    {self.on_device_gb:9.2f} GB   on {self.devices} device(s)",
                least,
            ]
        )


def plan(recipe: PretrainRecipe) -> Plan:
    """Count; nothing is allocated and no data is read."""
    with torch.device("meta"):
        backbone = Backbone(recipe.backbone.model_copy(update={"weights": "random"}))
        config = recipe.objective
        if config.kind == "joint":
            config = config.model_copy(update={"teachers": ()})  # frozen, small, and not to be read from disk here
        objective: Objective = config.build(  # type: ignore[assignment, union-attr]
            backbone, TextTable.empty(), side_px=recipe.views.image_px
        )
    inner = sum(p.numel() for p in backbone.network.parameters())
    hidden = config.hidden if config.kind == "joint" and objective.encoder.drops_patches else 0.0
    trained = sum(p.numel() for p in objective.parameters() if p.requires_grad)
    every = sum(p.numel() for p in objective.parameters())
    weight, moment, activation = _BYTES[recipe.engine.precision]
    states = (every * weight / 1e9, trained * weight / 1e9, 2 * trained * moment / 1e9)
    engine = recipe.engine
    devices = engine.devices * engine.nodes
    blocks = list(getattr(backbone.network, "blocks", ()))
    largest = max((sum(p.numel() for p in block.parameters()) for block in blocks), default=inner)
    block_gb = 2 * largest * weight / 1e9
    sharing = devices if engine.strategy == "fsdp" else 1

    def per_device(count: int, shared_by: int) -> tuple[float, float]:
        held = _activations_gb(recipe, backbone, len(blocks), activation, hidden=hidden, devices=count)
        return held, sum(states) / shared_by + held + block_gb

    activations, on_device = per_device(devices, sharing)
    room = DEVICE_GB * (1 - _RESERVE)
    tried = [2**power for power in range(13) if 2**power <= recipe.optim.batch]
    least = next((n for n in tried if per_device(n, n)[1] <= room), None)
    return Plan(
        backbone=recipe.backbone.name,
        backbone_parameters=inner,
        other_parameters=trained - inner,
        weights_gb=states[0],
        gradients_gb=states[1],
        optimiser_gb=states[2],
        activations_gb=activations,
        whole_block_gb=block_gb,
        devices=devices,
        on_device_gb=on_device,
        least_devices=least,
    )


def _activations_gb(
    recipe: PretrainRecipe, backbone: Backbone, blocks: int, number_bytes: int, *, hidden: float, devices: int
) -> float:
    """Kept for the way back by one device, of its part of the batch."""
    net = backbone.network
    width = int(getattr(net, "embed_dim", net.num_features))
    patch = int(net.feature_info[-1]["reduction"])
    tokens = (recipe.views.image_px // patch) ** 2 * (1 - hidden) + int(getattr(net, "num_prefix_tokens", 0))
    images = 2 * recipe.optim.batch / devices / recipe.optim.accumulate
    per_block = images * tokens * width * number_bytes
    if recipe.engine.checkpointing:
        return per_block * (blocks + _PER_TOKEN) / 1e9
    return per_block * blocks * _PER_TOKEN / 1e9
