"""How a version came about: what it and the versions before it changed, and when."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.data.changes import Change
from pangu_cv.data.versions import MANIFEST, manifest_of


@dataclass(frozen=True)
class Step:
    """What one version changed, and when: UTC, ISO 8601."""

    created: str
    changes: tuple[Change, ...]


def lineage(folder: Path) -> list[Step]:
    """The steps to the version in ``folder``, the oldest first, as far as its parents lie beside it.

    Raises DataError where a manifest cannot be read.
    """
    manifest: dict[str, Any] | None = manifest_of(folder)
    steps: list[Step] = []
    while manifest is not None:
        steps.append(Step(manifest["created"], tuple(Change(**change) for change in manifest["changes"])))
        manifest = _parent(folder, manifest)
    return steps[::-1]


def _parent(folder: Path, manifest: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of the version that it was made from, None where that one is not beside it."""
    told = manifest["parent"]
    beside = Path(os.path.abspath(folder)).parent / told["name"] if told else None  # noqa: PTH100, links stay
    if beside is None or not (beside / MANIFEST).is_file():
        return None
    found = manifest_of(beside)
    return found if found["digest"] == told["digest"] else None
