"""The nearest images of every image, by features of the whole picture; computed once a round.

Shapes: M images, D features, K neighbours, P images of a sample.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.pretrain.relations import UNKNOWN

IntArray = NDArray[np.int64]
# Images compared in a round, unless more come in turn: their 400 million pairs take one core about 18 s, and to embed
# them takes a quarter of what 100 steps of 128 images do. Pairs grow as the square, and a round not with the data.
MOST = 20_000
_BLOCK = 1024


def sample(source_M: IntArray, first: IntArray, *, seed: Sequence[int]) -> IntArray:
    """Numbers of the images to compare, int64[P], ascending: all, or of more than ``MOST`` those in ``first`` and,
    up to ``MOST`` together, others of their datasets at random, of each as many as of the next or all there are."""
    if len(source_M) <= MOST:
        return np.arange(len(source_M))
    random = np.random.default_rng(seed)
    is_free_M = np.ones(len(source_M), bool)
    is_free_M[first] = False
    found = [np.unique(first)]
    room = max(0, MOST - len(found[0]))
    free = [np.flatnonzero(is_free_M & (source_M == source)) for source in np.unique(source_M[first])]
    for left, own in zip(range(len(free), 0, -1), sorted(free, key=len), strict=True):  # larger ones take what is left
        drawn = random.choice(own, min(len(own), room // left), replace=False)
        found.append(drawn)
        room -= len(drawn)
    return np.sort(np.concatenate(found))


def of_all(near_PK: Tensor, sample_P: Tensor, images: int) -> Tensor:
    """Lists within a sample as lists of all images by their numbers, int64[M,K]; ``UNKNOWN`` outside the sample."""
    near_MK = torch.full((images, near_PK.shape[1]), UNKNOWN)
    near_MK[sample_P] = sample_P[near_PK].masked_fill(near_PK == UNKNOWN, UNKNOWN)
    return near_MK


def nearest_images(features_MD: Tensor, *, k: int, source_M: Tensor, mutual: bool = False) -> Tensor:
    """For each image the K nearest others of its own source by cosine, int64[M,K] on the CPU, nearest first.

    ``source_M`` numbers the dataset an image comes from: across datasets nearness says little. Where a source has
    fewer than K + 1 images the row ends in ``UNKNOWN``. ``mutual`` keeps only neighbours that see each other so. It is
    computed where the features are.
    """
    unit_MD = torch.nn.functional.normalize(features_MD.float(), dim=1)
    found_MK = torch.full((len(unit_MD), k), UNKNOWN)
    for source in torch.unique(source_M).tolist():
        rows = torch.nonzero(source_M == source).flatten()
        own_RD = unit_MD[rows.to(unit_MD.device)]
        wide = min(k, len(rows) - 1)
        for start in range(0, len(rows), _BLOCK):
            block = rows[start : start + _BLOCK]
            similarity = own_RD[start : start + _BLOCK] @ own_RD.T
            similarity.diagonal(start).fill_(-2)
            found_MK[block, :wide] = rows[similarity.topk(wide, 1).indices.cpu()]
    return _mutual(found_MK) if mutual else found_MK


def _mutual(found_MK: Tensor) -> Tensor:
    number_M1 = torch.arange(len(found_MK))[:, None]
    sees_back_KM = [(found_MK[near_M.clamp(min=0)] == number_M1).any(1) for near_M in found_MK.T]
    return found_MK.masked_fill(~torch.stack(sees_back_KM, 1), UNKNOWN)
