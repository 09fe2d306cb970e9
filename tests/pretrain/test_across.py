"""Two processes with half a batch each do what one does with all of it."""

import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor

from pangu_cv.pretrain.batches import Batch
from pangu_cv.pretrain.relations import UNKNOWN
from tests.pretrain import small

LABELS = [0, 0, 1, 1, UNKNOWN, UNKNOWN, 1, 0]
CAPTIONS = [0, UNKNOWN, UNKNOWN, UNKNOWN, 1, UNKNOWN, UNKNOWN, UNKNOWN]
SETTINGS: dict[str, dict[str, object]] = {"plain": {}, "momentum": {"keys": {"momentum": 0.5, "queue": 0}}}


def whole() -> Batch:
    return small.batch(small.facts(8, labels=LABELS, captions=CAPTIONS))


def part(batch: Batch, rank: int) -> Batch:
    return batch.rows(slice(rank, None, 2))


def gradients(objective: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in objective.named_parameters() if p.grad is not None}


def one_of_two(rank: int, folder: str, settings: dict[str, object]) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    objective = small.joint(small.texts(), **settings).train()
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
    if rank == 0:
        torch.save({"losses": mean, "gradients": found}, f"{folder}/found.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_two_processes_are_one(settings: dict[str, object], tmp_path: Path) -> None:
    objective = small.joint(small.texts(), **settings).train()
    expected = objective(whole())
    expected["total"].backward()
    mp.start_processes(one_of_two, (str(tmp_path), settings), nprocs=2, start_method="spawn")
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    for name, loss in expected.items():
        torch.testing.assert_close(found["losses"][name], loss.detach(), rtol=1e-5, atol=1e-6)
    own = gradients(objective)
    assert own.keys() == found["gradients"].keys()
    for name, gradient in own.items():
        torch.testing.assert_close(found["gradients"][name], gradient, rtol=1e-3, atol=2e-6, msg=name)
