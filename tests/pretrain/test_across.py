"""Two processes with half a batch each do what one does with all of it."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from pangu_cv.pretrain.batches import Batch
from pangu_cv.pretrain.objectives import Dino, DinoConfig, Joint
from pangu_cv.pretrain.relations import UNKNOWN
from tests.pretrain import small

LABELS = [0, 0, 1, 1, UNKNOWN, UNKNOWN, 1, 0]
CAPTIONS = [0, UNKNOWN, UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN, UNKNOWN]
TEACHER = {"backbone": {"name": "test_efficientnet", "weights": "random"}}
SETTINGS: dict[str, dict[str, object]] = {
    "plain": {},
    "momentum": {"keys": {"momentum": 0.5, "queue": 0}},
    "koleo": {"koleo": 0.5},
    "taught": {"teachers": [TEACHER]},
    "dino": {"prototypes": 32},
}


def build(name: str) -> Joint | Dino:
    if name != "dino":
        return small.joint(small.texts(), **SETTINGS[name]).train()
    made = small.backbone()
    torch.manual_seed(1)
    return DinoConfig.model_validate(SETTINGS[name]).build(made, small.texts(), side_px=small.SIDE).train()


def whole() -> Batch:
    return small.batch(small.facts(8, labels=LABELS, captions=CAPTIONS), local=2)


def part(batch: Batch, rank: int) -> Batch:
    return batch.rows(slice(rank, None, 2))


def gradients(objective: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    for name in SETTINGS:
        found = half(rank, name)
        if rank == 0:
            torch.save(found, f"{folder}/{name}.pt")
    dist.destroy_process_group()


def half(rank: int, name: str) -> dict[str, dict[str, Tensor]]:
    """Losses and gradients of half the batch, averaged over the two processes."""
    objective = build(name)
    losses = objective(part(whole(), rank))
    losses["total"].backward()
    found = gradients(objective)
    for gradient in found.values():  # what DDP does: the mean over processes
        dist.all_reduce(gradient)
        gradient /= 2
    mean = {name: loss.detach().clone() for name, loss in losses.items()}
    for value in mean.values():
        dist.all_reduce(value)
        value /= 2
    return {"losses": mean, "gradients": found, "buffers": dict(objective.named_buffers())}


@pytest.fixture(scope="module")
def halves(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes found under each of the settings; starting them is what takes long."""
    folder = tmp_path_factory.mktemp("halves")
    mp.start_processes(one_of_two, (str(folder),), nprocs=2, start_method="spawn")
    return folder


@pytest.mark.parametrize("name", SETTINGS)
def test_two_processes_are_one(name: str, halves: Path) -> None:
    objective = build(name)
    expected = objective(whole())
    expected["total"].backward()
    found = torch.load(halves / f"{name}.pt", weights_only=True)
    for term, loss in expected.items():
        torch.testing.assert_close(found["losses"][term], loss.detach(), rtol=1e-5, atol=1e-6)
    own = gradients(objective)
    assert own.keys() == found["gradients"].keys()
    for weight, gradient in own.items():
        scale = max(1.0, gradient.abs().max().item())  # small entries of a large gradient are as far off as large ones
        torch.testing.assert_close(found["gradients"][weight], gradient, rtol=1e-3, atol=2e-6 * scale, msg=weight)
    for buffer, value in objective.named_buffers():  # the teacher's centre, and the scales of frozen networks
        torch.testing.assert_close(found["buffers"][buffer], value, rtol=1e-4, atol=1e-5, msg=buffer)
