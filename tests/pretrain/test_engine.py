"""Several processes end like one, whether each has all weights or a share of them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pangu_cv.errors import SettingsError
from pangu_cv.models import checkpoint
from pangu_cv.pretrain import pretrain
from pangu_cv.pretrain.engine import EngineConfig, join_batch_norms, make_fabric
from tests.pretrain import small


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["auto", "fsdp"])
def test_two_processes_end_like_one(strategy: str, tmp_path: Path) -> None:
    made = small.recipe(small.images(tmp_path / "data"), tmp_path / "one")
    one = pretrain(made)
    (tmp_path / "recipe.yaml").write_text(made.to_yaml())
    settings = [f"engine.strategy={strategy}", "engine.devices=2", f"output={tmp_path / 'two'}"]
    command = [sys.executable, "-m", "pangu_cv.cli", "pretrain", str(tmp_path / "recipe.yaml"), *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("report  ") == 1  # one process speaks
    two = json.loads((tmp_path / "two" / "metrics.json").read_text())
    for name, loss in one.metrics["last_losses"].items():
        assert two["last_losses"][name] == pytest.approx(loss, rel=1e-3)
    expected = checkpoint.load(one.model).components["backbone"]
    found = checkpoint.load(tmp_path / "two" / "model").components["backbone"]
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-2, atol=1e-4, msg=name)


def processes(count: int, device: str) -> Any:
    return SimpleNamespace(world_size=count, device=torch.device(device), is_global_zero=True)


def test_batch_norm_spans_the_processes_where_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    network = small.backbone("test_efficientnet").network
    names = list(network.state_dict())
    join_batch_norms(network, processes(1, "cuda"))
    join_batch_norms(small.backbone().network, processes(2, "cpu"))
    assert capsys.readouterr().err == ""
    join_batch_norms(network, processes(2, "cpu"))
    assert "engine.devices: without GPUs each of 2 processes" in capsys.readouterr().err
    assert not any(isinstance(part, nn.SyncBatchNorm) for part in network.modules())
    join_batch_norms(network, processes(2, "cuda"))
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert all(isinstance(part, nn.SyncBatchNorm) for part in norms)
    assert list(network.state_dict()) == names


def test_several_processes_copy_the_network_and_bear_what_has_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = make_fabric(EngineConfig(devices=2, accelerator="cpu")).strategy
    assert strategy._ddp_kwargs == {"find_unused_parameters": True}  # as mae has heads that nothing uses
    monkeypatch.setattr("pangu_cv.pretrain.engine.usable_gpu", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SettingsError, match=r"engine\.devices: 2 GPUs asked for, and 1 are here"):
        make_fabric(EngineConfig(devices=2))


def test_a_gpu_that_does_not_compute_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.pretrain.engine.usable_gpu", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)  # what Lightning's own "auto" asks
    assert make_fabric(EngineConfig()).device.type == "cpu"
    with pytest.raises(SettingsError, match="none is there"):
        make_fabric(EngineConfig(accelerator="gpu"))
