"""Models to checkpoints and back."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pangu_cv import __version__
from pangu_cv.errors import CheckpointError, DataError, ImageError
from pangu_cv.features import content_digest, digest, read_ahead
from pangu_cv.models import checkpoint
from pangu_cv.models.checkpoint import Checkpoint
from pangu_cv.tasks import TaskConfig, TaskModel
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.class_memory import ClassMemory, ClosedFormModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.conformal import ConformalThreshold
from pangu_cv.tasks.normality import Normality
from pangu_runtime.decode import DecodeSpec


@dataclass(frozen=True)
class Provenance:
    """Where a model comes from: how its images are decoded, the recipe, the data, and whose terms apply.

    ``learnt`` are marks (see ``marks_of``) of the images learnt from, none where a memory holds their digests.
    """

    decode: DecodeSpec
    recipe_hash: str
    data_hash: str
    data_licence: str = "not stated"
    learnt: tuple[str, ...] = ()


@dataclass(frozen=True)
class SavedModel:
    """A model with its provenance.

    ``normality`` is the growing memory of an anomaly model, None for others; ``memory`` that of a head fitted in closed
    form, None where there is none.
    """

    model: TaskModel
    provenance: Provenance
    parent: dict[str, Any]
    normality: Normality | None = None
    memory: ClassMemory | None = None

    @property
    def learnt(self) -> frozenset[str]:
        """Marks of the images it is known to have learnt from; none at all where that is not known."""
        if self.normality is not None:
            return frozenset(mark_of(one) for one in self.normality.digests.values() if one)
        if self.memory is not None:
            return frozenset(mark_of(one) for one in self.memory.known)
        return frozenset(self.provenance.learnt)


def parent_of(model: TaskModel) -> dict[str, Any]:
    """Whose weights a freshly built model carries."""
    source = model.backbone.source
    if source is None:
        return {"name": model.config.backbone.name, "sha256": None, "licence": "Apache-2.0 (random weights)"}
    return {"name": source.name, "sha256": source.sha256, "licence": source.licence}


def save_model(saved: SavedModel, folder: Path) -> None:
    """Write the checkpoint folder."""
    model = saved.model
    # Adapting may have grown the network (prompts), which is then another than the task asked for.
    task = model.config.model_copy(update={"backbone": model.backbone.config})
    manifest: dict[str, Any] = {
        "task": task.model_dump(mode="json"),
        "parent": saved.parent,
        "decode": saved.provenance.decode.to_json(),
        "recipe_hash": saved.provenance.recipe_hash,
        "data_hash": saved.provenance.data_hash,
        # A memory forgets images and learns others, so it alone knows.
        "learnt": list(saved.provenance.learnt) if saved.normality is None and saved.memory is None else [],
        "licences": {"code": "Apache-2.0", "weights": saved.parent["licence"], "data": saved.provenance.data_licence},
        "pangu_cv": __version__,
    }
    if isinstance(model, AnomalyModel | ClassifyModel):
        manifest["calibration"] = asdict(model.calibration) if model.calibration else None
    components = {"backbone": model.backbone.network.state_dict()}
    if not isinstance(model, AnomalyModel):
        components["head"] = model.head.state_dict()
        manifest["classes"] = list(model.classes)
        if saved.memory is not None:
            components["memory"], manifest["memory"] = saved.memory.state()
    else:
        assert saved.normality is not None, "an anomaly model is saved with its memory"
        components["bank"], manifest["normality"] = saved.normality.state()
    checkpoint.save(folder, Checkpoint(components, manifest))


def load_model(folder: Path) -> SavedModel:
    """Read a checkpoint folder; raises CheckpointError."""
    stored = checkpoint.load(folder)
    manifest = stored.manifest
    try:
        config = TypeAdapter(TaskConfig).validate_python(manifest["task"])
        random = config.backbone.model_copy(update={"weights": "random"})
        config = config.model_copy(update={"backbone": random})
        model: TaskModel = config.build() if config.kind == "anomaly" else config.build(manifest["classes"])
        model.backbone.network.load_state_dict(stored.components["backbone"], strict=True)
        normality, memory = None, None
        if not isinstance(model, AnomalyModel):
            model.head.load_state_dict(stored.components["head"], strict=True)
            if isinstance(model, ClassifyModel) and (known := manifest.get("calibration")):
                model.install(ConformalThreshold(**known))
            if "memory" in stored.components and isinstance(model, ClosedFormModel):
                held, plain = stored.components["memory"], manifest["memory"]
                memory = ClassMemory.restore(held, plain, groups=model.groups)
        else:
            normality = _restore(model, stored)
        provenance = Provenance(
            decode=DecodeSpec.from_json(manifest["decode"]),
            recipe_hash=str(manifest["recipe_hash"]),
            data_hash=str(manifest["data_hash"]),
            data_licence=str(manifest["licences"]["data"]),
            learnt=tuple(str(one) for one in manifest.get("learnt", ())),
        )
        return SavedModel(model.eval(), provenance, dict(manifest["parent"]), normality, memory)
    except (KeyError, TypeError, ValidationError, RuntimeError, ValueError, DataError) as error:
        raise CheckpointError(f"{folder}: malformed ({type(error).__name__}: {error})") from None


def _restore(model: AnomalyModel, stored: Checkpoint) -> Normality:
    normality = Normality.restore(stored.components["bank"], stored.manifest["normality"])
    if stored.manifest["calibration"] is not None:
        normality.install(model, ConformalThreshold(**stored.manifest["calibration"]))
    return normality


def mark_of(sha256: str) -> str:
    """The beginning of a digest, as the memory of normal images keeps it: enough to know an image again."""
    return sha256[:16]


def marks_of(paths: Iterable[Path]) -> tuple[str, ...]:
    """Sorted marks of files by their content; those that cannot be read are passed over."""
    digests = read_ahead(list(paths), content_digest)
    return tuple(sorted({mark_of(one) for one in digests if not isinstance(one, ImageError)}))


def data_hash(paths: list[Path], root: Path) -> str:
    """Digest of which images were used: relative names and sizes in bytes."""
    return digest([(str(p.relative_to(root)) if p.is_relative_to(root) else p.name, p.stat().st_size) for p in paths])
