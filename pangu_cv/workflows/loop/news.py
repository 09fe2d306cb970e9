"""Whether labels say anything that a model does not know: one that was lost since it learnt teaches it nothing."""

from collections.abc import Mapping
from pathlib import Path

from pangu_cv.errors import ImageError
from pangu_cv.features import content_digest
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.tasks.class_memory import ClassMemory
from pangu_cv.tasks.saved import load_model


def can_teach(labels: Mapping[Path, str], model: Path) -> bool:
    """Whether an update of the model would find an image that is new to it, or called otherwise than it learnt."""
    memory = load_model(folder_of(model)).memory
    if memory is None:
        return True  # the update says what such a model lacks
    return any(_is_news(memory, path, label) for path, label in labels.items())


def _is_news(memory: ClassMemory, path: Path, label: str) -> bool:
    try:
        learnt = memory.known.get(content_digest(path))
    except ImageError:  # gone since
        return False
    return learnt is None or learnt.classes != (label,)
