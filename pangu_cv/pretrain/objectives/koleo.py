"""KoLeo (arXiv 1806.03198): every embedding is kept away from its nearest, in the batch of all processes."""

from torch import Tensor

from pangu_cv.pretrain.across import gathered


def koleo(rows_ND: Tensor) -> Tensor:
    """Minus the mean log distance to the nearest other row; needs lightly."""
    from lightly.loss import KoLeoLoss

    loss: Tensor = KoLeoLoss()(gathered(rows_ND.float()))
    return loss
