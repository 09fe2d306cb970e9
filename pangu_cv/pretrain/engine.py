"""Devices, strategies and precision, by Lightning Fabric."""

from typing import Annotated, Any, Literal

import torch
from lightning.fabric import Fabric
from pydantic import Field
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from pangu_cv.errors import SettingsError
from pangu_cv.models.arithmetic import best_precision
from pangu_cv.models.gpu import usable_gpu
from pangu_cv.pretrain.telling import say
from pangu_cv.settings import Settings

Positive = Annotated[int, Field(ge=1)]


class EngineConfig(Settings):
    """What it runs on; Lightning's strategies do the work."""

    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    """Where."""
    devices: Positive = 1
    """Processes on this machine."""
    nodes: Positive = 1
    """Machines."""
    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """``ddp`` copies the network to every device, ``fsdp`` (FSDP2) shares it out; auto is ddp for several processes."""
    precision: Literal["auto", "32-true", "bf16-mixed"] = "auto"
    """Of the arithmetic; auto is bf16-mixed on a GPU (since Ampere) and on a CPU with units for it (AMX), else 32-true.
    Weights and moments stay in 32 bits: small updates would be lost in 16."""
    compile: bool = False
    """torch.compile the blocks; pays from some thousand steps on."""
    checkpointing: bool = False
    """Compute activations anew on the way back: less memory, a third more time."""
    workers: Annotated[int, Field(ge=0)] = 1
    """Processes that make views."""

    @property
    def processes(self) -> int:
        """On all machines."""
        return self.devices * self.nodes

    @property
    def shares_weights(self) -> bool:
        """Whether no process has all weights."""
        return self.strategy == "fsdp"


def make_fabric(engine: EngineConfig) -> Fabric:
    """Not launched yet."""
    on_gpu = _on_gpu(engine)
    if engine.accelerator == "gpu" and not on_gpu:
        raise SettingsError("engine.accelerator: 'gpu' asked for and none is there; take 'auto' or 'cpu'")
    if on_gpu and engine.devices > torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise SettingsError(
            f"engine.devices: {engine.devices} GPUs asked for, and {count} are here; take at most those"
        )
    return Fabric(
        accelerator="cuda" if on_gpu else "cpu",
        devices=engine.devices,
        num_nodes=engine.nodes,
        strategy=_strategy(engine),
        precision=_precision(engine, on_gpu=on_gpu),
    )


def _on_gpu(engine: EngineConfig) -> bool:
    return engine.accelerator != "cpu" and usable_gpu()


def _strategy(engine: EngineConfig) -> Any:
    if engine.shares_weights:
        from lightning.fabric.strategies import ModelParallelStrategy

        return ModelParallelStrategy(
            parallelize_fn=share_out,
            data_parallel_size=engine.processes,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
        )
    if engine.processes > 1 or engine.strategy == "ddp":
        from lightning.fabric.strategies import DDPStrategy

        # What has no part in some objectives (the class token, the heads without a contrast) is no mistake.
        return DDPStrategy(find_unused_parameters=True)
    return "auto"


def join_batch_norms(network: nn.Module, fabric: Fabric) -> None:
    """Batch statistics over all processes, in place; torch has them for GPUs only, and elsewhere a line says so."""
    if fabric.world_size == 1 or not any(isinstance(part, _BatchNorm) for part in network.modules()):
        return
    if fabric.device.type == "cuda":
        convert_sync_batchnorm(network)
    elif fabric.is_global_zero:
        say(
            f"engine.devices: without GPUs each of {fabric.world_size} processes normalises its own part of the batch "
            "(batch norm), so they do not end like one; a ViT does"
        )


def _precision(engine: EngineConfig, *, on_gpu: bool) -> Any:
    return best_precision(on_gpu=on_gpu) if engine.precision == "auto" else engine.precision


def share_out(module: nn.Module, mesh: Any) -> nn.Module:
    """FSDP2: every block's weights are shared out over the processes, then the rest."""
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    module.to(memory_format=torch.contiguous_format)  # FSDP wants it
    for block in getattr(module.encoder.network, "blocks", ()):  # type: ignore[union-attr]
        fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(module, mesh=mesh["data_parallel"])
    register_fsdp_forward_method(module, "as_a_whole")
    return module
