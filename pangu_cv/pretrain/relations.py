"""Who is like whom in a batch: the targets of the contrastive terms.

Unlabelled, labelled and captioned images stand in one table; what is not known of an image only zeroes entries.
The neighbour term is our reading of Pangu CV's "hierarchical aggregation" (CsMl, arXiv 2012.02733), the label term of
its "supervised contrastive adjustment" (SCAN, arXiv 2011.08621: same label and near); both readings are inferred.

Shapes: N views in the batch, U texts, K neighbours.
"""

from typing import NamedTuple

import torch
from torch import Tensor

UNKNOWN = -1


class Facts(NamedTuple):
    """What is known of the views of a batch: int64[N] each, ``UNKNOWN`` where it is not; ``near_NK`` are image numbers.

    ``image_N`` numbers the image a view is of, ``label_N`` its class, ``text_N`` the text that describes it.
    """

    image_N: Tensor
    label_N: Tensor
    text_N: Tensor
    near_NK: Tensor

    def repeat(self, views: int) -> "Facts":
        """The same images seen in ``views`` views, view after view."""
        return Facts(*(torch.cat([part] * views) for part in self))

    def rows(self, rows: Tensor | slice) -> "Facts":
        """Of some views."""
        return Facts(*(part[rows] for part in self))

    def to(self, device: torch.device) -> "Facts":
        """On another device."""
        return Facts(*(part.to(device) for part in self))


def image_targets(
    anchors: Facts, others: Facts, *, neighbours: float, labels: float, labels_only_near: bool, same_image: float = 1.0
) -> Tensor:
    """P_vv before scaling, float32[N,M]: 1[same image] + w·1[near, no label conflict] + w·1[same label (and near)].

    ``neighbours`` and ``labels`` are the weights of the second and third part. Where anchors and others are the same
    views the caller zeroes the diagonal.
    """
    same_image_NM = anchors.image_N[:, None] == others.image_N
    known_NM = (anchors.label_N != UNKNOWN)[:, None] & (others.label_N != UNKNOWN)
    same_label_NM = known_NM & (anchors.label_N[:, None] == others.label_N)
    near_NM = _near(anchors.near_NK, others.image_N)
    friendly_NM = near_NM & ~same_image_NM & ~(known_NM & ~same_label_NM)
    supervised_NM = same_label_NM & ~same_image_NM
    if labels_only_near:
        supervised_NM &= near_NM
    return same_image * same_image_NM.float() + neighbours * friendly_NM.float() + labels * supervised_NM.float()


def text_targets(anchors: Facts, text_U: Tensor, text_label_U: Tensor) -> Tensor:
    """P_vt before scaling, float32[N,U]: 1 where the text is the image's own or names its class."""
    own_NU = (anchors.text_N[:, None] == text_U) & (anchors.text_N != UNKNOWN)[:, None]
    named_NU = (anchors.label_N[:, None] == text_label_U) & (anchors.label_N != UNKNOWN)[:, None]
    return (own_NU | named_NU).float()


def _near(near_NK: Tensor, image_M: Tensor) -> Tensor:
    """Whether image m is in the list of anchor n, bool[N,M]."""
    if near_NK.shape[1] == 0:
        return torch.zeros(len(near_NK), len(image_M), dtype=torch.bool, device=image_M.device)
    return (near_NK[:, None, :] == image_M[None, :, None]).any(2)
