"""New classes and hard cases for a head in closed form: the sums grow, the head is solved again, the backbone stays.

Shapes: N images, V views, D features, C classes.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from pangu_cv.data.config import DataConfig
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import classification_outcome, test_samples, truth_of
from pangu_cv.features import Extraction, Skipped, digest
from pangu_cv.iterate.gate import Verdict, judge, of_classes, tags_of
from pangu_cv.iterate.hard_cases import WeightTrial, choose_weight
from pangu_cv.iterate.lessons import (
    Fresh,
    Labelled,
    features_of,
    fresh_lessons,
    labelled,
    require_apart,
    to_learn,
)
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.records import Records, data_facts, frozen_data, named
from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.metrics.multilabel import MultilabelOutcome
from pangu_cv.tasks.class_memory import ClassMemory, ClosedFormModel
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import Provenance, SavedModel
from pangu_runtime.decode import DecodeSpec

ClassOutcome = ClassificationOutcome | MultilabelOutcome


@dataclass(frozen=True, eq=False)
class Judged:
    """The next model beside the old one on the frozen set.

    ``old`` and ``compared`` are the outcomes that the verdict is of, ``new`` is of all the frozen set; ``facts`` are
    for the ledger, ``id`` is that of its line.
    """

    saved: SavedModel
    verdict: Verdict
    old: Any
    new: Any
    compared: Any
    facts: dict[str, Any]
    id: str
    notes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    gate: DataConfig
    trials: tuple[WeightTrial, ...] = ()


def update_classes(recipe: UpdateRecipe, saved: SavedModel, records: Records) -> Judged:
    """Learn, and judge the result on the frozen set; nothing is written."""
    model, memory = saved.model, saved.memory
    assert isinstance(model, ClosedFormModel)
    _require_possible(recipe, memory)
    assert memory is not None
    memory.require_fits(model)
    spec, task = saved.provenance.decode, model.config.kind
    renamed = memory.rename(recipe.rename)
    gate = frozen_data(recipe, records)
    frozen_set = gate.read()
    frozen = labelled(gate, test_samples(frozen_set), frozen_set, task=task)
    records.require_same_gate(frozen, recipe)
    names = records.frozen_names(frozen, memory.classes, recipe.rename)
    measured = _called(frozen, names)
    require_apart(frozen, memory.known, what="those the model has learnt from")
    new, data = _read(recipe, recipe.data, model, renamed, spec, what="the new images")
    hard, cases = _read(recipe, recipe.hard, model, renamed, spec, what="the hard cases")
    _require_something(recipe, new, hard)
    id = _id(recipe, records, data, cases, frozen.fingerprint)
    entry_id = records.id_of(id, recipe)
    for images in (data, cases):
        if images is not None:
            require_apart(frozen, dict.fromkeys(images.digests.values()), what="those to learn from")
    grown = renamed.learn(model, new.new if new else [])
    if hard is not None:
        _require_known(hard, grown)
    for part in (new, hard):
        for lesson in part.corrected if part else ():
            grown = grown.relabel(lesson)
    grown, weight, trials = _with_hard_cases(recipe, model, grown, hard)
    after = copy.deepcopy(model)
    grown.teach(after)
    old, latest, compared, verdict = _gate(recipe, model, after, measured, spec, old_names=renamed.classes)
    parts = [one for one in (new, hard) if one]
    facts = _facts(recipe, memory, grown, new, hard, data, cases) | {
        "gate": {**(data_facts(gate, frozen) or {}), "names": names},
        "hard_weight": weight,
        "temperature": [_temperature(model), _temperature(after)],
    }
    next_saved = replace(saved, model=after, memory=grown, provenance=_provenance(saved, recipe, id))
    notes = tuple(note for part in parts for note in part.notes) + _not_held(measured, grown.classes, renamed.classes)
    skipped = tuple(one for part in parts for one in part.skipped)
    return Judged(next_saved, verdict, old, latest, compared, facts, entry_id, notes, skipped, gate, trials)


def _require_possible(recipe: UpdateRecipe, memory: ClassMemory | None) -> None:
    if recipe.forget or recipe.missed or recipe.masks:
        raise SettingsError("--forget, --missed and --masks are for anomaly detectors; a classifier takes --hard")
    given = {new for old, new in recipe.rename.items() if new != old}
    if both := sorted(given & set(recipe.rename)):
        raise SettingsError(
            f"--rename: one class gives up the name '{both[0]}' and another takes it, so labels of the frozen set may "
            "mean either; rename in two updates, by way of a name that is new"
        )
    if memory is None:
        raise SettingsError(
            f"{recipe.model}: this model keeps no memory of what it has learnt from, so nothing can be added to it. "
            "Models of 'pangu-cv finetune' keep one where their head ends in closed form (adapt.kind=frozen, or any "
            "way but linear with as many images of each class) and task.memory_per_class is not null; it learnt from "
            "images without labels (unlabelled), or was made by an earlier version, by 'distill', or otherwise. "
            "Finetune it once more on all images, with their labels alone, to get one"
        )


def _read(
    recipe: UpdateRecipe,
    data: DataConfig | None,
    model: ClosedFormModel,
    memory: ClassMemory,
    spec: DecodeSpec,
    *,
    what: str,
) -> tuple[Fresh | None, Labelled | None]:
    if data is None:
        return None, None
    dataset = data.read()
    images = labelled(data, to_learn(dataset), dataset, task=model.config.kind)
    fresh = fresh_lessons(model, memory, images, spec, cache=recipe.cache, relabel=recipe.relabel, what=what)
    return replace(fresh, notes=(*dataset.notes, *fresh.notes)), images


def _require_something(recipe: UpdateRecipe, new: Fresh | None, hard: Fresh | None) -> None:
    if new and hard and {one.digest for one in new.new} & {one.digest for one in hard.new}:
        raise DataError("the same images are in --data and in --hard; name each once")
    if recipe.rename or any(part and (part.new or part.corrected) for part in (new, hard)):
        return
    skipped = [one for part in (new, hard) if part for one in part.skipped]
    why = f"; {len(skipped)} cannot be read: {named([one.path for one in skipped])}" if skipped else ""
    already = any(part and part.notes for part in (new, hard))
    reason = "all images have been learnt already" if already else "name --data, --hard or --rename"
    raise DataError(f"there is nothing new to learn: {reason}{why}")


def _require_known(hard: Fresh, memory: ClassMemory) -> None:
    shown = {name for one in (*hard.new, *hard.corrected) for name in one.classes}
    strange = sorted(shown - set(memory.classes))
    if strange:
        raise DataError(
            f"--hard: hard cases are of classes the model knows, and it does not know {named(strange)}; "
            "bring images of new classes by --data"
        )


def _with_hard_cases(
    recipe: UpdateRecipe, model: ClosedFormModel, memory: ClassMemory, hard: Fresh | None
) -> tuple[ClassMemory, float | None, tuple[WeightTrial, ...]]:
    """The memory with the hard cases, the weight of each, and what was tried to find it."""
    if hard is None or not hard.new:
        return memory, None, ()
    lessons = [replace(one, is_hard=True) for one in hard.new]
    if recipe.hard_weight != "auto":
        weight = float(recipe.hard_weight)
        return memory.learn(model, [replace(one, weight=weight) for one in lessons]), weight, ()
    trials = choose_weight(model, memory, lessons)
    weight = next(one.weight for one in trials if one.is_chosen)
    return memory.learn(model, [replace(one, weight=weight) for one in lessons]), weight, trials


def _id(recipe: UpdateRecipe, records: Records, data: Labelled | None, hard: Labelled | None, frozen: str) -> str:
    """The same for the same model, images and wishes, whatever they are called and wherever they lie."""
    wishes = recipe.model_dump(mode="json", include={"hard_weight", "max_drop", "rename", "relabel", "new_gate"})
    return digest(records.model_in, [one.fingerprint if one else None for one in (data, hard)], wishes, frozen)


def _gate(
    recipe: UpdateRecipe,
    old: ClosedFormModel,
    new: ClosedFormModel,
    frozen: Labelled,
    spec: DecodeSpec,
    *,
    old_names: tuple[str, ...],
) -> tuple[ClassOutcome, ClassOutcome, ClassOutcome, Verdict]:
    """The old model on its classes, the new one on all and on the old one's; the frozen set is embedded once."""
    what = "the frozen set"
    seen = features_of(old, list(frozen.labels), old.config.decision_views, spec, cache=recipe.cache, what=what)
    lacking = [name for name in old_names if name not in frozen.counts]
    if len(lacking) == len(old_names):
        raise DataError("--gate: shows none of the classes that the model knows; nothing can be compared")
    latest = _outcome(new, new.classes, frozen, seen)
    before = _outcome(old, old_names, frozen, seen)
    if isinstance(latest, MultilabelOutcome):
        assert isinstance(before, MultilabelOutcome)
        tags = tags_of(latest, old_names)
        return before, latest, tags, judge(before, tags, limit=recipe.max_drop)
    assert isinstance(before, ClassificationOutcome)
    present = [name for name in old_names if name not in lacking]
    compared = of_classes(latest, present)
    return before, latest, compared, judge(before, compared, limit=recipe.max_drop)


