import pytest
import torch
from torch import Tensor

from pangu_cv.errors import DataError
from pangu_cv.models.ridge_head import RidgeHeadConfig
from pangu_cv.models.ridge_memory import RidgeMemory

D, PENALTY = 12, 0.3
CLOSE = {"atol": 1e-8, "rtol": 0.0}


def problem(rows: int, *, classes: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    rng = torch.Generator().manual_seed(seed)
    rows_PD = torch.nn.functional.normalize(torch.randn(rows, D, dtype=torch.float64, generator=rng), dim=1)
    return rows_PD, torch.nn.functional.one_hot(torch.arange(rows) % classes, classes).double()


def jointly(rows_PD: Tensor, targets_PC: Tensor) -> tuple[Tensor, Tensor]:
    """Ridge regression with a free intercept, straight from the normal equations."""
    mean, base = rows_PD.mean(0), targets_PC.mean(0)
    centred = rows_PD - mean
    weight = torch.linalg.solve(
        centred.T @ centred + PENALTY * torch.eye(D, dtype=torch.float64), centred.T @ (targets_PC - base)
    )
    return weight, base - mean @ weight


def learnt(rows_PD: Tensor, targets_PC: Tensor) -> RidgeMemory:
    return RidgeMemory.empty(features=D, outputs=targets_PC.shape[1]).add(rows_PD, targets_PC)


def same(memory: RidgeMemory, rows_PD: Tensor, targets_PC: Tensor) -> None:
    solved, (weight, bias) = memory.solve(PENALTY), jointly(rows_PD, targets_PC)
    torch.testing.assert_close(solved.weight_DC, weight, **CLOSE)
    torch.testing.assert_close(solved.bias_C, bias, **CLOSE)


@pytest.mark.parametrize("rows", [9, 12, 13, 200])
def test_classes_in_steps_equal_all_at_once(rows: int) -> None:
    """Two classes, then one after another, the first coming again in between."""
    rows_PD, targets_PC = problem(rows)
    labels = targets_PC.argmax(1)
    again = (labels == 0) & (torch.arange(rows) > rows // 2)
    steps = [(labels < 2) & ~again, labels == 2, again, labels == 3, labels == 4]
    memory = RidgeMemory.empty(features=D, outputs=2)
    seen = torch.zeros(rows, dtype=torch.bool)
    for step, count in zip(steps, (2, 3, 3, 4, 5), strict=True):
        memory = memory.with_outputs(count).add(rows_PD[step], targets_PC[step, :count])
        seen |= step
        same(memory, rows_PD[seen], targets_PC[seen, :count])
    assert memory.weight == pytest.approx(rows)


def test_it_solves_what_the_head_solves() -> None:
    rng = torch.Generator().manual_seed(3)
    features_NVD, labels_N = torch.randn(30, 4, D, generator=rng), torch.arange(30) % 3
    head = RidgeHeadConfig(penalty=PENALTY).build(groups=[5, 7], classes=3)
    left_out_NVC = head.solve(features_NVD, torch.nn.functional.one_hot(labels_N, 3))
    rows = head.normalised(features_NVD.double(), head.statistics(features_NVD))
    targets = torch.nn.functional.one_hot(labels_N, 3).double()
    solved = learnt(rows.flatten(0, 1), targets.repeat_interleave(4, 0)).solve(PENALTY)
    torch.testing.assert_close(solved.weight_DC.T.float(), head.weight_CD)
    torch.testing.assert_close(solved.bias_C.float(), head.bias_C)
    for image in range(30):
        torch.testing.assert_close(solved.left_out(rows[image], targets[image]), left_out_NVC[image], **CLOSE)


@pytest.mark.parametrize("rows", [8, 40])
def test_a_weight_is_a_repetition(rows: int) -> None:
    rows_PD, targets_PC = problem(rows)
    memory = RidgeMemory.empty(features=D, outputs=5).add(rows_PD, targets_PC, torch.arange(1, rows + 1) % 3 + 1.0)
    counts = torch.arange(1, rows + 1) % 3 + 1
    same(memory, rows_PD.repeat_interleave(counts, 0), targets_PC.repeat_interleave(counts, 0))


@pytest.mark.parametrize("rows", [8, 40])
def test_a_weighted_image_is_left_out_exactly(rows: int) -> None:
    rows_PD, targets_PC = problem(rows)
    block, rest = slice(0, 2), slice(2, rows)
    targets_PC[:2] = targets_PC[0]
    memory = learnt(rows_PD[rest], targets_PC[rest])
    both = memory.add(rows_PD[block], targets_PC[block], torch.full((2,), 2.5))
    without = memory.solve(PENALTY)
    expected = rows_PD[block] @ without.weight_DC + without.bias_C
    found = both.solve(PENALTY).left_out(rows_PD[block], targets_PC[0], weight=2.5)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize("rows", [8, 40])
def test_rows_of_several_weights_and_targets_are_left_out_together(rows: int) -> None:
    rows_PD, targets_PC = problem(rows)
    weight_V = torch.tensor([2.5, 1.0, 0.3])
    rest = learnt(rows_PD[3:], targets_PC[3:])
    without, every = rest.solve(PENALTY), rest.add(rows_PD[:3], targets_PC[:3], weight_V).solve(PENALTY)
    found = every.left_out(rows_PD[:3], targets_PC[:3], weight=weight_V)
    torch.testing.assert_close(found, rows_PD[:3] @ without.weight_DC + without.bias_C, **CLOSE)
    alone = learnt(rows_PD[:1], targets_PC[:1]).solve(PENALTY)
    assert torch.equal(alone.left_out(rows_PD[:1], targets_PC[:1]), torch.zeros_like(targets_PC[:1]).double())


@pytest.mark.parametrize(("first", "second"), [(5, 4), (5, 60), (60, 5), (60, 60)])
def test_two_memories_join(first: int, second: int) -> None:
    rows_PD, targets_PC = problem(first + second)
    parts = [learnt(rows_PD[part], targets_PC[part]) for part in (slice(0, first), slice(first, None))]
    same(parts[0].merge(parts[1]), rows_PD, targets_PC)


def test_what_both_have_grown_from_counts_once() -> None:
    rows_PD, targets_PC = problem(40)
    base = learnt(rows_PD[:20], targets_PC[:20])
    one, other = (base.add(rows_PD[part], targets_PC[part]) for part in (slice(20, 26), slice(26, 40)))
    same(one.merge(other, base=base), rows_PD, targets_PC)
    with pytest.raises(DataError, match="never in this memory"):
        base.without(one)


@pytest.mark.parametrize("rows", [8, 40])
def test_another_label_is_as_if_it_had_been_so(rows: int) -> None:
    rows_PD, targets_PC = problem(rows)
    corrected = targets_PC.clone()
    corrected[3] = targets_PC[4]
    change = (corrected - targets_PC)[3:4]
    same(learnt(rows_PD, targets_PC).retarget(rows_PD[3:4], change, torch.ones(1)), rows_PD, corrected)


@pytest.mark.parametrize("rows", [6, 8, 12, 13, 40])
def test_saved_and_read_it_is_the_same(rows: int) -> None:
    rows_PD, targets_PC = problem(rows)
    memory = learnt(rows_PD, targets_PC)
    state = memory.state()
    same(RidgeMemory.restore(state), rows_PD, targets_PC)
    assert sum(t.numel() for t in state.values()) <= (D + 1) * (D + 2) / 2 + (D + 1) * 5


def test_what_does_not_go_together_is_refused() -> None:
    memory = learnt(*problem(20))
    with pytest.raises(DataError, match="12 features and 5 outputs"):
        memory.merge(memory.with_outputs(6))
    with pytest.raises(DataError, match="nothing has been learnt"):
        RidgeMemory.empty(features=D, outputs=2).solve(PENALTY)
    state = memory.state()
    with pytest.raises((ValueError, RuntimeError)):
        RidgeMemory.restore({**state, "cross": state["cross"][1:]})
    with pytest.raises(ValueError, match="not numbers"):
        RidgeMemory.restore({**state, "cross": state["cross"] / 0})
