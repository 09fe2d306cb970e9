"""Few-shot classification: frozen multi-level features, a closed-form head, calibrated scores.

Shapes: N images, V views, D features, C classes.
"""

from collections.abc import Sequence
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.features import digest
from pangu_cv.models.backbone import Backbone, BackboneConfig, BackboneFeatures
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.models.ridge_head import RidgeHeadConfig
from pangu_cv.settings import Settings

View = Literal["identity", "flip_lr", "flip_ud", "rot90"]


def see(images_BCHW: Tensor, view: str) -> Tensor:
    """The images (square) as ``view`` shows them."""
    match view:
        case "flip_lr":
            return images_BCHW.flip(-1)
        case "flip_ud":
            return images_BCHW.flip(-2)
        case "rot90":
            return images_BCHW.rot90(1, (-2, -1))
        case _:
            return images_BCHW


class ClassifyConfig(Settings):
    """A classifier from a few labels."""

    kind: Literal["classify"] = "classify"
    """The task."""
    backbone: BackboneConfig = BackboneConfig()
    """The frozen network."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """The resize inside the graph."""
    fit_views: Annotated[tuple[View, ...], Field(min_length=1)] = ("identity", "flip_lr", "flip_ud", "rot90")
    """How each labelled image is shown to the head. Leave out what changes the class (an arrow's direction)."""
    decision_views: Annotated[tuple[View, ...], Field(min_length=1)] = ("identity",)
    """Views whose scores are averaged for a decision; each costs one pass of the network, in the exported graph too."""
    head: RidgeHeadConfig = RidgeHeadConfig()
    """The head."""

    def build(self, classes: Sequence[str]) -> "ClassifyModel":
        """An unfitted model; scores come in the order of ``classes``."""
        return ClassifyModel(self, classes)


class ClassifyModel(nn.Module):
    """uint8[N,H,W,3] to ``scores`` float32[N,C] and ``label`` int64[N]; the module that is evaluated and exported."""

    def __init__(self, config: ClassifyConfig, classes: Sequence[str]) -> None:
        super().__init__()
        self.config = config
        self.classes = tuple(classes)
        self.backbone: Backbone = config.backbone.build()
        self.preprocess = config.preprocess.build(mean=self.backbone.mean, std=self.backbone.std)
        groups = [part.shape[1] for part in pooled(self.backbone.probe(config.preprocess.image_px))]
        self.head = config.head.build(groups=groups, classes=len(self.classes))
        self.eval()

    @property
    def fingerprint(self) -> str:
        """Digest of weights, levels and resize: what cached features depend on."""
        return digest("classify-1", self.backbone.fingerprint, self.config.preprocess.model_dump())

    def prepare(self, image_1HW3: Tensor) -> Tensor:
        """Raw pixels to the network's input."""
        prepared: Tensor = self.preprocess(image_1HW3)
        return prepared

    def embed(self, prepared_B3SS: Tensor, view: str) -> Tensor:
        """Features float32[B,D] of one view: the pooled vector, then mean and deviation of every level's grid."""
        return torch.cat(pooled(self.backbone(see(prepared_B3SS, view))), 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (calibrated, each row sums to 1) and the label of the best."""
        return self.decide(self.prepare(image))

    def decide(self, prepared_B3SS: Tensor) -> tuple[Tensor, Tensor]:
        """The same from the network's input."""
        features = [self.embed(prepared_B3SS, view) for view in self.config.decision_views]
        return self.decide_from_features(torch.stack(features, 1))

    def decide_from_features(self, features_NVD: Tensor) -> tuple[Tensor, Tensor]:
        """The same from cached features of the decision views."""
        scores_NC = self.head(features_NVD).softmax(-1)
        return scores_NC, scores_NC.argmax(-1)

    def fit(self, features_NVD: Tensor, labels_N: Tensor) -> Self:
        """Fit the head to features of the fit views."""
        self.head.fit(features_NVD, labels_N)
        return self


def pooled(features: BackboneFeatures) -> list[Tensor]:
    """The pooled vector, then mean and deviation of each grid: textures need the deviation, small marks the levels."""
    parts = [features.vector_BD]
    for grid in features.grids_BDhw:
        mean = grid.mean((2, 3))
        parts += [mean, (grid - mean[:, :, None, None]).square().mean((2, 3)).clamp(min=1e-12).sqrt()]
    return parts
