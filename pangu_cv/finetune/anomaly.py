"""Learn what normal looks like, certify a threshold, measure on the test images."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.data.config import dataset_title
from pangu_cv.data.few_shot import draw_split, holdout
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError, SettingsError
from pangu_cv.evaluate import Evaluated, Loaders, TorchDecider, evaluate_anomaly
from pangu_cv.features import Progress, Skipped, content_digest, digest, read_ahead
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult, provenance_of, remarks, skipped_json
from pangu_cv.metrics import AnomalyOutcome
from pangu_cv.models import checkpoint
from pangu_cv.models.checkpoint import Checkpoint
from pangu_cv.progress import bar
from pangu_cv.report.anomaly import anomaly_report
from pangu_cv.report.page import Page
from pangu_cv.report.skipped import add_skipped
from pangu_cv.runs import Run
from pangu_cv.tasks.anomaly import NORMAL, AnomalyConfig, AnomalyModel
from pangu_cv.tasks.normality import Normality
from pangu_cv.tasks.saved import SavedModel, load_model, parent_of, save_model
from pangu_runtime.decode import DecodeSpec, decode

SAVE_EVERY = 100  # images between saves of a growing bank


@dataclass(frozen=True)
class NormalSplit:
    """Normal images to learn from, and images to measure on (normal ones and defects)."""

    normals: tuple[Sample, ...]
    test: tuple[Sample, ...]


@dataclass(frozen=True)
class Learned:
    """A calibrated model with its memory, and what could not be read."""

    model: AnomalyModel
    normality: Normality
    skipped: tuple[Skipped, ...]


def finetune_anomaly(recipe: FinetuneRecipe, task: AnomalyConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    if len(recipe.few_shot.seeds) > 1:
        raise SettingsError("few_shot.seeds: anomaly takes one seed a run; run it once per seed")
    dataset = recipe.data.read()
    split = split_of(dataset, shots=recipe.few_shot.shots, seed=recipe.few_shot.seeds[0])
    start, parent = _start(recipe, task)
    run = Run.start(recipe.output, name="anomaly", recipe=recipe)
    spec = recipe.data.decode_spec
    normals = [n for n in named(split.normals, start.normality, root=dataset.root) if n.name not in recipe.forget]
    for name in recipe.forget:
        start.normality.forget(name)
    learned = learn(start.model, start.normality, normals, decode_spec=spec, partial=run.folder / "partial")
    provenance = provenance_of(recipe, split.normals, dataset.root)
    save_model(SavedModel(learned.model, provenance, parent, learned.normality), run.model)
    evaluated = _measure(learned.model, split.test, spec) if split.test else None
    metrics = _metrics(learned, evaluated) | remarks(learned.model.backbone.source, recipe.data, dataset.notes)
    run.write_metrics(metrics)
    _report(run, recipe, learned, evaluated, split)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def split_of(dataset: Dataset, *, shots: int | None, seed: int) -> NormalSplit:
    """Normals to learn from: ``good`` of the training split, else four fifths of all ``good`` images."""
    good = tuple(s for s in dataset if s.label == NORMAL)
    train = tuple(s for s in good if s.split == "train")
    test = tuple(s for s in dataset if s.split in ("test", "val") and s.label is not None)
    if not good:
        raise DataError(
            f"{dataset.root}: no normal images; anomaly learns from a folder named '{NORMAL}' "
            f"(found: {', '.join(dataset.classes) or 'no classes'})"
        )
    if not train:
        parts = holdout(good, fraction=0.2, seed=seed)
        train, test = parts.kept, parts.held_out + tuple(s for s in dataset if s.label not in (NORMAL, None))
    return NormalSplit(draw_split(train, shots=shots, seed=seed).support, test)


@dataclass(frozen=True)
class _Start:
    model: AnomalyModel
    normality: Normality


def _start(recipe: FinetuneRecipe, task: AnomalyConfig) -> tuple[_Start, dict[str, Any]]:
    if recipe.grow_from is None:
        if recipe.forget:
            raise SettingsError("forget: needs grow_from, the checkpoint to take images out of")
        model = task.build()
        return _Start(model, Normality.empty(model)), parent_of(model)
    folder = recipe.grow_from
    saved = load_model(folder / "model" if (folder / "model" / "model.json").is_file() else folder)
    if not isinstance(saved.model, AnomalyModel) or saved.normality is None:
        raise SettingsError(f"grow_from: '{recipe.grow_from}' is not an anomaly model")
    asked = task.model_dump(exclude={"backbone": {"weights"}, "false_alarm_rate": True})
    if asked != saved.model.config.model_dump(exclude={"backbone": {"weights"}, "false_alarm_rate": True}):
        raise SettingsError("grow_from: the recipe's task differs from the checkpoint's; only false_alarm_rate may")
    saved.model.config = saved.model.config.model_copy(update={"false_alarm_rate": task.false_alarm_rate})
    return _Start(saved.model, saved.normality), saved.parent


@dataclass(frozen=True)
class Named:
    """A normal image under the name the bank knows it by, and the digest of its file."""

    name: str
    sample: Sample
    digest: str


def named(normals: Sequence[Sample], normality: Normality, *, root: Path) -> list[Named]:
    """Names relative to the dataset; another picture under a name the bank knows gets its digest appended."""
    images = []
    for sample in normals:
        path = sample.path
        name = path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)
        try:
            content = content_digest(path)[:16]
        except ImageError:
            content = "unreadable"
        known = normality.digests.get(name, content)
        images.append(Named(name if known == content else f"{name}@{content}", sample, content))
    return images


def learn(
    model: AnomalyModel,
    normality: Normality,
    images: Sequence[Named],
    *,
    decode_spec: DecodeSpec,
    partial: Path | None = None,
) -> Learned:
    """Two passes over the images, one at a time: the bank, then each image's score against the others.

    The bank is saved to ``partial`` as it grows, so that a killed run in the same folder goes on where it was.
    """
    skipped: list[Skipped] = []
    wanted = [(image.name, image.digest) for image in images]
    key = digest(model.fingerprint, decode_spec.to_json(), normality.bank.images, normality.bank.capacity, wanted)
    normality = _resumed(partial, key) or normality
    known = set(normality.bank.images)
    with bar("learning normal images") as progress:
        todo = [image for image in images if image.name not in known]
        for done, (image, patches_PD) in enumerate(_patches(model, todo, decode_spec, skipped, progress), start=1):
            normality.learn(image.name, patches_PD, digest=image.digest)
            if partial is not None and done % SAVE_EVERY == 0:
                tensors, plain = normality.state()
                checkpoint.save(partial, Checkpoint({"bank": tensors}, {"normality": plain, "key": key}))
    with bar("calibrating on normal images") as progress:
        for image, patches_PD in _patches(model, images, decode_spec, [], progress):
            normality.witness(image.name, patches_PD)
    normality.calibrate(model)
    if partial is not None:
        shutil.rmtree(partial, ignore_errors=True)
    return Learned(model, normality, tuple(skipped))


def _resumed(partial: Path | None, key: str) -> Normality | None:
    """The memory a killed run left, where it was learning the same images the same way; else it is ignored."""
    if partial is None or not (partial / "model.json").is_file():
        return None
    stored = checkpoint.load(partial)
    if stored.manifest.get("key") != key:
        return None
    return Normality.restore(stored.components["bank"], stored.manifest["normality"])


def _patches(
    model: AnomalyModel, images: Sequence[Named], spec: DecodeSpec, skipped: list[Skipped], progress: Progress
) -> Iterator[tuple[Named, Tensor]]:
    def read(path: Path) -> NDArray[np.uint8]:
        return decode(path, spec=spec)

    with torch.inference_mode():
        decoded = read_ahead([image.sample.path for image in images], read)
        for done, (image, pixels) in enumerate(zip(images, decoded, strict=True), start=1):
            if isinstance(pixels, ImageError):
                skipped.append(Skipped(image.sample.path, pixels.reason, str(pixels)))
            else:
                patches = model.patches(model.prepare(torch.from_numpy(pixels)[None]))
                yield image, patches[0].flatten(0, 1)
            progress(done, len(images))


def _measure(model: AnomalyModel, test: Sequence[Sample], spec: DecodeSpec) -> Evaluated[AnomalyOutcome]:
    with bar("test images") as progress:
        return evaluate_anomaly(
            TorchDecider(model),
            test,
            asked_rate=model.config.false_alarm_rate,
            decode_spec=spec,
            progress=progress,
        )


def _metrics(learned: Learned, evaluated: Evaluated[AnomalyOutcome] | None) -> dict[str, Any]:
    calibration, bank = learned.model.calibration, learned.normality.bank
    assert calibration is not None
    skipped = (*learned.skipped, *(evaluated.skipped if evaluated else ()))
    return {
        "task": "anomaly",
        "threshold": asdict(calibration) | {"statement": calibration.explain()},
        "bank": {
            "vectors": bank.size,
            "capacity": bank.capacity,
            "megabytes": round(bank.nbytes / 1e6, 3),
            "images": sum(name != "" for name in bank.images),
            "radius": bank.radius,
        },
        "test": evaluated.outcome.summary() if evaluated else None,
        "skipped": skipped_json(skipped),
    }


def _report(
    run: Run, recipe: FinetuneRecipe, learned: Learned, evaluated: Evaluated[AnomalyOutcome] | None, split: NormalSplit
) -> None:
    calibration = learned.model.calibration
    assert calibration is not None
    page = Page(f"Anomalies of {dataset_title(recipe.data.path)}", f"learned from {len(split.normals)} normal images")
    page.note(f"Threshold {calibration.value:.3f}: {calibration.explain()}.")
    if evaluated is not None:
        loaders = Loaders(TorchDecider(learned.model), recipe.data.decode_spec, split.test)
        anomaly_report(page, evaluated.outcome, load_image=loaders.image, load_map=loaders.map, load_mask=loaders.mask)
    add_skipped(page, (*learned.skipped, *(evaluated.skipped if evaluated else ())))
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)