def _called(frozen: Labelled, names: Mapping[str, str]) -> Labelled:
    """The frozen set in the model's own names."""
    labels = {path: tuple(sorted({names.get(one, one) for one in told})) for path, told in frozen.labels.items()}
    return replace(frozen, labels=labels)


def _not_held(frozen: Labelled, known: Sequence[str], before: Sequence[str]) -> tuple[str, ...]:
    """What the frozen set cannot say, and what of it says nothing yet."""
    strange = sorted(set(frozen.counts) - set(known))
    lacking = [name for name in before if name not in frozen.counts]
    told = []
    if strange:
        told.append(f"the frozen set shows {named(strange)}, which the model does not know; they are not measured")
    if lacking:
        told.append(f"the frozen set shows no {named(lacking)}: nothing guards what the model knows of them")
    return tuple(told)


@torch.inference_mode()
def _outcome(model: ClosedFormModel, names: Sequence[str], frozen: Labelled, seen: Extraction) -> ClassOutcome:
    paths = [path for path in frozen.labels if path in seen.index]
    if isinstance(model, ClassifyModel):
        paths = [path for path in paths if frozen.labels[path][0] in names]
    rows_NVD = torch.from_numpy(seen.features_NVD[[seen.index[path] for path in paths]])
    scores, answers, _ = model.decide_from_features(rows_NVD, model.threshold)
    threshold = float(model.threshold)
    if isinstance(model, ClassifyModel):
        samples = [Sample(path, label=frozen.labels[path][0], group=frozen.groups.get(path)) for path in paths]
        return classification_outcome(
            samples, scores.numpy(), answers.numpy(), classes=names, threshold=threshold, unknown_rate=None
        )
    truth = truth_of([frozenset(frozen.labels[path]) for path in paths], names)  # other classes are not looked at
    told, groups = tuple(str(path) for path in paths), tuple(frozen.groups.get(path) for path in paths)
    return MultilabelOutcome(tuple(names), told, scores.numpy(), answers.numpy(), truth, threshold, groups)


def _facts(
    recipe: UpdateRecipe,
    before: ClassMemory,
    after: ClassMemory,
    new: Fresh | None,
    hard: Fresh | None,
    data: Labelled | None,
    cases: Labelled | None,
) -> dict[str, Any]:
    return {
        "task": "classes",
        "learnt": new.counts if new else {},
        "hard_learnt": hard.counts if hard else {},
        "corrected": sum(len(part.corrected) for part in (new, hard) if part),
        "renamed": dict(recipe.rename),
        "counts_before": before.counts,
        "counts_after": after.counts,
        "data": data_facts(recipe.data, data),
        "hard": data_facts(recipe.hard, cases),
        "memory_mb": round(after.nbytes / 1e6, 2),
        "statistics": digest([t.tolist() for t in after.statistics]),
    }


def _temperature(model: ClosedFormModel) -> float | None:
    return float(model.head.temperature) if isinstance(model, ClassifyModel) else None


def _provenance(saved: SavedModel, recipe: UpdateRecipe, id: str) -> Provenance:
    return replace(
        saved.provenance,
        recipe_hash=digest(recipe.model_dump(mode="json")),
        data_hash=digest(saved.provenance.data_hash, id),
    )
