from dataclasses import replace
from typing import Any

import pytest

from pangu_cv.distill.budget import Budget, BudgetConfig, Cost
from pangu_cv.distill.latency import LatencyTable, Origin, read_table
from pangu_cv.distill.search import Candidate, best_of_sides, front, front_of, spread, within
from pangu_cv.distill.shape import LatticeConfig, Shape, lattice
from pangu_cv.errors import SettingsError

TEACHER = Shape(224, 12, 3, 768, 64)
SHAPES = lattice(TEACHER, LatticeConfig(), patch_px=16, multiple_px=1, least_depth=3)


def cost(shape: Shape) -> Cost:
    """Of made-up arithmetic: area, depth and width."""
    share = (shape.image_px / 224) ** 2 * shape.depth / 12 * shape.heads / 3 * (0.3 + 0.7 * shape.hidden / 768)
    return Cost(10 * share, 5 * shape.depth / 12 * shape.heads / 3, 20 * shape.depth / 12)


def test_what_uses_the_budget_is_within_it() -> None:
    found = within(SHAPES, cost, Budget(2.5, None, None), slack=0.15)
    assert found
    assert all(2.125 <= cost(shape).ms <= 2.5 for shape in found)
    assert len({shape.image_px for shape in found}) > 3


def test_all_bounds_hold() -> None:
    found = within(SHAPES, cost, Budget(5.0, 1.0, None), slack=0.15)
    assert found
    assert all(cost(shape).ms <= 5 and cost(shape).params_m <= 1 for shape in found)


def test_too_small_a_budget_is_refused_with_its_size() -> None:
    with pytest.raises(SettingsError, match="times of it"):
        within(SHAPES, cost, Budget(1e-4, None, None), slack=0.15)


def test_where_nothing_uses_the_budget_the_largest_within_it_is_taken() -> None:
    two = [replace(TEACHER, depth=3), replace(TEACHER, depth=4)]
    assert within(two, cost, Budget(9.0, None, None), slack=0.01) == [two[1]]


def test_a_budget_needs_a_bound_and_a_teacher_beyond_it() -> None:
    with pytest.raises(SettingsError, match="give a bound"):
        BudgetConfig.parse({}, origin="recipe")
    teacher = Cost(10, 5, 20)
    assert Budget.of(BudgetConfig(latency_ratio=0.25, latency_ms=4), teacher=teacher).ms == 2.5
    with pytest.raises(SettingsError, match="within it already"):
        Budget.of(BudgetConfig(params_m=6), teacher=teacher)


def test_spread_reaches_all_sides_and_depths() -> None:
    chosen = spread(SHAPES, 24)
    assert {s.image_px for s in chosen} == {s.image_px for s in SHAPES}
    assert len(chosen) == len(set(chosen)) <= 24
    assert len({s.depth for s in chosen}) > 3


def test_trials_take_the_best_of_every_side() -> None:
    made = [
        Candidate(replace(TEACHER, image_px=px, depth=d), Cost(1, 1, 1), px / 100 + d)
        for px in (96, 128, 224)
        for d in (3, 4)
    ]
    assert [(c.shape.image_px, c.shape.depth) for c in best_of_sides(made)[:4]] == [
        (96, 3),
        (128, 3),
        (224, 3),
        (96, 4),
    ]


def test_front_is_what_no_other_beats() -> None:
    made = [
        Candidate(replace(TEACHER, depth=d), Cost(ms, 1, 1), loss)
        for d, ms, loss in [(3, 1.0, 0.9), (4, 2.0, 0.5), (5, 3.0, 0.7), (6, 4.0, 0.1)]
    ]
    assert [c.shape.depth for c in front(made)] == [3, 4, 6]
    over_all = front_of(SHAPES, cost, 10)
    times = [cost(s).ms for s in over_all]
    assert len(over_all) > 5
    assert max(times) / min(times) > 10


def test_a_table_adds_parts_up() -> None:
    ms = {"whole": 10.0, "rest-96": 1.0, "rest-224": 2.0}
    ms |= {f"block-{w}-{h}-{t}": w * t / 1e4 + h * t / 1e5 for w in (64, 192) for h in (192, 768) for t in (37, 197)}
    table = LatencyTable(ms, 16, 1, (192, 768), (96, 224))
    shape = Shape(224, 6, 3, 384, 64)
    assert table.predict(shape) == pytest.approx(2 + 6 * (192 * 197 / 1e4 + 384 * 197 / 1e5))
    assert table.predict(replace(shape, image_px=96)) == pytest.approx(1 + 6 * (192 * 37 / 1e4 + 384 * 37 / 1e5))


@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"format": "other"}, "does not fit this model.*pangu-cv profile"),
        ({"probes": {"whole": 3}}, "does not fit this model"),
        ({"model": "b"}, r"was measured of another model \(b, here a\).*pangu-cv profile"),
        ({"model": None}, "was measured of another model"),
        ({"image_hw": [480, 640]}, r"images of \[480, 640\] pixels .* of \[40, 48\]"),
        ({"threads": 4}, r"budget\.threads: 2 found, and budget\.table was measured with 4"),
    ],
)
def test_a_strange_table_is_refused(change: dict[str, Any], because: str) -> None:
    """Of another model, other images, other threads, or no table at all."""
    origin = Origin("a", (40, 48))
    table = {"format": "pangu-cv-latency", "version": 1, "threads": 2, **origin.to_json(), "probes": {}} | change
    with pytest.raises(SettingsError, match=because):
        read_table(table, None, SHAPES, origin=origin, threads=2)  # type: ignore[arg-type]
