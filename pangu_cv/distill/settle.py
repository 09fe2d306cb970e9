"""A sub-model corrected by its own time: measured whole, grown or shrunk, and measured again until it fits.

What parts add up to is out by more than a tenth for some shapes, so nothing is taught on the word of a sum.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from pangu_cv.distill.budget import Budget, Cost
from pangu_cv.distill.costs import Costs
from pangu_cv.distill.shape import Shape

BAND = (0.95, 1.05)  # of the budget: what a sub-model's own time may use of it
_AIM = 0.98
_NEAR = 0.01  # around the aim: nearer is not told apart by a measurement
_STEP = 8  # hidden units: what the kernels take at once
_DEEPER = 2  # blocks more or fewer that are considered
_MOST = 4  # measurements of one candidate


@dataclass(frozen=True)
class Settled:
    """A sub-model with its measured cost; ``uses_budget`` where that lies within the band, and not below it."""

    shape: Shape
    cost: Cost
    uses_budget: bool


@dataclass(frozen=True)
class Settler:
    """Corrects candidates; ``measured`` gives milliseconds of a whole sub-model, ``shapes`` are the ends of all."""

    measured: Callable[[Shape], float]
    costs: Costs
    budget: Budget
    shapes: Sequence[Shape]

    def __call__(self, shape: Shape) -> Settled | None:
        """The nearest sub-model within the band; the largest measured below it; None where all are above."""
        found: dict[Shape, Cost] = {}
        for _ in range(_MOST):
            ms = self.measured(shape)
            found[shape] = replace(self.costs(shape), ms=ms)
            if self._in_band(found[shape]):
                return Settled(shape, found[shape], uses_budget=True)
            shape = self.nearest(shape, self.costs.corrected_by(shape, ms))
            if shape in found:
                break
        below = {shape: cost for shape, cost in found.items() if self.budget.use(cost) <= BAND[1]}
        best = max(below, key=lambda one: self.budget.use(below[one]), default=None)
        return None if best is None else Settled(best, below[best], uses_budget=False)

    def nearest(self, shape: Shape, costs: Costs) -> Shape:
        """Of the same input and width the one whose expected use is nearest to the aim, of equals the likest."""
        hidden, depth = {one.hidden for one in self.shapes}, {one.depth for one in self.shapes}
        low, high = max(min(depth), shape.depth - _DEEPER), min(max(depth), shape.depth + _DEEPER)
        others = [
            replace(shape, depth=blocks, hidden=units)
            for blocks in range(low, high + 1)
            for units in range(min(hidden), max(hidden) + 1, _STEP)
        ]
        others = [one for one in others if self._rest_holds(costs(one))] or [shape]

        def far(one: Shape) -> tuple[float, int, float]:
            gap = abs(self.budget.use(costs(one)) - _AIM)
            return max(gap, _NEAR), abs(one.depth - shape.depth), abs(one.hidden - shape.hidden)

        return min(others, key=far)

    def _in_band(self, cost: Cost) -> bool:
        return self._rest_holds(cost) and BAND[0] <= self.budget.use(cost) <= BAND[1]

    def _rest_holds(self, cost: Cost) -> bool:
        """Parameters and bytes are counted, not measured: they hold to the last one."""
        return self.budget.use(replace(cost, ms=0.0)) <= 1
