"""Memories joined: what several heads on one backbone have learnt, as if one head had learnt all their images.

A head in closed form is solved from sums over its images, and sums of several plants add up: which plant saw which
image makes no difference (AFL, He et al., arXiv 2405.16240; standardising anew, shared images and memories that grew
from a common one are ours). Neither their images nor their weights meet, and nothing is trained.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from pangu_cv.errors import DataError, SettingsError
from pangu_cv.iterate.fuse.gathering import Fused, Gathering
from pangu_cv.iterate.fuse.members import Member
from pangu_cv.iterate.fuse.student import blank, decided, worth
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.settings import PathSetting, Settings
from pangu_cv.tasks.class_memories import merge
from pangu_cv.tasks.class_memory import ClassMemory
from pangu_cv.tasks.saved import load_model

_INSTEAD = "take how=graph, which distils any models into one"


class MemoryConfig(Settings):
    """Add up what the heads were fitted from; needs one backbone for all, and heads in closed form."""

    kind: Literal["memory"] = "memory"
    """The way."""
    base: PathSetting | None = None
    """The model that all grew from by 'pangu-cv update', if any; its images count once. Needed for large memories
    alone, which hold sums and no single images."""


def require_memories(members: Sequence[Member]) -> None:
    """Raises SettingsError where a model keeps no memory, or one of another backbone or resize."""
    first = members[0]
    for member in members:
        if member.saved.memory is None:
            raise SettingsError(
                f"how: memory adds up what heads in closed form were fitted from, and '{member.name}' keeps nothing of "
                f"that kind (trained heads and task.memory_per_class=null do not); {_INSTEAD}"
            )
        if member.model.fingerprint != first.model.fingerprint:
            raise SettingsError(
                f"how: memory needs one backbone and resize for all, and those of '{first.name}' and '{member.name}' "
                f"differ; {_INSTEAD}"
            )


def join(how: MemoryConfig, gathering: Gathering) -> Fused:
    """Make it; raises SettingsError where the sums cannot be added."""
    members = gathering.members
    require_memories(members)
    model = blank(members[0], gathering.classes)
    try:
        joined = merge(model, [_renamed(member) for member in members], base=_base(how, gathering.classes))
        ridge = joined.aligned(gathering.classes)
        joined = replace(joined, classes=gathering.classes, ridge=ridge)
        joined.teach(model)
    except DataError as error:
        raise SettingsError(f"how: memory: {error}; or {_INSTEAD}") from None
    evidence = gathering.evidence
    scores_NC = decided(model, evidence.paths, gathering.reader, about="memories joined").astype(float)
    told = f"as if one head had learnt the {len(joined.known)} images of {', '.join(m.name for m in members)}"
    return Fused(model, "memories joined", told, worth(scores_NC, evidence, gathering.beliefs_NC), memory=joined)


def _base(how: MemoryConfig, classes: Sequence[str]) -> ClassMemory | None:
    if how.base is None:
        return None
    memory = load_model(folder_of(how.base)).memory
    if memory is None:
        raise SettingsError(f"how.base: '{how.base}' keeps no memory; name the model that all of them grew from")
    if strange := sorted(set(memory.classes) - set(classes)):
        raise SettingsError(
            f"how.base: '{how.base}' calls a class {', '.join(strange)}, which none of the models does; classes must "
            "have had their names before the models grew apart"
        )
    return memory


def _renamed(member: Member) -> ClassMemory:
    memory = member.saved.memory
    assert memory is not None, "require_memories has seen it"
    own = dict(zip(member.model.classes, member.classes, strict=True))
    return memory.rename({was: now for was, now in own.items() if was != now})
