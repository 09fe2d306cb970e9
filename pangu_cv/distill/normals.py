"""The normal images that a student of anomaly detection remembers: by their label, else by what the teacher says."""

from dataclasses import replace
from pathlib import Path

from pangu_cv.distill.images import Seen
from pangu_cv.distill.views import Views
from pangu_cv.errors import DataError, ImageError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.features import content_digest, read_ahead
from pangu_cv.progress import bar
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_runtime.decode import decode


def with_normals(teacher: TaskModel, seen: Seen, *, learnt: int) -> Seen:
    """The images with those that are normal, before anything is taught.

    Raises DataError where fewer than two that do not belong together are among the first ``learnt``, of which the
    student's memory is made when it is compared with its teacher.
    """
    if not isinstance(teacher, AnomalyModel):
        return seen
    normal = seen.normal or _as_the_teacher_says(teacher, seen.views)
    known = [path for path in seen.views.paths[:learnt] if path in normal]
    apart = {seen.groups.get(path) or content_digest(path) for path in known}
    if len(apart) < 2:
        by = "labelled good" if seen.normal else "normal by what the teacher says"
        raise DataError(
            f"data: {len(known)} of the {learnt} images that are learnt from are {by}, of {len(apart)} groups (copies "
            "are one); the student's threshold needs at least 2 that do not belong together, better 20. Add normal "
            "images"
        )
    return replace(seen, normal=normal)


def _as_the_teacher_says(teacher: AnomalyModel, views: Views) -> frozenset[Path]:
    decider, found = TorchDecider(teacher), set()
    with bar("looking for normal images") as progress:
        images = read_ahead(views.paths, lambda path: decode(path, spec=views.spec))
        for done, (path, image) in enumerate(zip(views.paths, images, strict=True), start=1):
            if not isinstance(image, ImageError) and not bool(decider.run(image[None])["is_anomalous"][0]):
                found.add(path)
            progress(done, len(views.paths))
    return frozenset(found)
