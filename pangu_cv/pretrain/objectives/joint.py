"""The joint objective: alike by view, neighbourhood, label and text, and able to repair what is hidden or damaged.

    L = CE(P_vv, softmax(ZZᵀ/τ)) + w_t·½[CE(P_vt, s·ZUᵀ) + CE(P_vtᵀ, s·UZᵀ)] + λ_r·(hidden + visible)
        [+ KoLeo] [+ teachers]

I-Con (arXiv 2504.16929) for the one form, UniCL (2204.03610) for labels and texts in it, CAN (2210.16870) for repairing
with the same encoder. SimCLR (2002.05709), SupCon (2004.11362), MoCo v3 (2104.02057) and MAE (2111.06377) are settings
of it. The relations are in ``relations.py``.

Shapes: B images, N = 2·B views, U texts, D features, E numbers of an embedding.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.backbone import Backbone
from pangu_cv.pretrain.across import gathered, gathered_facts
from pangu_cv.pretrain.batches import Batch
from pangu_cv.pretrain.encoder import Encoded
from pangu_cv.pretrain.momentum import KeysConfig
from pangu_cv.pretrain.objectives.base import BaseObjective
from pangu_cv.pretrain.objectives.koleo import koleo
from pangu_cv.pretrain.patches import draw_visible
from pangu_cv.pretrain.relations import Facts, image_targets, text_targets
from pangu_cv.pretrain.repair import RepairConfig, RepairDecoder
from pangu_cv.pretrain.soft_nce import soft_nce
from pangu_cv.pretrain.teachers import Teacher, TeacherConfig
from pangu_cv.pretrain.texts import TextTable
from pangu_cv.settings import Settings

Weight = Annotated[float, Field(ge=0)]


class NeighboursConfig(Settings):
    """Images that lie near each other in feature space count as alike."""

    weight: Weight = 0.25
    """w_nn; 0 leaves the term out."""
    k: Annotated[int, Field(ge=1, le=200)] = 10
    """Nearest images looked at."""
    mutual: bool = True
    """Only pairs that find each other: fewer, and more often right."""
    batch_share: Annotated[float, Field(ge=0, le=0.5)] = 0.5
    """Share of a batch drawn from neighbours of the rest: one for each of them, so at most half."""


class LabelsConfig(Settings):
    """Images of one class count as alike."""

    weight: Weight = 0.5
    """w_sup; 0 leaves the term out."""
    only_near: bool = True
    """Only where they are neighbours too (SCAN); false is SupCon."""


class JointConfig(Settings):
    """Which terms, and how heavy each is."""

    kind: Literal["joint"] = "joint"
    """The objective."""
    contrast: Weight = 1.0
    """Weight of the image-to-image term; 0 leaves it out (mae)."""
    temperature: Annotated[float, Field(gt=0)] = 0.15
    """τ of the image-to-image term."""
    same_image: Weight = 1.0
    """Weight of the other view of the same image among what counts as alike; 0 with labels is plain supervision."""
    depths: Weight = 0.5
    """Weight of each shallower level of the backbone against the last one; 0 leaves them out."""
    neighbours: NeighboursConfig = NeighboursConfig()
    """The neighbour term."""
    labels: LabelsConfig = LabelsConfig()
    """The label term."""
    texts: Weight = 1.0
    """Weight of the image-to-text term, where there are texts."""
    hidden: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    """Share of patches hidden from the encoder, in both views; 0.5 saves half the time and wants larger views."""
    repair: RepairConfig = RepairConfig()
    """The restoration term."""
    koleo: Weight = 0.0
    """Weight of KoLeo, which spreads the embeddings (needs the extra 'dino')."""
    keys: KeysConfig = KeysConfig()
    """What views are compared with: each other (SimCLR), or those of a slower copy and its past (MoCo)."""
    teachers: tuple[TeacherConfig, ...] = ()
    """Frozen networks whose features are learnt beside all else; for a network from random weights."""
    embedding: Annotated[int, Field(ge=8)] = 128
    """Numbers of an embedding."""

    def build(self, backbone: Backbone, texts: TextTable, *, side_px: int, checkpointing: bool = False) -> "Joint":
        """The objective around a backbone; ``side_px`` is the views' side."""
        return Joint(self, backbone, texts, side_px=side_px, checkpointing=checkpointing)


