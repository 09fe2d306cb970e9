"""Learn what normal looks like, certify a threshold, measure on the test images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pangu_cv.data.config import dataset_title
from pangu_cv.data.few_shot import draw_split, holdout
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import Evaluated, Loaders, TorchDecider, evaluate_anomaly
from pangu_cv.features import digest
from pangu_cv.finetune.draws import apart, to_learn_from, torn_note
from pangu_cv.finetune.recipe import FinetuneRecipe, FinetuneResult, provenance_of, skipped_json
from pangu_cv.finetune.remarks import remarks
from pangu_cv.metrics import AnomalyOutcome
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.progress import bar
from pangu_cv.report.anomaly import anomaly_report
from pangu_cv.report.page import Page
from pangu_cv.report.skipped import add_skipped
from pangu_cv.runs import Run
from pangu_cv.tasks.anomaly import NORMAL, AnomalyConfig, AnomalyModel
from pangu_cv.tasks.normal_images import Learned, learn, named
from pangu_cv.tasks.normality import Normality
from pangu_cv.tasks.saved import Provenance, SavedModel, load_model, parent_of, save_model
from pangu_runtime.decode import DecodeSpec


@dataclass(frozen=True)
class NormalSplit:
    """Normal images to learn from, and images to measure on (normal ones and defects)."""

    normals: tuple[Sample, ...]
    test: tuple[Sample, ...]
    torn: tuple[Sample, ...] = ()
    """Test images left out, because normal ones that were learnt are of their group."""


def finetune_anomaly(recipe: FinetuneRecipe, task: AnomalyConfig) -> FinetuneResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    if len(recipe.few_shot.seeds) > 1:
        raise SettingsError("few_shot.seeds: anomaly takes one seed a run; run it once per seed")
    dataset = recipe.data.read()
    split = split_of(dataset, shots=recipe.few_shot.shots, seed=recipe.few_shot.seeds[0])
    start = _start(recipe, task)
    run = Run.start(recipe.output, name="anomaly", recipe=recipe)
    spec = recipe.data.decode_spec
    normals = [n for n in named(split.normals, start.normality, root=dataset.root) if n.name not in recipe.forget]
    for name in recipe.forget:
        start.normality.forget(name)
    learned = learn(start.model, start.normality, normals, decode_spec=spec, partial=run.folder / "partial")
    provenance = _grown(provenance_of(recipe, split.normals, dataset.root), start.provenance)
    save_model(SavedModel(learned.model, provenance, start.parent, learned.normality), run.model)
    evaluated = _measure(learned.model, split.test, spec) if split.test else None
    torn = torn_note([(split.torn, split.test)], lambda s: [str(s.label)])
    notes = (*dataset.notes, *torn, *(evaluated.notes if evaluated else ()))
    metrics = _metrics(learned, evaluated) | remarks(learned.model.backbone.source, recipe, notes)
    run.write_metrics(metrics)
    _report(run, recipe, learned, evaluated, split)
    return FinetuneResult(run.folder, run.model, run.report, metrics)


def split_of(dataset: Dataset, *, shots: int | None, seed: int) -> NormalSplit:
    """Normals to learn from: ``good`` of the training split, else of no split where others are measured on, else four
    fifths of all ``good`` images. Test images of a group that was learnt are left out.
    """
    good = tuple(s for s in dataset if s.label == NORMAL)
    test = tuple(s for s in dataset if s.split in ("test", "val") and s.label is not None)
    normals = to_learn_from(good, but=test)
    if not good:
        raise DataError(
            f"{dataset.root}: no normal images; anomaly learns from a folder named '{NORMAL}' "
            f"(found: {', '.join(dataset.classes) or 'no classes'})"
        )
    is_told = any(s.split == "train" for s in normals) or any(s.label == NORMAL for s in test)
    if not normals or not is_told:
        parts = holdout(good, fraction=0.2, seed=seed)
        normals, test = parts.kept, parts.held_out + tuple(s for s in dataset if s.label not in (NORMAL, None))
    support = draw_split(normals, shots=shots, seed=seed).support
    measured = apart(support, test) if test else ()
    kept = frozenset(measured)
    return NormalSplit(support, measured, torn=tuple(s for s in test if s not in kept))


@dataclass(frozen=True)
class _Start:
    model: AnomalyModel
    normality: Normality
    parent: dict[str, Any]
    provenance: Provenance | None = None


def _start(recipe: FinetuneRecipe, task: AnomalyConfig) -> _Start:
    if recipe.grow_from is None:
        if recipe.forget:
            raise SettingsError("forget: needs grow_from, the checkpoint to take images out of")
        model = task.build()
        return _Start(model, Normality.empty(model), parent_of(model))
    saved = load_model(folder_of(recipe.grow_from))
    if not isinstance(saved.model, AnomalyModel) or saved.normality is None:
        raise SettingsError(f"grow_from: '{recipe.grow_from}' is not an anomaly model")
    asked = task.model_dump(exclude={"backbone": {"weights"}, "false_alarm_rate": True})
    if asked != saved.model.config.model_dump(exclude={"backbone": {"weights"}, "false_alarm_rate": True}):
        raise SettingsError("grow_from: the recipe's task differs from the checkpoint's; only false_alarm_rate may")
    before, now = saved.provenance.decode.to_json(), recipe.data.decode_spec.to_json()
    if differ := [f"{key} {before[key]}, now {now[key]}" for key in before if before[key] != now[key]]:
        raise SettingsError(
            f"grow_from: the checkpoint's images were decoded otherwise ({'; '.join(differ)}), and one bank cannot "
            "hold both; give data the settings of its recipe.yaml"
        )
    saved.model.config = saved.model.config.model_copy(update={"false_alarm_rate": task.false_alarm_rate})
    return _Start(saved.model, saved.normality, saved.parent, saved.provenance)


def _grown(own: Provenance, before: Provenance | None) -> Provenance:
    """Of the images before and those of now."""
    if before is None:
        return own
    licences = "; ".join(dict.fromkeys([before.data_licence, own.data_licence]))
    return replace(own, data_hash=digest(before.data_hash, own.data_hash), data_licence=licences)


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
        for note in evaluated.notes:
            page.note(note)
        loaders = Loaders(TorchDecider(learned.model), recipe.data.decode_spec, split.test)
        anomaly_report(page, evaluated.outcome, load_image=loaders.image, load_map=loaders.map, load_mask=loaders.mask)
    add_skipped(page, (*learned.skipped, *(evaluated.skipped if evaluated else ())))
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)
