"""The nearest images of every image, by features of the whole picture; computed once a round.

Shapes: M images, D features, K neighbours.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pangu_cv.pretrain.relations import UNKNOWN

_BLOCK = 1024


def nearest_images(features_MD: Tensor, *, k: int, source_M: Tensor, mutual: bool = False) -> Tensor:
    """For each image the K nearest others of its own source by cosine, int64[M,K], nearest first.

    ``source_M`` numbers the dataset an image comes from: across datasets nearness says little. Where a source has
    fewer than K + 1 images the row ends in ``UNKNOWN``. ``mutual`` keeps only neighbours that see each other so.
    """
    unit_MD = torch.nn.functional.normalize(features_MD.float(), dim=1)
    found_MK = torch.full((len(unit_MD), k), UNKNOWN)
    for source in torch.unique(source_M).tolist():
        rows = torch.nonzero(source_M == source).flatten()
        wide = min(k, len(rows) - 1)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            similarity = unit_MD[block] @ unit_MD[rows].T
            similarity[torch.arange(len(block)), torch.arange(start, start + len(block))] = -2
            found_MK[block, :wide] = rows[similarity.topk(wide, 1).indices]
    return _mutual(found_MK) if mutual else found_MK


def _mutual(found_MK: Tensor) -> Tensor:
    seen_back_MKK = found_MK[found_MK.clamp(min=0)] == torch.arange(len(found_MK))[:, None, None]
    return found_MK.masked_fill(~seen_back_MKK.any(2), UNKNOWN)


def purity(near_MK: Tensor, labels: Sequence[str | None]) -> float | None:
    """Share of neighbours with the image's own label, over pairs of labelled images; None where there are none."""
    names = {name: number for number, name in enumerate(sorted({name for name in labels if name is not None}))}
    label_M = torch.tensor([UNKNOWN if name is None else names[name] for name in labels])
    theirs_MK = label_M[near_MK.clamp(min=0)]
    both_MK = (near_MK != UNKNOWN) & (theirs_MK != UNKNOWN) & (label_M != UNKNOWN)[:, None]
    same_MK = both_MK & (theirs_MK == label_M[:, None])
    return float(same_MK.sum() / both_MK.sum()) if both_MK.any() else None
