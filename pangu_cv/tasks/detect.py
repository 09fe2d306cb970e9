"""Detection from a few boxes: a dense head on the backbone's pyramid, suppression inside the graph.

Shapes: N images of H×W pixels, S×S as the network sees them, K boxes an image at most, C classes.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.models.backbone import Backbone, BackboneConfig
from pangu_cv.models.box_class_losses import BoxClassLoss
from pangu_cv.models.box_decision import decide
from pangu_cv.models.box_head import BoxHeadConfig, Dense, centres
from pangu_cv.models.box_loss import assign
from pangu_cv.models.box_loss import losses as box_losses
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.models.pyramid import STRIDES
from pangu_cv.settings import Settings
from pangu_cv.tasks.threshold import Share
from pangu_cv.tasks.tile import TileConfig, require_multiple


class DetectConfig(Settings):
    """A detector."""

    kind: Literal["detect"] = "detect"
    """The task."""
    backbone: BackboneConfig = BackboneConfig(levels=(1, 2, 3, 4))
    """The network that gives the meaning."""
    preprocess: PreprocessConfig = PreprocessConfig(image_px=448)
    """The resize inside the graph, a multiple of 32; small objects want it large."""
    head: BoxHeadConfig = BoxHeadConfig()
    """The head."""
    most: Annotated[int, Field(ge=1, le=1000)] = 100
    """Boxes an image at most."""
    overlap: Share = 0.45
    """IoU above which the better of two boxes of a class suppresses the other."""
    threshold: Share = 0.3
    """Score from which a box counts as found; the others stay in the output, for those who want another balance."""

    tile: TileConfig | None = None
    """Cut images larger than a tile into tiles; null shows every image whole."""

    def build(self, classes: Sequence[str]) -> "DetectModel":
        """An unfitted model; labels are places in ``classes``."""
        return DetectModel(self, classes)


class DetectModel(nn.Module):
    """uint8[N,H,W,3] to boxes float32[N,K,4], scores float32[N,K], labels int64[N,K], count int64[N], best first."""

    threshold: Tensor

    def __init__(self, config: DetectConfig, classes: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.classes = tuple(classes)
        self.backbone: Backbone = config.backbone.build()
        self.preprocess = config.preprocess.build(mean=self.backbone.mean, std=self.backbone.std)
        side = config.preprocess.image_px
        require_multiple(side, of=STRIDES[-1])
        grids = self.backbone.probe(side).grids_BDhw
        self.head = config.head.build(channels=[grid.shape[1] for grid in grids], classes=len(self.classes))
        self.register_buffer("threshold", torch.tensor([config.threshold]))
        self.eval()

    def train(self, mode: bool = True) -> Self:
        """The backbone's statistics and dropout stay as they are: a handful of images must not move them."""
        super().train(mode)
        self.backbone.eval()
        return self

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Boxes in pixels of the image, cut at its edges; ``count`` of them score at least ``threshold`` float32[1]."""
        height, width = image.shape[1], image.shape[2]
        dense = self.dense(self.preprocess(image))
        side = self.config.preprocess.image_px
        scale = torch.tensor([1.0, 0.0]).to(image.device) * width + torch.tensor([0.0, 1.0]).to(image.device) * height
        scale = torch.cat([scale, scale])
        boxes = (dense.boxes_BP4 / side).clamp(0, 1) * scale
        found = decide(boxes, dense.logits_BPC.sigmoid(), count=self.config.most, overlap=self.config.overlap)
        count = (found.scores >= threshold).sum(1)
        return found.boxes_xyxy, found.scores, found.labels, count, threshold + 0.0

    def dense(self, prepared_B3SS: Tensor) -> Dense:
        """Scores and boxes of every place, in pixels of the network's input."""
        found: Dense = self.head(prepared_B3SS, self.backbone.grids(prepared_B3SS))
        return found

    def losses(
        self, dense: Dense, truth: Sequence[tuple[Tensor, Tensor]], *, classes: BoxClassLoss
    ) -> dict[str, Tensor]:
        """Losses by name; ``truth`` are boxes float32[K,4] in pixels of the network's input and labels int64[K]."""
        side = self.config.preprocess.image_px
        places = torch.cat([centres(side // stride, stride, dense.logits_BPC.device) for stride in STRIDES])
        sums = []
        for logits, boxes, (truth_K4, label_K) in zip(*dense, truth, strict=True):
            assigned = assign(logits, boxes, places, truth_K4, label_K)
            found = box_losses(logits, boxes, assigned, truth_K4, label_K, classes=classes)
            sums.append(torch.stack(found))
        score, fit, weight = torch.stack(sums).sum(0)
        return {"score": score / weight.clamp(min=1), "boxes": 2 * fit / weight.clamp(min=1)}
