"""A training that is killed goes on where it was kept, and ends as one that was not."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from pangu_cv.errors import GpuMemoryError
from pangu_cv.models import training
from pangu_cv.models.adapt import Group
from pangu_cv.models.freezing import Freezing
from pangu_cv.models.kept import Kept
from pangu_cv.models.training import Pool, TrainConfig, _Average, _Clock, _parameters, train

CONFIG = TrainConfig(steps=20, batch=4, workers=0, lr=1e-2)


class KilledError(Exception):
    """Stands for a signal."""


def network() -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def make(place: int, seed: int) -> Tensor:
    return torch.randn(6, generator=torch.Generator().manual_seed(place * 1000 + seed % 1000))


def run(model: nn.Module, *, resume: Kept | None, dies_at: int | None = None) -> Any:
    steps = 0

    def losses_of(batch: list[Tensor]) -> dict[str, Tensor]:
        nonlocal steps
        if steps == dies_at:
            raise KilledError
        steps += 1
        x = torch.stack(batch)
        return {"fit": (model(x) - x[:, :3]).square().mean()}

    return train(model, [], make, losses_of, count=10, config=CONFIG, seed=3, resume=resume)


@pytest.fixture(autouse=True)
def _every_step_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pangu_cv.models.training._KEPT_EVERY_SECONDS", 0.0)


def kept_at(path: Path, key: str = "a") -> Kept:
    return Kept(path / "training.ckpt", key)


def test_half_of_what_is_to_be_kept_replaces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept_at(tmp_path).write({"step": 1})

    def half(_: object, path: Path) -> None:
        path.write_bytes(b"PK")
        raise KilledError

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KilledError):
        kept_at(tmp_path).write({"step": 2})
    assert kept_at(tmp_path).read()["step"] == 1


def test_what_was_killed_ends_like_what_was_not(tmp_path: Path) -> None:
    whole = network()
    history = run(whole, resume=None)
    broken = network()
    with pytest.raises(KilledError):
        run(broken, resume=kept_at(tmp_path), dies_at=8)
    again = network()
    resumed = run(again, resume=kept_at(tmp_path))
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=1e-6, atol=1e-7)
    assert resumed.losses["fit"] == pytest.approx(history.losses["fit"])
    assert not (tmp_path / "training.ckpt").exists()


def test_what_another_run_kept_is_not_taken_up(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(network(), resume=kept_at(tmp_path, "another"), dies_at=8)
    history = run(network(), resume=kept_at(tmp_path))
    assert len(history.losses["fit"]) == 20


def test_what_is_kept_holds_no_pickle(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        run(network(), resume=kept_at(tmp_path), dies_at=5)
    stored = torch.load(tmp_path / "training.ckpt", weights_only=True)
    assert stored["step"] == 5


def test_a_head_that_learns_starts_where_it_was_fitted() -> None:
    from pangu_cv.models.ridge_head import RidgeHeadConfig
    from pangu_cv.models.tag_head import TagHeadConfig

    features = torch.randn(30, 1, 12, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(30) % 3
    ridge = RidgeHeadConfig().build(groups=[5, 7], classes=3)
    ridge.fit(features, labels)
    tags = TagHeadConfig().build(groups=[5, 7], classes=3)
    present = nn.functional.one_hot(labels, 3).bool()
    tags.calibrate(tags.solve(features, present).mean(1), present)
    heads: list[tuple[Any, Callable[[], Any]]] = [(ridge, ridge.learnable), (tags, tags.learnable)]
    for head, learnable in heads:
        before, learnt = head(features), learnable()
        torch.testing.assert_close(learnt(features[:, 0]), before)
        with torch.no_grad():
            learnt.bias += 1
        head.settle(learnt)
        torch.testing.assert_close(head(features), before + 1)


def test_a_mean_that_was_kept_goes_where_the_weights_are() -> None:
    model = nn.Linear(2, 2, device="meta")  # stands for a GPU: arithmetic with the CPU's tensors is refused alike
    average = _Average(model, 0.9)
    average.mean = {"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}
    average.on_train_batch_end()
    assert {mean.device.type for mean in average.mean.values()} == {"meta"}


def test_the_weights_that_stay_are_the_mean(monkeypatch: pytest.MonkeyPatch) -> None:
    averages: list[_Average] = []

    class Seen(_Average):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            averages.append(self)

    monkeypatch.setattr(training, "_Average", Seen)
    run(model := network(), resume=None)
    [average] = averages
    assert average.steps == CONFIG.steps
    for name, weight in model.state_dict().items():
        assert torch.equal(weight, average.mean[name])


def test_a_mean_is_young_first_and_takes_the_place_of_the_last_weight() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = _Average(model, 0.9)
    for step in range(2):
        nn.init.constant_(model.weight, float(step))
        average.on_train_batch_end()
    average.on_train_end()
    assert float(model.weight.detach()) == pytest.approx(1 - 2 / 12)  # 0, then 1 with a memory of 2 / (2 + 10)


def test_the_rate_rises_to_its_peak_and_cools_down_to_nothing() -> None:
    config = TrainConfig(steps=100, warmup=0.2)
    rate = _Clock(config).rate
    assert [rate(step) for step in (0, 10, 20, 60, 100)] == pytest.approx([0.05, 0.5, 1.0, 0.5, 0.0])
    late = _Clock(config.model_copy(update={"max_seconds": 100.0}), spent=80.0).rate(1)
    assert late == pytest.approx(0.5 + 0.5 * math.cos(math.pi * 0.75), abs=1e-3)  # by the time


def test_steps_take_the_rate_of_the_clock_and_clipped_gradients() -> None:
    model = network()
    seen: list[tuple[float, float]] = []

    def steep(batch: list[Tensor]) -> dict[str, Tensor]:
        return {"fit": 1e4 * model(torch.stack(batch)).square().mean()}

    def look(optimiser: torch.optim.Optimizer, *_: Any) -> None:
        gradients = [p.grad.flatten() for group in optimiser.param_groups for p in group["params"]]
        rates = {group["lr"] for group in optimiser.param_groups}
        seen.append((*rates, float(torch.cat(gradients).norm())))

    hook = register_optimizer_step_post_hook(look)
    try:
        train(model, [], make, steep, count=10, config=CONFIG, seed=3)
    finally:
        hook.remove()
    rates, norms = zip(*seen, strict=True)
    assert rates == pytest.approx([CONFIG.lr * _Clock(CONFIG).rate(step) for step in range(CONFIG.steps)])
    assert norms == pytest.approx([CONFIG.clip] * CONFIG.steps, rel=1e-4)


def test_each_part_has_its_own_peak_and_biases_do_not_decay() -> None:
    model = network()
    shallow, head = model[0], model[2]
    config = TrainConfig(lr=0.1, backbone_lr=0.01, weight_decay=0.3)
    found = _parameters(model, [Group(tuple(shallow.parameters()), 0.5)], config)
    expected = [(head.weight, 0.1, 0.3), (head.bias, 0.1, 0), (shallow.weight, 0.005, 0.3), (shallow.bias, 0.005, 0)]
    assert [(len(one["params"]), one["lr"], one["peak"], one["weight_decay"]) for one in found] == [
        (1, peak, peak, decay) for _, peak, decay in expected
    ]
    assert all(one["params"][0] is parameter for one, (parameter, _, _) in zip(found, expected, strict=True))


def test_the_mean_of_a_frozen_weight_goes_on_to_where_it_froze() -> None:
    model = nn.Linear(1, 1, bias=False)
    average = _Average(model, 0.5)
    for step in range(40):
        if step < 5:
            nn.init.constant_(model.weight, float(step))
        model.weight.requires_grad_(step < 5)
        average.on_train_batch_end()
    average.on_train_end()
    assert float(model.weight) == pytest.approx(4.0, abs=1e-6)


def test_what_was_frozen_is_frozen_after_a_resume() -> None:
    def freezing(model: nn.Module) -> Freezing:
        groups = [Group(tuple(model[at].parameters()), 1.0) for at in (2, 0)]
        return Freezing(groups, 0.5, warm=0)

    first, again = freezing(network()), freezing(model := network())
    first.mean, first.highest = [1.0, 0.1], [1.0, 1.0]
    for _ in range(12):
        first.on_train_batch_end()
    again.restore(first.state())
    assert [p.requires_grad for p in model.parameters()] == [False, False, True, True]
    assert again.state() == first.state()
    assert again.state()["steps"] == 12
    assert again.saved == first.saved > 0


def test_a_pool_of_many_images_keeps_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_MOST_KEPT", 6)
    made: list[int] = []
    kept: dict[tuple[Path, int], int] = {}
    pool = Pool(lambda place, _: made.append(place) or place, [Path(str(n)) for n in range(10)], size=4, kept=kept)
    assert [pool(place, seed) for seed in (0, 5) for place in range(10)] == 2 * list(range(10))
    assert made == [*range(10), *range(6, 10)]
    assert len(kept) == 6


def test_a_full_gpu_is_told_with_what_to_do() -> None:
    def losses_of(batch: list[Tensor]) -> dict[str, Tensor]:
        raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(GpuMemoryError, match=r"take a smaller train\.batch"):
        train(network(), [], make, losses_of, count=10, config=CONFIG, seed=3)


def test_the_cpu_is_taken_where_a_gpu_does_not_compute(monkeypatch: pytest.MonkeyPatch) -> None:
    class SeenError(Exception):
        pass

    def spy(**options: Any) -> Any:
        raise SeenError(options["accelerator"])

    monkeypatch.setattr(training, "Trainer", spy)
    for is_usable, taken in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(training, "usable_gpu", lambda is_usable=is_usable: is_usable)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
        with pytest.raises(SeenError, match=taken):
            run(network(), resume=None)
