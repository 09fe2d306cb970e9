"""Which models' weights may be mixed: one architecture read in one way, from one ancestor.

Weights of networks that were trained from different starts mean different things at the same place; their mean decides
nothing. The ancestor is the SHA-256 of the weights file that a checkpoint names as its parent.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_cv.errors import CheckpointError, PanguError, SettingsError
from pangu_cv.iterate.fuse.members import Member
from pangu_cv.models import checkpoint
from pangu_cv.models.weights import load_state, locate

_INSTEAD = "take how=graph, which distils any models into one"


def require_kin(members: Sequence[Member], *, how: str) -> None:
    """Raises SettingsError where the models' weights cannot be mixed, naming the first two that differ and in what."""
    first = members[0]
    for other in members[1:]:
        for what, one, two in _comparable(first, other):
            if one != two:
                raise SettingsError(
                    f"how: {how} mixes weights, but '{first.name}' and '{other.name}' differ in {what} ({one} and "
                    f"{two}); {_INSTEAD}"
                )
    hashes = [member.parent["sha256"] for member in members]
    same = all(one.model.backbone.fingerprint == first.model.backbone.fingerprint for one in members)
    if None in hashes and not same:
        name = members[hashes.index(None)].name
        raise SettingsError(
            f"how: {how} mixes weights, which needs a common ancestor, but '{name}' was trained from random weights of "
            f"its own; {_INSTEAD}"
        )
    for other, sha in zip(members, hashes, strict=True):
        if sha != hashes[0]:
            raise SettingsError(
                f"how: {how} mixes weights, which needs a common ancestor, but '{first.name}' comes from "
                f"{_said(first.parent)} and '{other.name}' from {_said(other.parent)}; {_INSTEAD}"
            )


def ancestor(members: Sequence[Member], start: Path | None, *, how: str) -> dict[str, Tensor]:
    """The weights that all come from: ``start`` (a run, a checkpoint or a file), else the parent they name, if found.

    Raises SettingsError where it is not on this machine, or does not fit.
    """
    like, parent = members[0], members[0].parent
    if start is not None and (found := _checkpoint(start)) is not None:
        return _fitting(found, like, str(start))
    try:
        source = locate(str(parent["name"]), "auto" if start is None else str(start))
        if start is None and source.sha256 != parent["sha256"]:
            raise SettingsError(f"{source.path} has another SHA-256")
        network = like.model.config.backbone.model_copy(update={"weights": "random"}).build().network
        load_state(network, source)
    except PanguError as error:
        raise SettingsError(
            f"how.start: {how} needs the weights that the models come from, {_said(parent)}, and they were not found "
            f"({error}); name their file"
        ) from None
    return dict(network.state_dict())


def _comparable(one: Member, other: Member) -> list[tuple[str, Any, Any]]:
    a, b = one.model.config, other.model.config
    pairs: list[tuple[str, Any, Any]] = [
        ("architecture", a.backbone.name.split(".")[0], b.backbone.name.split(".")[0]),
        ("backbone.arguments", dict(a.backbone.arguments), dict(b.backbone.arguments)),
        ("backbone.levels", list(a.backbone.levels), list(b.backbone.levels)),
        ("preprocess.image_px", a.preprocess.image_px, b.preprocess.image_px),
        ("preprocess.interpolation", a.preprocess.interpolation, b.preprocess.interpolation),
        ("normalisation of pixels", one.model.backbone.mean, other.model.backbone.mean),
        ("normalisation of pixels", one.model.backbone.std, other.model.backbone.std),
    ]
    return pairs


def _checkpoint(start: Path) -> dict[str, Tensor] | None:
    for folder in (start, start / "model"):
        if (folder / "model.json").is_file():
            try:
                return checkpoint.load(folder).components["backbone"]
            except KeyError:
                raise CheckpointError(f"{folder}: holds no backbone") from None
    return None


def _fitting(state: dict[str, Tensor], like: Member, where: str) -> dict[str, Tensor]:
    own = like.model.backbone.network.state_dict()
    if {n: t.shape for n, t in state.items()} != {n: t.shape for n, t in own.items()}:
        raise SettingsError(f"how.start: '{where}' is of another architecture than '{like.name}'; name its ancestor")
    return {name: torch.as_tensor(tensor) for name, tensor in state.items()}


def _said(parent: dict[str, Any]) -> str:
    sha = parent.get("sha256")
    return f"'{parent.get('name')}' ({'random weights' if sha is None else 'SHA-256 ' + str(sha)[:12]})"
