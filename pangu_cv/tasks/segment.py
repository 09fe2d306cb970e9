"""Segmentation from a few masks: a class for every pixel, at the image's own size.

Shapes: N images of H×W pixels, S×S as the network sees them, C classes of which the first is the background.
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor, nn

from pangu_cv.models.backbone import Backbone, BackboneConfig
from pangu_cv.models.pixel_head import PixelHeadConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.settings import Settings
from pangu_cv.tasks.tile import TileConfig, require_multiple


class SegmentConfig(Settings):
    """A segmenter."""

    kind: Literal["segment"] = "segment"
    """The task."""
    backbone: BackboneConfig = BackboneConfig(levels=(1, 2, 3, 4))
    """The network that gives the meaning."""
    preprocess: PreprocessConfig = PreprocessConfig(image_px=384)
    """The resize inside the graph; thin defects want it large."""
    head: PixelHeadConfig = PixelHeadConfig()
    """The head."""

    tile: TileConfig | None = None
    """Cut images larger than a tile into tiles; null shows every image whole."""

    def build(self, classes: Sequence[str]) -> "SegmentModel":
        """An unfitted model; class numbers are places in ``classes``, the first is the background."""
        return SegmentModel(self, classes)


class SegmentModel(nn.Module):
    """uint8[N,H,W,3] to ``mask`` uint8[N,H,W] and ``confidence`` float32[N,H,W]; what is evaluated and exported."""

    def __init__(self, config: SegmentConfig, classes: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.classes = tuple(classes)
        self.backbone: Backbone = config.backbone.build()
        self.preprocess = config.preprocess.build(mean=self.backbone.mean, std=self.backbone.std)
        require_multiple(config.preprocess.image_px, of=8)
        grids = self.backbone.probe(config.preprocess.image_px).grids_BDhw
        self.head = config.head.build(channels=[grid.shape[1] for grid in grids], classes=len(self.classes))
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """The backbone's statistics and dropout stay as they are: a handful of images must not move them."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """The likeliest class of every pixel and its probability."""
        height, width = image.shape[1], image.shape[2]
        logits = self.logits(self.preprocess(image))
        at_size = nn.functional.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
        confidence, mask = at_size.softmax(1).max(1)
        return mask.to(torch.uint8), confidence

    def logits(self, prepared_B3SS: Tensor) -> Tensor:
        """float32[B,C,S/2,S/2] from the network's input."""
        return self.logits_from_grids(prepared_B3SS, self.backbone.grids(prepared_B3SS))

    def logits_from_grids(self, prepared_B3SS: Tensor, grids_BDhw: Sequence[Tensor]) -> Tensor:
        """The same with what the backbone says of it."""
        found: Tensor = self.head(prepared_B3SS, grids_BDhw)
        return found

    def losses(self, logits_BCss: Tensor, share_BCSS: Tensor, counts_BSS: Tensor) -> dict[str, Tensor]:
        """Cross-entropy and Dice against the share of each class in a pixel; ``counts`` is 0 where a pixel does not."""
        side = share_BCSS.shape[-2:]
        logits = nn.functional.interpolate(logits_BCss.float(), size=side, mode="bilinear", align_corners=False)
        return {
            "cross_entropy": cross_entropy(logits, share_BCSS, counts_BSS),
            "dice": dice(logits, share_BCSS, counts_BSS),
        }


def cross_entropy(logits_BCSS: Tensor, share_BCSS: Tensor, counts_BSS: Tensor) -> Tensor:
    """Mean over the pixels that count; ``share`` are soft targets, so that a line thinner than a pixel is not lost."""
    each = -(share_BCSS * logits_BCSS.log_softmax(1)).sum(1)
    return (each * counts_BSS).sum() / counts_BSS.sum().clamp(min=1)


def dice(logits_BCSS: Tensor, share_BCSS: Tensor, counts_BSS: Tensor) -> Tensor:
    """1 - soft Dice, mean over the classes that are there, the background left out (V-Net, arXiv 1606.04797)."""
    found = logits_BCSS.softmax(1)[:, 1:] * counts_BSS[:, None]
    truth = share_BCSS[:, 1:] * counts_BSS[:, None]
    overlap = (found * truth).sum((0, 2, 3))
    sizes = found.sum((0, 2, 3)) + truth.sum((0, 2, 3))
    there = truth.sum((0, 2, 3)) > 0
    each = 1 - 2 * overlap / sizes.clamp(min=1e-6)
    return (each * there).sum() / there.sum().clamp(min=1)
