"""Few-shot tagging: which of the classes are present, any number of them at once; one network, a head per class.

Shapes: N images, V views, D features, C classes.
"""

from collections.abc import Sequence
from typing import Literal, Self

import torch
from torch import Tensor

from pangu_cv.models.tag_head import TagHeadConfig
from pangu_cv.tasks.threshold import Share
from pangu_cv.tasks.viewed import ViewedConfig, ViewedModel


class MultilabelConfig(ViewedConfig):
    """A tagger from a few labels."""

    kind: Literal["multilabel"] = "multilabel"
    """The task."""
    head: TagHeadConfig = TagHeadConfig()
    """The head."""
    threshold: Share = 0.5
    """Probability from which a class counts as present."""

    def build(self, classes: Sequence[str]) -> "MultilabelModel":
        """An unfitted model; scores come in the order of ``classes``."""
        return MultilabelModel(self, classes)


class MultilabelModel(ViewedModel):
    """uint8[N,H,W,3] to ``scores`` float32[N,C], ``is_present`` bool[N,C] and the threshold used."""

    config: MultilabelConfig

    def __init__(self, config: MultilabelConfig, classes: Sequence[str]) -> None:
        super().__init__(config, classes, threshold=config.threshold)
        self.rebuild_head(classes)
        self.eval()

    def rebuild_head(self, classes: Sequence[str]) -> None:
        """An unfitted head for these classes."""
        self.classes = tuple(classes)
        self.head = self.config.head.build(groups=self.groups, classes=len(self.classes))

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (each class by itself), whether they reach ``threshold`` float32[1], and that again.

        Scores are calibrated where the head was fitted in closed form; a trained one has seen every labelled image.
        """
        return self.decide_from_features(self.features(self.prepare(image)), threshold)

    def decide_from_features(self, features_NVD: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from cached features of the decision views."""
        scores_NC = self.head(features_NVD).sigmoid()
        return scores_NC, scores_NC >= threshold, threshold + 0.0

    @torch.no_grad()
    def fit(self, features_NVD: Tensor, present_NC: Tensor, kin: Sequence[str] | None = None) -> Self:
        """Fit the head to features of the fit views and bool truth.

        Images that share a name in ``kin`` belong together: the sigmoids come from leaving them out together.
        """
        left_out_NVC = self.head.solve(features_NVD, present_NC, kin)
        self.head.calibrate(self.at_decision(left_out_NVC), present_NC)
        return self