class Joint(BaseObjective):
    """A batch to its losses by name; ``total`` is what is differentiated."""

    def __init__(
        self, config: JointConfig, backbone: Backbone, texts: TextTable, *, side_px: int, checkpointing: bool
    ) -> None:
        super().__init__(backbone, side_px=side_px, checkpointing=checkpointing)
        self.config = config
        widths = self.encoder.widths
        levels = widths if config.depths else widths[-1:]
        self.heads = nn.ModuleList([projection(width, config.embedding) for width in levels])
        self.decoder: RepairDecoder | None = None
        if config.repair.weight:
            patch_px = self.encoder.patch_px
            self.decoder = config.repair.build(features=self.encoder.features, patch_px=patch_px, side_px=side_px)
        self.teachers = nn.ModuleList([Teacher(one, self.encoder, side_px=side_px) for one in config.teachers])
        self.texts = texts
        self.to_text: nn.Linear | None = None
        if config.texts and len(texts):
            self.to_text = nn.Linear(widths[-1], texts.width, bias=False)
        self.log_scale = nn.Parameter(
            torch.tensor([3.0]), requires_grad=self.to_text is not None
        )  # CLIP's is learnt too
        self.keys = config.keys.build(self.encoder, self.heads, embedding=config.embedding) if config.contrast else None

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name; over several processes each one's part of the mean."""
        config, facts = self.config, batch.facts
        views = [self.normal(batch.inputs[:, view]) for view in range(2)]
        shown = [draw_visible(batch.seed_B, patches=self.patches, hidden=config.hidden, view=view) for view in range(2)]
        keep = [None if one is None else one.to(views[0].device) for one in shown]
        visible = [one for one in keep if one is not None]
        encoded = self._encode(torch.cat(views), torch.cat(visible) if visible else None)
        losses: dict[str, Tensor] = {}
        if config.contrast:
            losses["contrast"] = self._contrast(encoded, facts, views, keep)
        if self.to_text is not None:
            losses["text"] = self._text(encoded, facts)
        if config.teachers:
            losses["teacher"] = self._taught(encoded, batch.clean, torch.cat(visible) if visible else None)
        if self.decoder is not None:
            losses |= self._repair(encoded, views[0], batch.clean[:, 0], keep[0])
        if config.koleo:
            losses["koleo"] = self._koleo(encoded)
        weights = {
            "contrast": config.contrast,
            "text": config.texts,
            "teacher": 1.0,
            "hidden": config.repair.weight,
            "visible": config.repair.weight,
            "koleo": config.koleo,
        }
        return {"total": torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()} | losses

    def after_step(self) -> None:
        """What follows an optimiser step."""
        if self.keys is not None:
            self.keys.follow(self.encoder, self.heads)

    def _encode(self, images_N3SS: Tensor, keep: Tensor | None) -> Encoded:
        encoded: Encoded = self.encoder(images_N3SS, keep)
        return encoded

    def embeddings(self, encoded: Encoded) -> list[Tensor]:
        """A unit vector [N,E] per level in use."""
        used = encoded.pooled if self.config.depths else encoded.pooled[-1:]
        return [nn.functional.normalize(head(part).float(), dim=1) for head, part in zip(self.heads, used, strict=True)]

    def _contrast(self, encoded: Encoded, facts: Facts, views: list[Tensor], keep: list[Tensor | None]) -> Tensor:
        config = self.config
        anchors_LNE = self.embeddings(encoded)
        mine = facts.repeat(2)
        assert self.keys is not None
        pool = self.keys.candidates(anchors_LNE, mine, torch.cat(views), keep)
        targets = image_targets(
            mine,
            pool.facts,
            neighbours=config.neighbours.weight,
            labels=config.labels.weight,
            labels_only_near=config.labels.only_near,
            same_image=config.same_image,
        ).masked_fill(pool.own_NM, 0.0)
        losses = []
        for anchors, others in zip(anchors_LNE, pool.embeddings_LME, strict=True):
            similarity = (cosines(anchors, others) / config.temperature).masked_fill(pool.own_NM, float("-inf"))
            losses.append(soft_nce(similarity, targets))
        weights = torch.tensor([config.depths] * (len(losses) - 1) + [1.0], device=losses[0].device)
        return (torch.stack(losses) * weights).sum() / weights.sum()

    def _text(self, encoded: Encoded, facts: Facts) -> Tensor:
        """Both directions over the texts of the whole batch."""
        assert self.to_text is not None
        local = facts.repeat(2)
        images_NE = nn.functional.normalize(self.to_text(encoded.pooled[-1]).float(), dim=1)
        everyone, all_images = gathered_facts(local), gathered(images_NE)
        text_U = self.texts.of(everyone)
        if len(text_U) == 0:
            return images_NE.sum() * 0
        scale = self.log_scale.clamp(max=4.6).exp()
        vectors_UE = self.texts.vectors_TE[text_U]
        similarity_NU = scale * cosines(images_NE, vectors_UE)
        to_texts = soft_nce(similarity_NU, text_targets(local, text_U, self.texts.label_T[text_U]))
        towards = text_targets(everyone, text_U, self.texts.label_T[text_U]).T
        similarity_UN = scale * cosines(vectors_UE, all_images)
        return (to_texts + soft_nce(similarity_UN, towards)) / 2

    def _taught(self, encoded: Encoded, clean_B2SS3: Tensor, keep_NP: Tensor | None) -> Tensor:
        """What the teachers see in the undamaged views."""
        pixels = torch.cat([clean_B2SS3[:, view] for view in range(2)])
        losses = [teacher.weight * teacher(encoded, pixels, keep_NP) for teacher in self.teachers]
        return torch.stack(losses).sum()

    def _repair(self, encoded: Encoded, damaged: Tensor, clean_BSS3: Tensor, keep: Tensor | None) -> dict[str, Tensor]:
        """The first view of some images: the decoder is the dearer half of a small network."""
        assert self.decoder is not None
        some = slice(max(1, round(self.config.repair.share * len(damaged))))
        damaged, clean, keep = damaged[some], self.normal(clean_BSS3[some]), None if keep is None else keep[some]
        repaired = self.decoder(encoded.tokens_BND[some], keep, damaged)
        losses = self.decoder.losses(repaired, damaged, clean, keep)
        return {"hidden": losses.hidden, "visible": losses.visible} if keep is not None else {"visible": losses.visible}

    def _koleo(self, encoded: Encoded) -> Tensor:
        first, second = self.embeddings(encoded)[-1].chunk(2)
        return (koleo(first) + koleo(second)) / 2


def cosines(first_ND: Tensor, second_MD: Tensor) -> Tensor:
    """Of unit vectors, float32[N,M] whatever the precision around: what stands 1 % apart may differ by several logits
    after the temperature, and would be rounded away in bf16."""
    with torch.autocast(first_ND.device.type, enabled=False):
        return first_ND.float() @ second_MD.float().T


def projection(features: int, embedding: int) -> nn.Module:
    """A head that is thrown away: what views must not agree on may stay in front of it (SimCLR). No batch statistics,
    so that one process and several compute the same."""
    width = min(2048, 2 * max(features, embedding))
    return nn.Sequential(
        nn.Linear(features, width), nn.LayerNorm(width), nn.GELU(), nn.Linear(width, embedding, bias=False)
    )
