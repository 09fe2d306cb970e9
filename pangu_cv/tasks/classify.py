"""Few-shot classification: frozen multi-level features, a closed-form head, calibrated scores, a rate of "unknown".

Shapes: N images, V views, D features, C classes.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from torch import Tensor

from pangu_cv.errors import SettingsError
from pangu_cv.models.ridge_head import RidgeHeadConfig, groups_of_class
from pangu_cv.tasks.conformal import ConformalThreshold, conformal_threshold
from pangu_cv.tasks.viewed import ViewedConfig, ViewedModel

NEVER_UNKNOWN = 0.0  # the best of C probabilities is at least 1 / C
_ONCE_A_GROUP = "copies, and images of one group, are left out together and count once"


class ClassifyConfig(ViewedConfig):
    """A classifier from a few labels."""

    kind: Literal["classify"] = "classify"
    """The task."""
    unknown_rate: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Share of images of known classes that may be answered "unknown", so that others can be; null never does."""
    head: RidgeHeadConfig = RidgeHeadConfig()
    """The head."""

    def build(self, classes: Sequence[str]) -> "ClassifyModel":
        """An unfitted model; scores come in the order of ``classes``.

        Raises SettingsError where the views that decide could not be calibrated.
        """
        strange = [view for view in self.decision_views if view not in self.fit_views]
        if self.unknown_rate is not None and strange:
            raise SettingsError(
                f"task.decision_views: {', '.join(strange)} is not in task.fit_views, so task.unknown_rate cannot be "
                "calibrated; add it to fit_views, or leave it out"
            )
        return ClassifyModel(self, classes)


class ClassifyModel(ViewedModel):
    """uint8[N,H,W,3] to ``scores`` float32[N,C], ``label`` int64[N] (-1: unknown) and the threshold used.

    An image is unknown where its best score is below the threshold; 0 knows them all.
    """

    config: ClassifyConfig

    def __init__(self, config: ClassifyConfig, classes: Sequence[str]) -> None:
        super().__init__(config, classes, threshold=NEVER_UNKNOWN)
        self.rebuild_head(classes)
        self.calibration: ConformalThreshold | None = None
        self.eval()

    def rebuild_head(self, classes: Sequence[str]) -> None:
        """An unfitted head for these classes."""
        self.classes = tuple(classes)
        self.head = self.config.head.build(groups=self.groups, classes=len(self.classes))

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Scores (each row sums to 1), the label of the best or -1, and ``threshold`` float32[1] again.

        Scores are calibrated where the head was fitted in closed form; a trained one has seen every labelled image.
        """
        return self.decide(self.prepare(image), threshold)

    def decide(self, prepared_B3SS: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from the network's input."""
        return self.decide_from_features(self.features(prepared_B3SS), threshold)

    def decide_from_features(self, features_NVD: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same from cached features of the decision views."""
        scores_NC = self.head(features_NVD).softmax(-1)
        is_unknown_N = scores_NC.amax(-1) < threshold
        return scores_NC, torch.where(is_unknown_N, -1, scores_NC.argmax(-1)), threshold + 0.0

    def fit(self, features_NVD: Tensor, labels_N: Tensor, kin: Sequence[str] | None = None) -> Self:
        """Fit the head to features of the fit views, and the threshold where an unknown rate is asked for.

        Images that share a name in ``kin`` belong together: they are left out together, and count once there. Raises
        SettingsError where no threshold can be had from these images and views.
        """
        left_out_NVC = self.head.fit(features_NVD, labels_N, kin)
        self.certify(self.at_decision(left_out_NVC), labels_N, kin)
        return self

    def certify(
        self, left_out_NC: Tensor, labels_N: Tensor, kin: Sequence[str] | None = None, *, most: int | None = None
    ) -> None:
        """Set the threshold of "unknown", where one is asked for, from the logits of images that were left out.

        Those that share a name in ``kin`` together; ``most`` is how many can ever count. Raises SettingsError where
        these images cannot set it.
        """
        self.install(None)
        if self.config.unknown_rate is not None:
            self._require_others(labels_N, kin, rate=self.config.unknown_rate)
            doubts_N = (1 - left_out_NC.softmax(-1).amax(-1)).tolist()  # 1 - best score
            names = range(len(doubts_N)) if kin is None else kin
            once = dict(zip(reversed(names), reversed(doubts_N), strict=True))  # of each group its first image
            found = conformal_threshold(list(once.values()), rate=self.config.unknown_rate, most=most)
            self.install(replace(found, caveat=_ONCE_A_GROUP if len(once) < len(doubts_N) else ""))

    def _require_others(self, labels_N: Tensor, kin: Sequence[str] | None, *, rate: float) -> None:
        counts = groups_of_class(labels_N, kin, classes=len(self.classes))
        alone = [name for name, count in zip(self.classes, counts.tolist(), strict=True) if count < 2]
        if alone:
            together = "" if kin is None else " (copies, and images of one group, count once)"
            raise SettingsError(
                f"task.unknown_rate: {rate:g} needs 2 labelled images of every class, {', '.join(alone)} has 1"
                f"{together}; label more images, raise few_shot.shots, or leave unknown_rate out"
            )

    @property
    def certified_rate(self) -> float | None:
        """Share of images of known classes that may be answered unknown; None where none is."""
        return self.calibration.certified_rate if self.calibration else None

    @property
    def statement(self) -> str:
        """The threshold in a sentence."""
        if self.calibration is None:
            return "every image is answered with a class (task.unknown_rate is null)"
        flagged = "unknown answers to images of known classes"
        return self.calibration.explain(flagged, "labelled images", by="by leaving out each of")

    def install(self, calibration: ConformalThreshold | None) -> None:
        """Take a calibrated threshold; None answers every image."""
        self.calibration = calibration
        self.threshold.fill_(NEVER_UNKNOWN if calibration is None else 1 - calibration.value)
