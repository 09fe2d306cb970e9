"""GPUs that are counted and cannot compute, that have no units for bf16, or whose memory is full."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pangu_cv.errors import GpuMemoryError, SettingsError
from pangu_cv.models.arithmetic import best_precision
from pangu_cv.models.gpu import usable_gpu, words_for_full_memory
from pangu_cv.models.training import TrainConfig, suits_bf16


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    usable_gpu.cache_clear()
    yield
    usable_gpu.cache_clear()


def test_a_gpu_is_taken_if_it_computes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    ones, asked = torch.ones, []

    def on_cpu(size: int, device: str) -> torch.Tensor:
        asked.append(device)
        return ones(size)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch, "ones", on_cpu)
    monkeypatch.setenv("LOCAL_RANK", "3")
    assert usable_gpu()
    assert asked == ["cuda:3"]
    usable_gpu.cache_clear()

    def without_driver(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("Found no NVIDIA driver on your system.\nPlease check ...")

    monkeypatch.setattr(torch, "ones", without_driver)
    with pytest.raises(SettingsError, match=r"GPU 3 does not compute \(Found no NVIDIA driver"):
        usable_gpu()  # the other processes may have one
    monkeypatch.delenv("LOCAL_RANK")
    assert not usable_gpu()
    assert not usable_gpu()
    assert (
        capsys.readouterr().err == "the GPU is not used, it does not compute: Found no NVIDIA driver on your system.\n"
    )


def test_without_a_gpu_nothing_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert not usable_gpu()
    assert capsys.readouterr().err == ""


def test_bf16_is_for_units_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert best_precision(on_gpu=True) == "32-true"  # an older GPU, which emulates it
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert best_precision(on_gpu=True) == "bf16-mixed"


def test_a_gpu_does_not_decide_what_the_cpu_computes_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": False}, raising=False)
    vit: Any = SimpleNamespace(network=SimpleNamespace(num_prefix_tokens=1))
    assert suits_bf16(vit, TrainConfig(), on_gpu=True)
    assert not suits_bf16(vit, TrainConfig(), on_gpu=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
    cnn: Any = SimpleNamespace(network=SimpleNamespace())
    assert suits_bf16(vit, TrainConfig(), on_gpu=False)
    assert not suits_bf16(cnn, TrainConfig(), on_gpu=False)


def test_full_memory_is_put_in_words() -> None:
    said = r"memory is full \(CUDA out of memory\); take a smaller batch, or keep off"
    with pytest.raises(GpuMemoryError, match=said), words_for_full_memory("take a smaller batch"):
        raise torch.OutOfMemoryError("CUDA out of memory\nTried to allocate 2 GiB")
    with pytest.raises(RuntimeError, match="something else"), words_for_full_memory("take a smaller batch"):
        raise RuntimeError("something else")
