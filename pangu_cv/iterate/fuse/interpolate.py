"""Weight interpolation between a start and what was trained from it (WiSE-FT, arXiv 2109.01903)."""

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from pangu_cv.errors import SettingsError
from pangu_cv.iterate.fuse.ancestry import ancestor, require_kin
from pangu_cv.iterate.fuse.gathering import Fused, Gathering, Tried
from pangu_cv.iterate.fuse.heads import Headed, headed
from pangu_cv.iterate.fuse.weights import between
from pangu_cv.settings import PathSetting, Settings

_STEPS = 11


class InterpolateConfig(Settings):
    """Stop somewhere on the way from the start to one model, or from one model to a second."""

    kind: Literal["interpolate"] = "interpolate"
    """The way."""
    alpha: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of the way; null tries every tenth on the labelled images."""
    start: PathSetting | None = None
    """Where one model started: a run, a checkpoint or a weights file; null looks for the parent that it names."""


def interpolate(how: InterpolateConfig, gathering: Gathering) -> Fused:
    """Make it; the head is fitted anew at every stop, to what the models say and to the labels."""
    members = gathering.members
    if len(members) > 2:
        raise SettingsError(f"models: interpolate goes from a start to one model, or between two; found {len(members)}")
    require_kin(members, how="interpolate")
    if how.alpha is None and not len(gathering.evidence.labelled):
        raise SettingsError("how.alpha: it is chosen by labelled images, and no image of data is labelled; give it")
    ends = [member.model.backbone.network.state_dict() for member in members]
    start = ends[0] if len(ends) == 2 else ancestor(members, how.start, how="interpolate")

    def at(share: float, *, is_trial: bool) -> Headed:
        state = between(start, ends[-1], share)
        return headed(gathering, state, members, "refit", about=f"alpha {share:g}", is_trial=is_trial)

    share = how.alpha
    tried: tuple[Tried, ...] = ()
    if share is None:
        shares = [float(one) for one in np.linspace(0, 1, _STEPS).round(3)]
        worths = [at(one, is_trial=True).worth for one in shares]
        share = shares[int(np.argmax(worths))]
        tried = tuple(Tried(f"alpha {one:g}", w, one == share) for one, w in zip(shares, worths, strict=True))
    made = at(share, is_trial=False)
    whence = members[0].name if len(members) == 2 else f"the start of {members[0].name}"
    return Fused(
        made.model, "interpolation", f"{share:g} of the way from {whence} to {members[-1].name}", made.worth, tried
    )
