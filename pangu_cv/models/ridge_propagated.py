"""A ridge head that learns from images without labels too: labels spread to them, and each counts by its certainty.

As Iscen et al. (arXiv 1904.04717), with a closed form where they train a network: labels spread over the graph of all
images (``label_propagation``), and the head is fitted to the labelled and to the others, an image that hardly any label
reached hardly counting. Ours: an image counts only where the head that knows the labelled images alone takes it for the
same (as in co-training, Blum and Mitchell 1998), which is what keeps poor graphs from doing harm (``docs/LOG.md``).

Shapes: N labelled images in V views, U others in one view, K of them count, D features, C classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pangu_cv.models.label_propagation import Spread, spread_labels
from pangu_cv.models.ridge_head import RidgeHead
from pangu_cv.models.ridge_memory import RidgeMemory

_LEAST = 1e-9  # a certainty below is none


@dataclass(frozen=True)
class Others:
    """Features float32[U,D] of images without labels, and how they count.

    ``neighbours`` are those labels spread to, ``weight`` is what all of them weigh together, in multiples of the
    labelled images; none weighs more than a labelled one.
    """

    features_UD: Tensor
    neighbours: int = 10
    weight: float = 1.0


@torch.no_grad()
def fit_with_others(head: RidgeHead, features_NVD: Tensor, labels_N: Tensor, others: Others) -> Spread:
    """Fit the map of a head that is fitted to the labelled images to the others too; its temperature stays.

    Features are standardised by all images: the others tell what is usual here. Returns what the images without labels
    were taken for; those on which head and graph disagree with certainty 0.
    """
    alone_U = head.mapped(others.features_UD[:, None]).argmax(1)
    images, views, _ = features_NVD.shape
    classes = len(head.bias_C)
    statistics = head.statistics(torch.cat([features_NVD.flatten(0, 1), others.features_UD]))
    rows_NVD = head.normalised(features_NVD.double(), statistics)
    rows_UD = head.normalised(others.features_UD.double(), statistics)
    spread = spread_labels(rows_NVD[:, 0], labels_N, rows_UD, classes=classes, neighbours=others.neighbours)
    taken_U = spread.probability_UC.argmax(1)
    counts_U = (taken_U == alone_U) & (spread.certainty_U > _LEAST)
    spread = spread._replace(certainty_U=spread.certainty_U * counts_U)
    targets_NC = nn.functional.one_hot(labels_N, classes).double()
    memory = RidgeMemory.empty(features=rows_UD.shape[1], outputs=classes)
    memory = memory.add(rows_NVD.flatten(0, 1), targets_NC.repeat_interleave(views, 0))
    if bool(counts_U.any()):
        share_K = spread.certainty_U[counts_U] / spread.certainty_U.sum()
        taken_KC = nn.functional.one_hot(taken_U[counts_U], classes).double()
        memory = memory.add(rows_UD[counts_U], taken_KC, (others.weight * images * views * share_K).clamp(max=views))
    solution = head.solved(memory)
    head.take(statistics, solution.weight_DC, solution.bias_C)
    return spread
