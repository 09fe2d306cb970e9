"""Self-distillation: DINO (arXiv 2104.14294), iBOT (2111.07832) and KoLeo (1806.03198) as in DINOv2 (2304.07193).

The losses and the head are lightly's; here they are wired to the encoder. Small data wants few prototypes.

Shapes: B images, P patches, C prototypes.
"""

import copy
import warnings
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.errors import MissingExtraError
from pangu_cv.models.backbone import Backbone
from pangu_cv.pretrain.batches import Batch
from pangu_cv.pretrain.encoder import Encoded
from pangu_cv.pretrain.objectives.base import BaseObjective
from pangu_cv.pretrain.objectives.koleo import koleo
from pangu_cv.pretrain.patches import draw_visible, visible_pixels
from pangu_cv.pretrain.texts import TextTable
from pangu_cv.settings import Settings

Weight = Annotated[float, Field(ge=0)]


class DinoConfig(Settings):
    """Which terms, and how heavy each is."""

    kind: Literal["dino"] = "dino"
    """The objective."""
    prototypes: Annotated[int, Field(ge=16)] = 2048
    """Outputs of the heads; DINOv2's 65,536 are for 100 million images."""
    patch_weight: Weight = 1.0
    """Weight of the hidden-patch term (iBOT)."""
    koleo: Weight = 0.1
    """Weight of KoLeo."""
    hidden: Annotated[float, Field(ge=0, le=0.9)] = 0.3
    """Share of patches painted grey for the student."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.992
    """Slowness of the teacher."""
    teacher_temperature: Annotated[float, Field(gt=0)] = 0.04
    """Sharpness of the teacher."""

    def build(self, backbone: Backbone, texts: TextTable, *, side_px: int, checkpointing: bool = False) -> "Dino":
        """The objective around a backbone; it has no use for texts."""
        return Dino(self, backbone, side_px=side_px, checkpointing=checkpointing)


class Dino(BaseObjective):
    """A batch to its losses by name; ``total`` is what is differentiated."""

    def __init__(self, config: DinoConfig, backbone: Backbone, *, side_px: int, checkpointing: bool) -> None:
        super().__init__(backbone, side_px=side_px, checkpointing=checkpointing)
        try:
            from lightly.loss import DINOLoss, IBOTPatchLoss
            from lightly.models.modules import DINOProjectionHead
        except ImportError:
            raise MissingExtraError("pretrain with objective.kind=dino", "dino", "lightly") from None
        self.config = config
        width = self.encoder.features
        sizes = {"hidden_dim": 512, "bottleneck_dim": 128, "output_dim": config.prototypes}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # lightly's weight_norm, till it takes torch's newer one
            both = [nn.ModuleList([DINOProjectionHead(width, **sizes) for _ in range(2)]) for _ in range(2)]
        self.heads, self.teacher_heads = both  # each for the image and for patches
        self.teacher_heads.load_state_dict(self.heads.state_dict())
        self.teacher_heads.requires_grad_(False)
        self.teacher: Any = copy.deepcopy(self.encoder).requires_grad_(False)
        temperature = config.teacher_temperature
        self.image_loss = DINOLoss(
            config.prototypes, teacher_temp=temperature, warmup_teacher_temp=temperature, warmup_teacher_temp_epochs=0
        )
        self.patch_loss = IBOTPatchLoss(config.prototypes, teacher_temp=temperature)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Losses by name."""
        config = self.config
        views = [self.normal(batch.clean[:, view]) for view in range(2)]
        with torch.no_grad():
            slow: Encoded = self.teacher(torch.cat(views))
            slow_images = self.teacher_heads[0](_summary(slow)).chunk(2)
            slow_patches = self.teacher_heads[1](slow.tokens_BND.flatten(0, 1)).unflatten(0, slow.tokens_BND.shape[:2])
        student, mask_NP = self._student(views, batch)
        images = [*self.heads[0](_summary(student)).chunk(2), *self._small(batch)]
        losses = {"image": self.image_loss(list(slow_images), images)}
        if config.patch_weight and config.hidden:
            patches = self.heads[1](student.tokens_BND[mask_NP])
            losses["patch"] = self.patch_loss(slow_patches[mask_NP], patches, mask_NP.view(len(mask_NP), -1, 1))
        if config.koleo:
            pairs = _summary(student).chunk(2)
            losses["koleo"] = (koleo(pairs[0]) + koleo(pairs[1])) / 2
        weights = {"image": 1.0, "patch": config.patch_weight, "koleo": config.koleo}
        return {"total": torch.stack([weights[name] * loss for name, loss in losses.items()]).sum()} | losses

    def _student(self, views: list[Tensor], batch: Batch) -> tuple[Encoded, Tensor]:
        """The views with patches painted grey, and which those are, bool[N,P]."""
        hidden = torch.zeros(2 * len(views[0]), self.patches, dtype=torch.bool, device=views[0].device)
        shown = [draw_visible(batch.seed_B, patches=self.patches, hidden=self.config.hidden, view=v) for v in range(2)]
        images = torch.cat(views)
        if shown[0] is not None and shown[1] is not None:
            keep = torch.cat([shown[0], shown[1]]).to(images.device)
            hidden = ~torch.zeros_like(hidden).scatter_(1, keep, True)
            images = images * visible_pixels(keep, images, self.encoder.patch_px)
        encoded: Encoded = self.encoder(images)
        return encoded, hidden

    def _small(self, batch: Batch) -> list[Tensor]:
        count = batch.local.shape[1]
        if count == 0:
            return []
        small = torch.cat([self.normal(batch.local[:, view]) for view in range(count)])
        found: Tensor = self.heads[0](_summary(self.encoder(small)))
        return list(found.chunk(count))

    def after_step(self) -> None:
        """The teacher follows."""
        with torch.no_grad():
            for slow, quick in ((self.teacher, self.encoder), (self.teacher_heads, self.heads)):
                for old, new in zip(slow.parameters(), quick.parameters(), strict=True):
                    old.lerp_(new.detach(), 1 - self.config.momentum)


def _summary(encoded: Encoded) -> Tensor:
    """The class token, or the mean of the patches where there is none."""
    return encoded.tokens_BND.mean(1) if encoded.class_token_BD is None else encoded.class_token_BD
