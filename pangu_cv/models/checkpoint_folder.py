"""Where a run keeps its model; free of torch, so that light verbs may ask."""

from pathlib import Path


def folder_of(path: Path) -> Path:
    """The checkpoint in a run folder; a path that is none of a run is given back."""
    inner = path / "model"
    return inner if (inner / "model.json").is_file() else path


def last_of(path: Path) -> Path:
    """The last state of a run that keeps it beside the best one, in ``last``; else as ``folder_of``."""
    inner = path / "last"
    return inner if (inner / "model.json").is_file() else folder_of(path)
