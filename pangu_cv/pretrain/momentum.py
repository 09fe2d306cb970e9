"""What views are compared with: each other, or the views of a slower copy of the encoder, with a memory of past ones.

MoCo (arXiv 1911.05722) and MoCo v3 (2104.02057). Facts are remembered beside the embeddings, so that a neighbour or an
image of the same class in the memory counts as alike too (NNCLR, 2104.14548, is the case of one neighbour).

Shapes: N views of this process, M candidates, Q remembered, E numbers, L levels.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.pretrain.across import gathered, gathered_facts, rank
from pangu_cv.pretrain.encoder import Encoded, Encoder
from pangu_cv.pretrain.relations import UNKNOWN, Facts
from pangu_cv.settings import Settings


class KeysConfig(Settings):
    """What a view is compared with."""

    momentum: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Slowness of the copy that embeds the candidates (0.99 is MoCo v3's start); null: the encoder itself."""
    queue: Annotated[int, Field(ge=0)] = 0
    """Past candidates kept beside the batch; needs momentum."""

    def build(self, encoder: Encoder, heads: nn.ModuleList, *, embedding: int) -> "Keys":
        """The source of candidates of ``embedding`` numbers."""
        return Keys(self, encoder, heads, embedding=embedding)


@dataclass(frozen=True)
class Candidates:
    """``embeddings_LME`` by level, their facts, and which candidate is the anchor itself, bool[N,M]."""

    embeddings_LME: list[Tensor]
    facts: Facts
    own_NM: Tensor


class Keys(nn.Module):
    """Candidates of all processes, and the memory where there is one."""

    memory_LQE: Tensor
    memory_facts_Q3: Tensor
    written: Tensor

    def __init__(self, config: KeysConfig, encoder: Encoder, heads: nn.ModuleList, *, embedding: int) -> None:
        super().__init__()
        self.config = config
        self.encoder: Any = None
        self.heads: Any = None
        if config.momentum is not None:
            self.encoder = copy.deepcopy(encoder).requires_grad_(False)
            self.heads = copy.deepcopy(heads).requires_grad_(False)
        self.register_buffer("memory_LQE", torch.zeros(len(heads), config.queue, embedding))
        self.register_buffer("memory_facts_Q3", torch.full((config.queue, 3), UNKNOWN))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    def candidates(
        self, anchors_LNE: Sequence[Tensor], facts: Facts, views_N3SS: Tensor, keep: Sequence[Tensor | None]
    ) -> Candidates:
        """For anchors with these facts; ``views_N3SS`` and ``keep`` are what the encoder saw."""
        if self.config.momentum is None:
            others = [gathered(one) for one in anchors_LNE]
        else:
            others = [gathered(one) for one in self._slow(views_N3SS, keep)]
        everyone = gathered_facts(facts)
        count = len(facts.image_N)
        own_NM = torch.zeros(count, len(everyone.image_N), dtype=torch.bool, device=facts.image_N.device)
        rows = torch.arange(count, device=own_NM.device)
        own_NM[rows, rank() * count + rows] = True
        if self.config.queue:
            return self._with_memory(others, everyone, own_NM)
        return Candidates(others, everyone, own_NM)

    @torch.no_grad()
    def _slow(self, views_N3SS: Tensor, keep: Sequence[Tensor | None]) -> list[Tensor]:
        shown = None if any(one is None for one in keep) else torch.cat([one for one in keep if one is not None])
        encoded: Encoded = self.encoder(views_N3SS, shown)
        used = encoded.pooled[-len(self.heads) :]
        return [nn.functional.normalize(head(part).float(), dim=1) for head, part in zip(self.heads, used, strict=True)]

    def _with_memory(self, others: list[Tensor], everyone: Facts, own_NM: Tensor) -> Candidates:
        filled = min(int(self.written), self.config.queue)
        past = self.memory_facts_Q3[:filled]
        k = everyone.near_NK.shape[1]
        near = torch.full((filled, k), UNKNOWN, device=past.device)
        facts = Facts(
            torch.cat([everyone.image_N, past[:, 0]]),
            torch.cat([everyone.label_N, past[:, 1]]),
            torch.cat([everyone.text_N, past[:, 2]]),
            torch.cat([everyone.near_NK, near]),
        )
        embeddings = [torch.cat([new, old[:filled]]) for new, old in zip(others, self.memory_LQE, strict=True)]
        never = torch.zeros(len(own_NM), filled, dtype=torch.bool, device=own_NM.device)
        self._remember(others, everyone)
        return Candidates([e.clone() for e in embeddings], facts, torch.cat([own_NM, never], 1))

    @torch.no_grad()
    def _remember(self, others: list[Tensor], everyone: Facts) -> None:
        count = min(len(others[0]), self.config.queue)
        places = (torch.arange(count, device=self.written.device) + self.written) % self.config.queue
        for level, new in enumerate(others):
            self.memory_LQE[level, places] = new[:count].detach()
        self.memory_facts_Q3[places] = torch.stack([everyone.image_N, everyone.label_N, everyone.text_N], 1)[:count]
        self.written += count

    @torch.no_grad()
    def follow(self, encoder: Encoder, heads: nn.ModuleList) -> None:
        """Move the slow copy towards the encoder."""
        momentum = self.config.momentum
        if momentum is None:
            return
        for slow, quick in ((self.encoder, encoder), (self.heads, heads)):
            for old, new in zip(slow.parameters(), quick.parameters(), strict=True):
                old.lerp_(new.detach(), 1 - momentum)
