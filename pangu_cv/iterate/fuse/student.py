"""One model for all classes: a backbone under a head that is fitted in closed form to what is believed of images.

Shapes: N images, V views, D features, C classes of the union.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.iterate.fuse.ensemble import Floats
from pangu_cv.iterate.fuse.evidence import Evidence, Reader
from pangu_cv.iterate.fuse.members import Member
from pangu_cv.tasks.classify import ClassifyModel

State = Mapping[str, Tensor]


@dataclass(frozen=True, eq=False)
class Fitted:
    """A student, and what its head says of every image when fitted without it: probabilities float64[N,C]."""

    model: ClassifyModel
    left_out_NC: Floats


def blank(like: Member, classes: Sequence[str], backbone: State | None = None) -> ClassifyModel:
    """A model of one member's kind with an unfitted head for ``classes``; its own backbone unless one is given.

    It answers every image: a threshold for "unknown" would have to be calibrated on labelled images of all classes.
    """
    own = like.model.config
    network = own.backbone.model_copy(update={"weights": "random"})
    model = own.model_copy(update={"unknown_rate": None, "backbone": network}).build(classes)
    model.backbone.network.load_state_dict(backbone or like.model.backbone.network.state_dict(), strict=True)
    return model


def fit_head(model: ClassifyModel, evidence: Evidence, beliefs_NC: Floats, reader: Reader, *, about: str) -> Fitted:
    """Fit the head to beliefs about the images, seen in the model's fit views; the backbone stays as it is."""
    views = model.config.fit_views
    seen = reader.features(model, evidence.paths, views, about=about)
    rows = [seen.index[path] for path in evidence.paths]
    left_out_NVC = model.head.fit_soft(torch.from_numpy(seen.features_NVD[rows]), torch.from_numpy(beliefs_NC))
    left_out_NC = model.at_decision(left_out_NVC).softmax(-1)
    return Fitted(model, np.asarray(left_out_NC.numpy(), np.float64))


def trial(model: ClassifyModel, evidence: Evidence, beliefs_NC: Floats, reader: Reader, *, about: str) -> Fitted:
    """The same seen once each, to compare backbones by; ``model`` is left with the head of the trial."""
    brief: Any = model.config.model_copy(update={"fit_views": model.config.decision_views})
    own, model.config = model.config, brief
    try:
        return fit_head(model, evidence, beliefs_NC, reader, about=about)
    finally:
        model.config = own


@torch.inference_mode()
def decided(model: ClassifyModel, paths: Sequence[Any], reader: Reader, *, about: str) -> NDArray[np.float32]:
    """Probabilities float32[N,C] that the model gives to readable images."""
    seen = reader.features(model, paths, model.config.decision_views, about=about)
    rows = torch.from_numpy(seen.features_NVD[[seen.index[path] for path in paths]])
    scores_NC, _, _ = model.decide_from_features(rows, torch.zeros(1))
    return np.asarray(scores_NC.numpy(), np.float32)


def worth(scores_NC: Any, evidence: Evidence, beliefs_NC: Floats) -> float:
    """Balanced accuracy over the labelled images; without any, the share decided as is believed."""
    said_N = np.asarray(scores_NC).argmax(1)
    places = evidence.labelled
    if not len(places):
        return float((said_N == beliefs_NC.argmax(1)).mean())
    truth, said = evidence.truth_N[places], said_N[places]
    return float(np.mean([(said[truth == c] == c).mean() for c in np.unique(truth)]))
