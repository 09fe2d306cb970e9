from dataclasses import replace
from typing import Any, cast

import pytest

from pangu_cv.distill.budget import Budget, Cost
from pangu_cv.distill.costs import Costs
from pangu_cv.distill.extraction import sub_config
from pangu_cv.distill.latency import ByArithmetic
from pangu_cv.distill.search import Candidate, settled
from pangu_cv.distill.settle import BAND, Settler
from pangu_cv.distill.shape import LatticeConfig, Shape, lattice
from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import BackboneConfig

TEACHER = Shape(224, 12, 3, 768, 64)
SHAPES = lattice(TEACHER, LatticeConfig(), patch_px=16, multiple_px=1, least_depth=3)
BY_PARTS = ByArithmetic(TEACHER, 16, 1)


class Machine:
    """Whole sub-models take longer or shorter than their parts, more so where images are small."""

    def __init__(self, out_by: float) -> None:
        self.out_by, self.measured = out_by, []

    def __call__(self, shape: Shape) -> float:
        self.measured.append(shape)
        return BY_PARTS.predict(shape) * (1 + self.out_by * (224 - shape.image_px) / 224) + 0.002 * shape.depth


def settler(machine: Machine, *, params_m: float | None = None) -> Settler:
    costs = Costs(BY_PARTS, lambda shape: shape.depth * shape.hidden / 1000)
    return Settler(machine, costs, Budget(0.25, params_m, None), SHAPES)


@pytest.mark.parametrize("out_by", [-0.6, -0.3, 0.0, 0.4, 1.0])
def test_a_sub_model_is_corrected_until_its_own_time_fits(out_by: float) -> None:
    expected = Shape(128, 8, 3, 576, 64)
    machine = Machine(out_by)
    found = settler(machine)(expected)
    assert found is not None
    assert found.uses_budget
    assert BAND[0] <= machine(found.shape) / 0.25 <= BAND[1]
    assert (found.shape.image_px, found.shape.heads) == (expected.image_px, expected.heads)
    assert len(machine.measured) <= 5


def test_what_fits_is_left_as_it_is_and_measured_once() -> None:
    machine = Machine(0.0)
    shape = settler(machine)(Shape(160, 6, 3, 576, 64)).shape  # type: ignore[union-attr]
    before = len(machine.measured)
    assert settler(machine)(shape).shape == shape  # type: ignore[union-attr]
    assert len(machine.measured) == before + 1


def test_what_cannot_grow_is_taken_as_large_as_it_gets_and_what_cannot_shrink_is_not_taken() -> None:
    small = settler(Machine(0.0))(replace(TEACHER, image_px=96, heads=1))
    assert small is not None
    assert not small.uses_budget
    assert settler(Machine(0.0))(replace(TEACHER, hidden=192, depth=12)) is None


def test_of_what_stays_below_the_band_the_largest_is_taken() -> None:
    seconds = iter([0.1, 0.2, 0.15, 0.12])  # of 0.25: a machine that no correction gets at
    measured: list[Shape] = []
    costs = Costs(BY_PARTS, lambda shape: 1.0)
    search = Settler(lambda shape: measured.append(shape) or next(seconds), costs, Budget(0.25, None, None), SHAPES)
    found = search(Shape(128, 8, 3, 576, 64))
    assert len(measured) > 2
    assert found is not None
    assert not found.uses_budget
    assert (found.shape, found.cost.ms) == (measured[1], 0.2)


def test_parameters_hold_while_the_time_is_mended() -> None:
    found = settler(Machine(-0.5), params_m=4.0)(Shape(128, 8, 3, 480, 64))
    assert found is not None
    assert found.cost.params_m <= 4.0


def test_trials_get_what_uses_the_budget_first_and_nothing_twice() -> None:
    shapes = [
        replace(TEACHER, image_px=96, heads=1),
        Shape(128, 8, 3, 576, 64),
        Shape(128, 8, 3, 560, 64),
        Shape(160, 6, 3, 576, 64),
    ]
    ranked = [Candidate(shape, Cost(1, 1, 1), float(at)) for at, shape in enumerate(shapes)]
    extractor = cast(Any, type("Judge", (), {"loss": staticmethod(lambda shape: 1.0)}))
    found = settled(ranked, extractor, settler(Machine(0.3)), count=2)
    assert [one.shape.image_px for one in found] == [128, 160]
    assert all(one.is_measured and 0.95 <= one.cost.ms / 0.25 <= 1.05 for one in found)
    with pytest.raises(SettingsError, match="none does as measured"):
        settled([Candidate(TEACHER, Cost(1, 1, 1), 0.0)], extractor, settler(Machine(0.0)), count=2)


@pytest.mark.parametrize("units", [8, 120, 488, 920])
def test_timm_builds_the_hidden_units_that_were_asked_for(units: int) -> None:
    shape = Shape(64, 3, 7, units, 16)
    made = sub_config(BackboneConfig(name="test_vit", weights="random"), shape, levels=(3,)).build()
    assert made.network.blocks[0].mlp.fc1.out_features == units
