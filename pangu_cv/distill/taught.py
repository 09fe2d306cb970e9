"""What teaching has made of the pupil, kept until the run has written its report: hours are in it."""

from dataclasses import asdict
from pathlib import Path

from pangu_cv.distill.pupil import Pupil
from pangu_cv.distill.teaching import Lesson
from pangu_cv.models.kept import Kept
from pangu_cv.models.training import History


def taught(lesson: Lesson, pupil: Pupil, folder: Path, *, seconds: float | None, key: str) -> History:
    """Teach it, or take what was kept in ``folder`` under ``key``; the pupil changes in place."""
    kept = Kept(folder / "taught.ckpt", key)
    if stored := kept.read():
        pupil.load_state_dict(stored["state"])
        pupil.eval()
        return History(**stored["history"])
    history = lesson.teach(pupil, seconds=seconds, resume=Kept(folder / "training.ckpt", key))
    kept.write({"state": pupil.state_dict(), "history": asdict(history)})
    return history
