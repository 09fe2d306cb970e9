"""What teaching has made of the pupil, kept until the run has written its report: hours are in it."""

from dataclasses import asdict
from pathlib import Path

import torch

from pangu_cv.distill.pupil import Pupil
from pangu_cv.distill.teaching import Lesson
from pangu_cv.models.training import History, Resume


def taught(lesson: Lesson, pupil: Pupil, folder: Path, *, seconds: float | None, key: str) -> History:
    """Teach it, or take what was kept in ``folder`` under ``key``; the pupil changes in place."""
    path = folder / "taught.ckpt"
    if path.is_file():
        stored = torch.load(path, map_location="cpu", weights_only=True)
        if stored["key"] == key:
            pupil.load_state_dict(stored["state"])
            pupil.eval()
            return History(**stored["history"])
    history = lesson.teach(pupil, seconds=seconds, resume=Resume(folder / "training.ckpt", key))
    kept = {"key": key, "state": pupil.state_dict(), "history": asdict(history)}
    torch.save(kept, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)
    return history
