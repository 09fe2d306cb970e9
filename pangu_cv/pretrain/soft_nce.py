"""The one loss of all contrastive terms: cross-entropy between known relations and learnt similarities.

I-Con (arXiv 2504.16929) shows InfoNCE, SupCon and CLIP to be this one function under other targets.

Shapes: N anchors, M candidates.
"""

import torch
from torch import Tensor

from pangu_cv.pretrain.across import process_mean


def soft_nce(similarity_NM: Tensor, targets_NM: Tensor) -> Tensor:
    """Mean over anchors of the cross-entropy CE(P, softmax(similarity)), a scalar.

    Rows of ``targets_NM`` (not negative) are scaled to sum to 1 and become P; an anchor without a target counts
    nowhere. A similarity of -inf takes a candidate out, such as the anchor itself; its target must then be 0. Without
    any target the loss is 0 and still differentiable. Over several processes it is each one's part of the mean over
    all anchors: the mean of the parts is the loss of the whole batch.
    """
    mass_N = targets_NM.sum(1)
    has_target_N = mass_N > 0
    log_q_NM = similarity_NM.float().log_softmax(1).masked_fill(targets_NM == 0, 0.0)  # 0 · -inf is not 0
    p_NM = targets_NM / mass_N.clamp(min=torch.finfo(torch.float32).tiny)[:, None]
    losses_N = -(p_NM * log_q_NM).sum(1)
    return losses_N.sum() / process_mean(has_target_N.sum()).clamp(min=1 / 1024)
