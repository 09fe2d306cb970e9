"""Where a run keeps its model; free of torch, so that light verbs may ask."""

from pathlib import Path


def folder_of(path: Path) -> Path:
    """The checkpoint in a run folder; a path that is none of a run is given back."""
    inner = path / "model"
    return inner if (inner / "model.json").is_file() else path
