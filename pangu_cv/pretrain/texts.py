"""The texts of a run as vectors of a frozen text tower (LiT, arXiv 2111.07991: the image side learns towards them)."""

import torch
from torch import Tensor, nn

from pangu_cv.pretrain.relations import UNKNOWN, Facts


class TextTable(nn.Module):
    """Unit vectors float32[T,E] of all texts, and the label each names (int64[T], ``UNKNOWN`` for captions)."""

    vectors_TE: Tensor
    label_T: Tensor

    def __init__(self, vectors_TE: Tensor, label_T: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors_TE", nn.functional.normalize(vectors_TE.float(), dim=1), persistent=False)
        self.register_buffer("label_T", label_T, persistent=False)

    @classmethod
    def empty(cls) -> "TextTable":
        """No texts."""
        return cls(torch.zeros(0, 1), torch.zeros(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.vectors_TE)

    @property
    def width(self) -> int:
        """Numbers of a vector."""
        return self.vectors_TE.shape[1]

    def of(self, facts: Facts) -> Tensor:
        """Numbers of the texts that describe one of these images or name its class, rising."""
        own = facts.text_N[facts.text_N != UNKNOWN]
        labels = facts.label_N[facts.label_N != UNKNOWN]
        naming = torch.nonzero(torch.isin(self.label_T, labels) & (self.label_T != UNKNOWN)).flatten()
        found: Tensor = torch.unique(torch.cat([own, naming]))
        return found
