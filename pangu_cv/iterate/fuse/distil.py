"""Graph-network fusion to its end: beliefs by passing messages, and one student that learns them.

The student's backbone is the one under which a head in closed form comes nearest to what is believed, each image left
out of its own fit: a member's, or the mean of all where they are kin.

An image's label stays in what is believed of its neighbours, and in the backbone where blocks are taught. So what is
measured on labelled images is a little better than on new ones: it compares ways, and promises nothing.

Shapes: N images, C classes.
"""

from typing import Literal

import numpy as np

from pangu_cv.errors import SettingsError
from pangu_cv.iterate.fuse.ancestry import require_kin
from pangu_cv.iterate.fuse.ensemble import Floats
from pangu_cv.iterate.fuse.gathering import Fused, Gathering, Tried
from pangu_cv.iterate.fuse.graph import Believed, MessagesConfig, joined, pass_messages
from pangu_cv.iterate.fuse.student import blank, fit_head, trial, worth
from pangu_cv.iterate.fuse.teach import TeachConfig, teach
from pangu_cv.iterate.fuse.weights import mean
from pangu_cv.models.training import History
from pangu_cv.settings import Settings
from pangu_cv.tasks.classify import ClassifyModel

_SOUP = "soup"
FEWEST_IMAGES = 8


class GraphConfig(Settings):
    """Weigh the models image by image, and teach one model what they say together."""

    kind: Literal["graph"] = "graph"
    """The way."""
    messages: MessagesConfig = MessagesConfig()
    """How the weights come about."""
    student: str = "auto"
    """The backbone of the one model: auto tries all, soup is the mean of the members', else a model's name."""
    teach: TeachConfig | None = None
    """Train the student's last blocks too; null leaves the backbone and fits the head in closed form."""


def graph(how: GraphConfig, gathering: Gathering) -> Fused:
    """Make it; raises SettingsError for too few images or a student that there is not."""
    evidence = gathering.evidence
    if len(evidence.samples) < FEWEST_IMAGES:
        raise SettingsError(
            f"data: {len(evidence.samples)} images can be read; what the models say together is taught on images, so "
            f"give at least {FEWEST_IMAGES}, better some hundreds (without labels)"
        )
    believed = believe(gathering, how.messages)
    model, name, tried = _student(how, gathering, believed.beliefs_NC)
    fitted = fit_head(model, evidence, believed.beliefs_NC, gathering.reader, about="the student")
    history = History()
    if how.teach is not None:
        beliefs, spec = believed.beliefs_NC, gathering.reader.spec
        history = teach(model, evidence.paths, beliefs, how.teach, spec=spec, seed=gathering.seed)
        fitted = fit_head(model, evidence, beliefs, gathering.reader, about="the student, taught")
    told = f"what {len(gathering.members)} models say, each weighed image by image, taught to the backbone of {name}"
    found = worth(fitted.left_out_NC, evidence, gathering.beliefs_NC)
    weights, beliefs = believed.weights_NM, believed.beliefs_NC
    return Fused(model, "graph", told, found, tried, weights, beliefs, fitted.left_out_NC, history)


def believe(gathering: Gathering, config: MessagesConfig) -> Believed:
    """Weights of the models and beliefs about the images."""
    evidence = gathering.evidence
    edges_NN = joined(evidence.spaces, neighbours=config.neighbours)
    return pass_messages(evidence.votes_MNC, evidence.knows_MC, edges_NN, evidence.truth_N, config)


def _student(
    how: GraphConfig, gathering: Gathering, beliefs_NC: Floats
) -> tuple[ClassifyModel, str, tuple[Tried, ...]]:
    models = _candidates(gathering)
    if how.student != "auto":
        if how.student == _SOUP:
            require_kin(gathering.members, how="soup")
        if how.student not in models:
            raise SettingsError(f"how.student: '{how.student}' found; allowed are auto, {', '.join(models)}")
        return models[how.student], how.student, ()
    near = {name: _nearness(model, gathering, beliefs_NC, name) for name, model in models.items()}
    best = max(near, key=lambda name: near[name])
    return models[best], best, tuple(Tried(f"backbone of {name}", w, name == best) for name, w in near.items())


def _candidates(gathering: Gathering) -> dict[str, ClassifyModel]:
    """One per different backbone, the first of those that share it; and the mean."""
    found: dict[str, ClassifyModel] = {}
    seen: set[str] = set()
    for member in gathering.members:
        if member.model.fingerprint not in seen:
            seen.add(member.model.fingerprint)
            found[member.name] = blank(member, gathering.classes)
    try:
        require_kin(gathering.members, how="soup")
    except SettingsError:
        return found
    if len(found) > 1:
        state = mean([member.model.backbone.network.state_dict() for member in gathering.members])
        found[_SOUP] = blank(gathering.members[0], gathering.classes, state)
    return found


def _nearness(model: ClassifyModel, gathering: Gathering, beliefs_NC: Floats, name: str) -> float:
    """Mean probability that the left-out student and the beliefs name the same class."""
    fitted = trial(model, gathering.evidence, beliefs_NC, gathering.reader, about=f"trying {name}")
    return float(np.einsum("nc,nc->n", fitted.left_out_NC, beliefs_NC).mean())
