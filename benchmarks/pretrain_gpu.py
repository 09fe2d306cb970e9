"""How well a GPU is used: images/s, share of its arithmetic (MFU) and memory of the joint objective's whole step.

A step is what training does, on a batch that lies on the GPU: both views, heads, loss, decoder, backward, clipping,
the optimiser. Operations are counted by torch on the uncompiled step, without what checkpointing computes anew; the
share is of the dense bf16 rate that the maker states (PaLM's MFU, arXiv 2204.02311). A large matrix product is timed
beside.
"""

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.isolate import NotRunError
from pangu_cv import recipes
from pangu_cv.pretrain import PretrainRecipe
from pangu_cv.pretrain.batches import Batch
from pangu_cv.pretrain.engine import make_fabric
from pangu_cv.pretrain.optimiser import build_optimiser
from pangu_cv.pretrain.relations import UNKNOWN, Facts
from pangu_cv.pretrain.texts import TextTable

STATED_TFLOPS = {"H100": 989.0, "H200": 989.0, "A100": 312.0, "B200": 2250.0}  # dense bf16, of the makers' data sheets
_WARM, _TIMED, _COUNTED = 6, 20, 4
_SIDE_PX = 224
_NETWORKS = {
    "ViT-S": ["backbone.name=vit_small_patch16_224"],
    "ViT-B": ["backbone.name=vit_base_patch16_224"],
    "ViT-L": ["backbone.name=vit_large_patch16_224"],
    "ViT-3B": [],  # the recipe's own
}


def measure(*, data: str, is_quick: bool, network: str, batch: int, hidden: float) -> dict[str, Any]:
    """One network in bf16, compiled; NotRunError without a GPU."""
    del data
    if not torch.cuda.is_available():
        raise NotRunError("no GPU is at hand")
    recipe = _recipe(network, batch=4 if is_quick else batch, hidden=hidden)
    step, parameters, operations = _step(recipe)
    for _ in range(2 if is_quick else _WARM):
        step()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    steps = 2 if is_quick else _TIMED
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    seconds = (time.perf_counter() - start) / steps
    name = torch.cuda.get_device_name()
    stated = next((rate for part, rate in STATED_TFLOPS.items() if part in name), None)
    rate = operations * recipe.optim.batch / seconds / 1e12
    return {
        "gpu": name,
        "network": network,
        "parameters": parameters,
        "batch": recipe.optim.batch,
        "hidden": hidden,
        "checkpointing": recipe.engine.checkpointing,
        "images_per_s": recipe.optim.batch / seconds,
        "tflop_an_image": operations / 1e12,
        "tflops": rate,
        "mfu": None if stated is None else rate / stated,
        "product_tflops": _product_tflops(),
        "peak_gb": torch.cuda.max_memory_allocated() / 1e9,
    }


def _recipe(network: str, *, batch: int, hidden: float) -> PretrainRecipe:
    is_largest = network == "ViT-3B"
    lines = [
        "data=unused",
        "backbone.weights=random",
        *_NETWORKS[network],
        f"views.image_px={_SIDE_PX}",
        f"objective.hidden={hidden}",
        "objective.neighbours.weight=0",
        "objective.labels.weight=0",
        f"optim.batch={batch}",
        "engine.accelerator=gpu",
        "engine.devices=1",
        "engine.nodes=1",
        "engine.strategy=auto",
        "engine.precision=bf16-mixed",
        f"engine.checkpointing={str(is_largest).lower()}",
        "engine.compile=true",
    ]
    return PretrainRecipe.load(recipes.find("pretrain", "vit_3b" if is_largest else "joint_repair"), lines)


def _step(recipe: PretrainRecipe) -> tuple[Callable[[], None], int, float]:
    """A step of training, the parameters that learn, and operations of an image."""
    fabric = make_fabric(recipe.engine)
    fabric.launch()
    torch.manual_seed(0)
    with fabric.init_module():
        backbone = recipe.backbone.build()
        objective = recipe.objective.build(
            backbone, TextTable.empty(), side_px=_SIDE_PX, checkpointing=recipe.engine.checkpointing
        )
    network = fabric.setup_module(objective)
    optimiser = fabric.setup_optimizers(build_optimiser(objective, recipe.optim))
    whole = _batch(recipe.optim.batch).to(fabric.device)

    def backward(batch: Batch) -> None:
        fabric.backward(network(batch)["total"])

    objective.encoder.keep_activations(True)
    with FlopCounterMode(display=False) as counter:
        backward(_batch(_COUNTED).to(fabric.device))
    operations = counter.get_total_flops() / _COUNTED
    objective.encoder.keep_activations(not recipe.engine.checkpointing)
    optimiser.zero_grad()
    for block in objective.encoder.network.blocks:
        block.compile()

    def step() -> None:
        backward(whole)
        fabric.clip_gradients(network, optimiser, max_norm=recipe.optim.clip, error_if_nonfinite=False)
        optimiser.step()
        objective.after_step()
        optimiser.zero_grad()

    return step, sum(p.numel() for p in objective.parameters() if p.requires_grad), operations


def _batch(count: int) -> Batch:
    random = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, 2, _SIDE_PX, _SIDE_PX, 3), dtype=torch.uint8, generator=random)
    unknown = torch.full((count,), UNKNOWN)
    facts = Facts(torch.arange(count), unknown, unknown, torch.full((count, 1), UNKNOWN))
    return Batch(pixels, pixels, pixels[:, :0], torch.arange(count), facts)


def _product_tflops() -> float:
    """What a matrix product of 8192 on random bf16 numbers reaches on this GPU."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(10):
        a @ b
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - start) / 1e12
