"""The affine map of least squared error, in closed form.

Shapes: M rows, D features given, C asked for.
"""

import torch
from torch import Tensor

_ROWS = 4000  # that a map is solved from: more of them changed nothing


def affine(x_MD: Tensor, y_MC: Tensor, *, ridge: float = 1e-2) -> tuple[Tensor, Tensor]:
    """Weight float32[C,D], drawn to 0 by ``ridge`` (in shares of the mean square of a feature), and bias [C]."""
    every = max(1, len(x_MD) // _ROWS)
    x, y = x_MD[::every].float(), y_MC[::every].float()
    x_mean, y_mean = x.mean(0), y.mean(0)
    x, y = x - x_mean, y - y_mean
    gram = (x.T @ x).double()
    gram += (ridge * gram.diagonal().mean() + 1e-12) * torch.eye(len(gram), dtype=gram.dtype)
    weight = torch.linalg.solve(gram, (x.T @ y).double()).T.float()
    return weight, y_mean - weight @ x_mean
