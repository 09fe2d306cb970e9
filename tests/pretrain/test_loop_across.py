"""What several processes must do alike: stop together, and wait for the one that writes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pangu_cv.errors import GpuMemoryError, SettingsError
from pangu_cv.pretrain import loop, pretrain
from tests.pretrain import small


class Fabric:
    """One of two processes; of all that is reduced the other one has 0."""

    is_global_zero = True

    def __init__(self) -> None:
        self.calls: list[str] = []

    def all_reduce(self, data: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "mean"
        return data / 2

    def barrier(self) -> None:
        self.calls.append("barrier")


def parts(folder: Path, fabric: Fabric, *, rank: int = 0) -> Any:
    images = SimpleNamespace(paths=[Path("a.png")])
    return SimpleNamespace(fabric=fabric, folder=folder, feed=SimpleNamespace(images=images, rank=rank))


def test_a_state_that_some_processes_do_not_see_stops_all_of_them(tmp_path: Path) -> None:
    assert loop._resumed(parts(tmp_path, Fabric()), "key").step == 0
    (tmp_path / "state.ckpt").touch()
    with pytest.raises(SettingsError, match="is not one folder on all machines"):
        loop._resumed(parts(tmp_path, Fabric()), "key")


@pytest.mark.parametrize(("rank", "name"), [(0, "bad_batch"), (1, "bad_batch-1")])
def test_no_process_ends_before_each_has_written_its_part(rank: int, name: str, tmp_path: Path) -> None:
    fabric, batch = Fabric(), small.batch(small.facts(1))
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "run")
    with pytest.raises(loop.DivergedError, match=rf"{name}\.npz \(files in {name}\.txt\)"):
        loop._diverged(made, parts(tmp_path, fabric, rank=rank), batch, "the loss was not a number")
    assert (tmp_path / f"{name}.txt").read_text() == "a.png\n"
    with np.load(tmp_path / f"{name}.npz") as kept:
        assert np.array_equal(kept["clean"], batch.clean.numpy())
    assert fabric.calls == ["barrier"]


def test_a_full_gpu_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "_step", full)
    with pytest.raises(GpuMemoryError, match=r"cut the batch into parts \(optim\.accumulate\)"):
        pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run"))


def test_one_list_of_neighbours_is_cut_into_shares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Near ties may fall otherwise on another GPU: what the first process found holds for all."""
    given = []

    def broadcast(self: Any, found: Any) -> Any:
        if isinstance(found, torch.Tensor):
            given.append(found)
        return found

    monkeypatch.setattr("lightning.fabric.Fabric.broadcast", broadcast)
    pretrain(small.recipe(small.images(tmp_path / "data"), tmp_path / "run"))
    assert given
    assert all(found.shape == given[0].shape for found in given)
