"""Soups: the weights of several models averaged (arXiv 2203.05482).

The greedy soup takes the models in the order of their worth on labelled images and keeps one where the soup gets no
worse by it.
"""

from typing import Literal

from pangu_cv.errors import SettingsError
from pangu_cv.iterate.fuse.ancestry import require_kin
from pangu_cv.iterate.fuse.gathering import Fused, Gathering, Tried
from pangu_cv.iterate.fuse.heads import Headed, HeadRule, headed, resolved
from pangu_cv.iterate.fuse.members import Member
from pangu_cv.iterate.fuse.weights import mean
from pangu_cv.settings import Settings


class SoupConfig(Settings):
    """Average the weights of models of one architecture and ancestor."""

    kind: Literal["soup"] = "soup"
    """The way."""
    choose: Literal["greedy", "uniform"] = "greedy"
    """greedy keeps a model where the labelled images are decided no worse with it; uniform keeps all."""
    head: HeadRule = "auto"
    """average: the mean of the heads; refit: in closed form to the ensemble's decisions on the images. auto averages
    where all models know the same classes."""


def soup(how: SoupConfig, gathering: Gathering) -> Fused:
    """Make it; raises SettingsError where the weights cannot be mixed, or a greedy one has no labels to choose by."""
    require_kin(gathering.members, how="soup")
    if how.choose == "uniform":
        return _finished(how, gathering, list(gathering.members), ())
    if not len(gathering.evidence.labelled):
        raise SettingsError(
            "how.choose: greedy chooses by labelled images, and no image of data is labelled; take how.choose=uniform"
        )
    order = sorted(range(len(gathering.members)), key=lambda at: -gathering.worths[at])
    kept = [gathering.members[order[0]]]
    best = _of(kept, how, gathering, is_trial=True).worth
    tried = [Tried(kept[0].name, best, True)]
    for at in order[1:]:
        member = gathering.members[at]
        found = _of([*kept, member], how, gathering, is_trial=True).worth
        tried.append(Tried(f"with {member.name}", found, found >= best))
        if found >= best:
            kept, best = [*kept, member], found
    return _finished(how, gathering, kept, tuple(tried))


def _of(kept: list[Member], how: SoupConfig, gathering: Gathering, *, is_trial: bool) -> Headed:
    members = [member for member in gathering.members if member in kept]  # one order, one sum, to the last bit
    state = mean([member.model.backbone.network.state_dict() for member in members])
    about = f"soup of {len(members)}"
    return headed(gathering, state, members, how.head, about=about, is_trial=is_trial)


def _finished(how: SoupConfig, gathering: Gathering, kept: list[Member], tried: tuple[Tried, ...]) -> Fused:
    made = _of(kept, how, gathering, is_trial=False)
    rule = {"average": "their heads averaged", "refit": "a head fitted to what all models say"}
    told = f"the mean of {', '.join(m.name for m in kept)}, {rule[resolved(how.head, gathering)]}"
    return Fused(made.model, f"{how.choose} soup", told, made.worth, tried, left_out_NC=made.scores_NC)
