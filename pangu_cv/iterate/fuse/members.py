"""The models that are fused: read, named, their classes renamed where asked, and one list of all classes.

A class is known by its name alone. Names that differ in case or in how words are joined are never taken for one class
silently, nor for two.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from pangu_cv.data.class_names import plain
from pangu_cv.errors import SettingsError
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import SavedModel, load_model

RESERVED = frozenset({"auto", "soup", "ensemble", "weighted ensemble", "labels alone", "fused"})
"""Names that stand for something else in settings and reports."""
_ALIKE = 0.85  # of difflib's ratio: "scratch" and "scratches" are, "crack" and "crater" are not


@dataclass(frozen=True, eq=False)
class Member:
    """One model; ``classes`` are those of its scores, in their order, under the names of the union."""

    name: str
    saved: SavedModel
    model: ClassifyModel
    classes: tuple[str, ...]

    @property
    def parent(self) -> dict[str, Any]:
        """Whose weights it was made from."""
        return self.saved.parent


def read_members(folders: Sequence[Path], rename: Mapping[str, str]) -> tuple[Member, ...]:
    """The models of run or model folders; raises SettingsError where they cannot be fused at all."""
    names = named(folders)
    saved = [load_model(folder_of(folder)) for folder in folders]
    _require_one_task(names, saved)
    changes = _changes(rename, dict(zip(names, saved, strict=True)))
    members = tuple(
        Member(name, one, one.model, tuple(changes.get((name, c), c) for c in one.model.classes))
        for name, one in zip(names, saved, strict=True)
        if isinstance(one.model, ClassifyModel)
    )
    for member in members:
        twice = sorted(c for c, count in Counter(member.classes).items() if count > 1)
        if twice:
            raise SettingsError(f"rename: two classes of '{member.name}' would both be called {', '.join(twice)}")
    _require_one_decoding(members)
    require_apart(members)
    return members


def union_of(members: Sequence[Member]) -> tuple[str, ...]:
    """Sorted names of all classes that any model knows."""
    return tuple(sorted({name for member in members for name in member.classes}))


def named(folders: Sequence[Path]) -> tuple[str, ...]:
    """A short name each: the run's folder, with the one above it where two are alike, or a number."""
    runs = [folder.resolve() for folder in folders]
    runs = [run.parent if run.name == "model" else run for run in runs]
    if len(set(runs)) < len(runs):
        twice = next(run for run, count in Counter(runs).items() if count > 1)
        raise SettingsError(f"models: '{twice}' is given twice; name each model once")
    counts = Counter(run.name for run in runs)
    names: list[str] = []
    for run in runs:
        name = run.name if counts[run.name] == 1 else f"{run.parent.name}-{run.name}"
        others = (name, *(f"{name}-{number}" for number in range(2, len(runs) + 2)))
        names.append(next(one for one in others if one not in names and one not in RESERVED))
    return tuple(names)


def nearly_alike(members: Sequence[Member]) -> tuple[str, ...]:
    """Sentences about names of different models that are nearly spelt alike; they are kept apart."""
    found = set()
    for a, b in combinations(members, 2):
        for one in set(a.classes) - set(b.classes):
            for other in set(b.classes) - set(a.classes):
                if _letters(one) != _letters(other) or one.isdigit():
                    continue
                found.add((a.name, one, b.name, other))
        for one in sorted(set(a.classes) - set(b.classes)):
            close = difflib.get_close_matches(one, sorted(set(b.classes) - set(a.classes)), n=1, cutoff=_ALIKE)
            found |= {(a.name, one, b.name, other) for other in close if _digits(one) == _digits(other)}
    return tuple(
        f"'{one}' ({a}) and '{other}' ({b}) are kept apart; if they are one class: 'rename={{{b}/{other}: {one}}}'"
        for a, one, b, other in sorted(found)
    )


def require_apart(members: Sequence[Member]) -> None:
    """Raises SettingsError for names that differ in case or in how words are joined alone."""
    seen: dict[str, tuple[str, str]] = {}
    for member in members:
        for name in member.classes:
            first, spelt = seen.setdefault(plain(name), (member.name, name))
            if spelt != name:
                raise SettingsError(
                    f"models: '{spelt}' ({first}) and '{name}' ({member.name}) differ in case or in how words are "
                    f"joined alone. Say which name holds: 'rename={{{member.name}/{name}: {spelt}}}' makes them one "
                    "class, another name keeps them apart"
                )


def _letters(name: str) -> str:
    return re.sub(r"[^\w]|_", "", name).casefold()


def _digits(name: str) -> list[str]:
    return re.findall(r"\d+", name)


def _require_one_task(names: Sequence[str], saved: Sequence[SavedModel]) -> None:
    for name, one in zip(names, saved, strict=True):
        kind = one.model.config.kind
        if kind != "classify":
            raise SettingsError(
                f"models: '{name}' is a model for {kind}; fuse takes classifiers (task.kind=classify). Boxes, masks "
                "and heat maps of several models are not fused: choose one by 'pangu-cv evaluate A DATA --against B'"
            )


def _changes(rename: Mapping[str, str], saved: Mapping[str, SavedModel]) -> dict[tuple[str, str], str]:
    changes = {}
    for key, new in rename.items():
        name, _, old = key.partition("/")
        if name not in saved:
            raise SettingsError(
                f"rename: '{key}': there is no model '{name}'; a key is MODEL/CLASS, models are {', '.join(saved)}"
            )
        model: Any = saved[name].model
        if old not in model.classes:
            close = difflib.get_close_matches(old, model.classes, n=1)
            hint = f"; nearest is '{close[0]}'" if close else ""
            raise SettingsError(
                f"rename: '{key}': '{name}' has no class '{old}'{hint}; it has {', '.join(model.classes)}"
            )
        if not new.strip():
            raise SettingsError(f"rename: '{key}': the new name is empty")
        changes[name, old] = new
    return changes


def _require_one_decoding(members: Sequence[Member]) -> None:
    first = members[0]
    for member in members[1:]:
        one, other = first.saved.provenance.decode.to_json(), member.saved.provenance.decode.to_json()
        differ = [key for key in one if one[key] != other[key]]
        if differ:
            said = "; ".join(f"{key}: {one[key]} in '{first.name}', {other[key]} in '{member.name}'" for key in differ)
            raise SettingsError(
                f"models: their images are decoded differently ({said}), so one model could not decide as both do; "
                "fit one of them again with the other's data settings"
            )
