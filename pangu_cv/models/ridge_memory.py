"""What a ridge regression has learnt from: new rows, and new outputs, join it exactly, without the old rows.

RanPAC's accumulators (arXiv 2307.02251), G = Σ w [1,u]ᵀ[1,u] and Q = Σ w [1,u]ᵀy over rows u with weights w and
targets y, with two changes of ours. The constant stands in front of every row, so that the intercept is not penalised
and the result is ``RidgeMap.solve``'s. And G is kept as the rows themselves while there are fewer of them than
features: that is smaller then, and is solved in the dual. (A triangle by QR would serve both, at five times the time.)

Shapes: P rows, D features, E = D + 1 with the constant in front, K < E rows kept, C outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from pangu_cv.errors import DataError

_SLACK = 1e-9  # of the weight: what rounding may make of an eigenvalue that is 0


@dataclass(frozen=True, eq=False)
class RidgeMemory:
    """Float64: ``rows_KE`` are [1,u]√w, or G is ``gram_EE`` and there are none; ``cross_EC`` is Q.

    Every change is a new memory.
    """

    rows_KE: Tensor
    gram_EE: Tensor | None
    cross_EC: Tensor

    @classmethod
    def empty(cls, *, features: int, outputs: int) -> Self:
        """Nothing learnt yet."""
        size, double = features + 1, torch.float64
        return cls(torch.zeros(0, size, dtype=double), None, torch.zeros(size, outputs, dtype=double))

    @property
    def outputs(self) -> int:
        """How many."""
        return self.cross_EC.shape[1]

    @property
    def weight(self) -> float:
        """Sum of the weights of all rows: their number where each weighs 1."""
        return float(self.rows_KE[:, 0].square().sum() if self.gram_EE is None else self.gram_EE[0, 0])

    def gram(self) -> Tensor:
        """G, float64[E,E]."""
        return self.rows_KE.T @ self.rows_KE if self.gram_EE is None else self.gram_EE

    def add(self, rows_PD: Tensor, targets_PC: Tensor, weight_P: Tensor | None = None) -> Self:
        """With more rows; a weight of 2 is the same row twice. The order in which rows come does not matter."""
        ones_P = torch.ones(len(rows_PD), dtype=torch.float64)
        weight_P = ones_P if weight_P is None else weight_P.double()
        assert bool((weight_P > 0).all()), "rows are added; 'without' takes some away"
        row_PE = _with_one(rows_PD)
        cross_EC = self.cross_EC + row_PE.T @ (weight_P[:, None] * targets_PC.double())
        return replace(self, cross_EC=cross_EC)._joined(row_PE * weight_P.sqrt()[:, None], None)

    def _joined(self, rows_PE: Tensor, gram_EE: Tensor | None) -> Self:
        """With the rows, and what is folded already, of another; folded once there are as many rows as features."""
        together = len(self.rows_KE) + len(rows_PE)
        if self.gram_EE is None and gram_EE is None and together < rows_PE.shape[1]:
            return replace(self, rows_KE=torch.cat([self.rows_KE, rows_PE]))
        folded = self.gram() + rows_PE.T @ rows_PE + (0 if gram_EE is None else gram_EE)
        return replace(self, rows_KE=self.rows_KE[:0], gram_EE=folded)

    def retarget(self, rows_PD: Tensor, change_PC: Tensor, weight_P: Tensor) -> Self:
        """As if rows that were added before had had other targets: theirs plus ``change_PC``."""
        moved_EC = _with_one(rows_PD).T @ (weight_P.double()[:, None] * change_PC.double())
        return replace(self, cross_EC=self.cross_EC + moved_EC)

    def with_outputs(self, count: int) -> Self:
        """With more outputs, whose target was 0 for every row so far."""
        assert count >= self.outputs, "outputs are never dropped"
        new_EC = self.cross_EC.new_zeros(len(self.cross_EC), count - self.outputs)
        return replace(self, cross_EC=torch.cat([self.cross_EC, new_EC], 1))

    def select_outputs(self, order: list[int]) -> Self:
        """The outputs in another order."""
        return replace(self, cross_EC=self.cross_EC[:, order])

    def merge(self, other: "RidgeMemory", *, base: "RidgeMemory | None" = None) -> Self:
        """Of what either has learnt; rows of ``base``, from which both have grown, count once.

        The same outputs in the same order; raises DataError for other features or outputs, or another base.
        """
        for one in (other, *([base] if base else [])):
            if one.cross_EC.shape != self.cross_EC.shape:
                raise DataError(f"memories of {_told(self)} and {_told(one)} cannot be joined")
        joined = replace(self, cross_EC=self.cross_EC + other.cross_EC)._joined(other.rows_KE, other.gram_EE)
        return joined if base is None else joined.without(base)

    def without(self, part: "RidgeMemory") -> Self:
        """As if the rows of ``part`` had not been added; raises DataError where they never were."""
        left_EE = self.gram() - part.gram()
        if float(torch.linalg.eigvalsh(left_EE)[0]) < -_SLACK * max(1.0, self.weight):
            raise DataError("what is to be taken away was never in this memory; it must be a part of it")
        return replace(self, rows_KE=self.rows_KE[:0], gram_EE=left_EE, cross_EC=self.cross_EC - part.cross_EC)

    def solve(self, penalty: float) -> "RidgeSolution":
        """The ridge regression on all rows, with an intercept that is not penalised; raises DataError without rows."""
        total = self.weight
        if total <= 0:
            raise DataError("nothing has been learnt yet")
        base_C = self.cross_EC[0] / total
        if self.gram_EE is None:
            mean_D = self.rows_KE[:, 0] @ self.rows_KE[:, 1:] / total
            centred_KD = self.rows_KE[:, 1:] - self.rows_KE[:, :1] * mean_D
            half = _root(centred_KD @ centred_KD.T, penalty)
            reduced_KD = torch.linalg.solve_triangular(half, centred_KD, upper=False)
        else:
            mean_D, centred_KD = self.gram_EE[0, 1:] / total, None
            half = _root(self.gram_EE[1:, 1:] - total * mean_D[:, None] * mean_D, penalty)
            reduced_KD = None
        cross_DC = self.cross_EC[1:] - total * mean_D[:, None] * base_C
        inverse = _Inverse(penalty, half, reduced_KD)
        weight_DC = inverse.times(cross_DC)
        return RidgeSolution(weight_DC, base_C - mean_D @ weight_DC, mean_D, total, inverse, base_C, torch.ones(()))

    def state(self) -> dict[str, Tensor]:
        """Tensors to save: the rows, or half of G where that is smaller."""
        size = len(self.cross_EC)
        if self.gram_EE is None and 2 * len(self.rows_KE) <= size:
            return {"rows": self.rows_KE, "cross": self.cross_EC}
        above, right = torch.triu_indices(size, size)
        return {"gram": self.gram()[above, right], "cross": self.cross_EC}

    @classmethod
    def restore(cls, state: Mapping[str, Tensor]) -> Self:
        """The memory ``state`` was taken of; raises ValueError or RuntimeError for tensors that are none."""
        cross_EC = state["cross"].double()
        size, gram = len(cross_EC), None
        rows = state["rows"].double() if "rows" in state else cross_EC.new_zeros(0, size)
        if "gram" in state:
            above, right = torch.triu_indices(size, size)
            gram = cross_EC.new_zeros(size, size)
            gram[above, right] = gram[right, above] = state["gram"].double()
        given = [cross_EC, rows, *([] if gram is None else [gram])]
        if rows.ndim != 2 or rows.shape[1] != size or not all(bool(one.isfinite().all()) for one in given):
            raise ValueError(f"rows of shape {tuple(rows.shape)} do not go with {size} features, or are not numbers")
        return cls(rows, gram, cross_EC)


@dataclass(frozen=True, eq=False)
class _Inverse:
    """(CᵀC + p I)⁻¹ for centred rows C: by a root of it or, with ``reduced_KD``, of (CCᵀ + p I)."""

    penalty: float
    half: Tensor
    reduced_KD: Tensor | None

    def times(self, columns_DP: Tensor) -> Tensor:
        """float64[D,P]."""
        if self.reduced_KD is None:
            return torch.cholesky_solve(columns_DP, self.half)
        return (columns_DP - self.reduced_KD.T @ (self.reduced_KD @ columns_DP)) / self.penalty


@dataclass(frozen=True, eq=False)
class RidgeSolution:
    """``weight_DC`` and ``bias_C`` of the regression; and what left-out answers are computed from.

    ``share_C`` is the mean of each target, before they were multiplied by ``factor_C``.
    """

    weight_DC: Tensor
    bias_C: Tensor
    mean_D: Tensor
    total: float
    inverse: _Inverse
    share_C: Tensor
    factor_C: Tensor

    def times(self, factor_C: Tensor) -> "RidgeSolution":
        """The regression to targets multiplied by a factor for each output."""
        weight_DC, bias_C = self.weight_DC * factor_C, self.bias_C * factor_C
        return replace(self, weight_DC=weight_DC, bias_C=bias_C, factor_C=self.factor_C * factor_C)

    def applied(self, rows_PD: Tensor) -> Tensor:
        """The inverse times what rows of any images are away from the mean: float64[P,D], for ``left_out``."""
        return self.inverse.times((rows_PD.double() - self.mean_D).T).T

    def left_out(
        self, rows_VD: Tensor, target_C: Tensor, *, weight: float | Tensor = 1.0, applied_VD: Tensor | None = None
    ) -> Tensor:
        """What V rows get from the regression without them: float64[V,C], 0 where no other rows are left.

        They must have been added with this target and weight each, or with a row each of [V,C] and [V]; the target is
        multiplied by ``factor_C`` here. Exact, whatever became of the rows since: for a linear smoother with hat matrix
        H the residual without a block is (I - H_block)⁻¹ times the one with it. ``applied_VD`` is what ``applied``
        makes of them, which is quicker for many images at once. Several blocks of equal weight may come as [U,V,D],
        with targets of [U,V,C].
        """
        rows = rows_VD.double()
        weight_V = torch.as_tensor(weight, dtype=torch.float64).expand(rows.shape[-2])
        if float(weight_V.sum()) > self.total * (1 - _SLACK):
            return rows.new_zeros(*rows.shape[:-1], len(self.bias_C))
        applied_VD = self.applied(rows.flatten(0, -2)).view_as(rows) if applied_VD is None else applied_VD
        hat_VV = weight_V * ((rows - self.mean_D) @ applied_VD.mT + 1 / self.total)
        target_C = target_C.double() * self.factor_C
        residual_VC = target_C - (rows @ self.weight_DC + self.bias_C)
        gone: Tensor = torch.linalg.solve(torch.eye(len(weight_V), dtype=torch.float64) - hat_VV, residual_VC)
        return target_C - gone


def _with_one(rows_PD: Tensor) -> Tensor:
    return torch.cat([torch.ones(len(rows_PD), 1, dtype=torch.float64), rows_PD.double()], 1)


def _root(square: Tensor, penalty: float) -> Tensor:
    root: Tensor = torch.linalg.cholesky(square + penalty * torch.eye(len(square), dtype=torch.float64))
    return root


def _told(memory: RidgeMemory) -> str:
    return f"{len(memory.cross_EC) - 1} features and {memory.outputs} outputs"
