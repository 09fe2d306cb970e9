"""What the tasks that answer for a whole image share: one vector per view of it, and a head on those.

Shapes: N images, V views, B images of a batch, D features, S pixels a side.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.features import digest
from pangu_cv.models.backbone import Backbone, BackboneConfig, BackboneFeatures
from pangu_cv.models.preprocess import PreprocessConfig
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


def pooled(features: BackboneFeatures) -> list[Tensor]:
    """The pooled vector, then mean and deviation of each grid: textures need the deviation, small marks the levels."""
    parts = [features.vector_BD]
    for grid in features.grids_BDhw:
        mean = grid.mean((2, 3))
        parts += [mean, (grid - mean[:, :, None, None]).square().mean((2, 3)).clamp(min=1e-12).sqrt()]
    return parts


class ViewedConfig(Settings):
    """The network, the resize and the views."""

    backbone: BackboneConfig = BackboneConfig()
    """The frozen network."""
    preprocess: PreprocessConfig = PreprocessConfig()
    """The resize inside the graph."""
    fit_views: Annotated[tuple[View, ...], Field(min_length=1)] = ("identity", "flip_lr", "flip_ud", "rot90")
    """How each labelled image is shown to the head. Leave out what changes the class (an arrow's direction)."""
    decision_views: Annotated[tuple[View, ...], Field(min_length=1)] = ("identity",)
    """Views whose scores are averaged for a decision; each costs one pass of the network, in the exported graph too."""
    memory_per_class: Annotated[int, Field(ge=2)] | None = 20
    """Images of each class whose feature vectors go into the checkpoint, beside sums over those of all images, so that
    'pangu-cv update' can learn on without the images; null keeps nothing, for who must not hand features on."""


class ViewedModel(nn.Module):
    """Backbone, preprocessing and the vectors of an image; a task adds its head and its decision."""

    config: ViewedConfig
    threshold: Tensor
    classes: tuple[str, ...]

    def __init__(self, config: ViewedConfig, classes: Sequence[str], *, threshold: float) -> None:
        super().__init__()
        self.config = config
        self.classes = tuple(classes)
        self.backbone: Backbone = config.backbone.build()
        self.preprocess = config.preprocess.build(mean=self.backbone.mean, std=self.backbone.std)
        self.groups = [part.shape[1] for part in pooled(self.backbone.probe(config.preprocess.image_px))]
        self.register_buffer("threshold", torch.tensor([threshold]))

    @property
    def fingerprint(self) -> str:
        """Digest of weights, levels and resize: what cached features depend on, whatever the task."""
        return digest("classify-1", self.backbone.fingerprint, self.config.preprocess.model_dump())

    def prepare(self, image_1HW3: Tensor) -> Tensor:
        """Raw pixels to the network's input."""
        prepared: Tensor = self.preprocess(image_1HW3)
        return prepared

    def embed(self, prepared_B3SS: Tensor, view: str) -> Tensor:
        """Features float32[B,D] of one view: the pooled vector, then mean and deviation of every level's grid."""
        return torch.cat(pooled(self.backbone(see(prepared_B3SS, view))), 1)

    def features(self, prepared_B3SS: Tensor) -> Tensor:
        """Features float32[B,V,D] of the decision views."""
        return torch.stack([self.embed(prepared_B3SS, view) for view in self.config.decision_views], 1)

    def at_decision(self, fitted_NVC: Tensor) -> Tensor:
        """Of values per fit view the mean over those that decide, over all where no fit view does: [N,C]."""
        views = self.config.fit_views
        places = [views.index(view) for view in self.config.decision_views if view in views]
        return fitted_NVC[:, places or slice(None)].mean(1)
