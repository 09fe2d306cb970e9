"""An anomaly detector learns on: normal images come and go, and a missed defect raises the score of its like.

Shapes: P patches, D features, H×W pixels, h×w the patch grid.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

import torch
from torch import Tensor, nn

from pangu_cv.data.masks import read_mask
from pangu_cv.data.readers import recognise
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError, SettingsError
from pangu_cv.evaluate import TorchDecider, evaluate_anomaly, test_samples
from pangu_cv.features import Skipped, content_digest, digest
from pangu_cv.iterate.gate import judge
from pangu_cv.iterate.lessons import Labelled, labelled, require_apart, to_learn
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.records import Records, data_facts, frozen_data, named
from pangu_cv.iterate.update_classes import Judged
from pangu_cv.metrics import AnomalyOutcome
from pangu_cv.progress import bar
from pangu_cv.tasks import normal_images
from pangu_cv.tasks.anomaly import NORMAL, AnomalyModel
from pangu_cv.tasks.known_defects import BOOSTS, KnownDefects, defect_patches, raises_normals
from pangu_cv.tasks.normality import Normality
from pangu_cv.tasks.saved import SavedModel
from pangu_runtime.decode import DecodeSpec, decode
from pangu_runtime.images import list_images

_SUFFIXES = ("", "_mask", "_gt")


@dataclass(frozen=True)
class Missed:
    """A defect that passed as normal: its image, its mask where there is one, the digest of its file."""

    path: Path
    mask: Path | None
    digest: str

    @property
    def fingerprint(self) -> str:
        """Digest of what it shows, mask and all."""
        return self.digest if self.mask is None else f"{self.digest} {content_digest(self.mask)}"


def update_anomaly(recipe: UpdateRecipe, saved: SavedModel, records: Records) -> Judged:
    """Learn, and judge the result on the frozen set; nothing is written but what a killed run goes on from."""
    model, normality = saved.model, saved.normality
    assert isinstance(model, AnomalyModel)
    assert normality is not None
    _require_possible(recipe)
    spec = saved.provenance.decode
    gate = frozen_data(recipe, records)
    frozen_set = gate.read()
    measured = tuple(s for s in test_samples(frozen_set) if s.label is not None)
    frozen = labelled(gate, measured, frozen_set, task="anomaly")
    records.require_same_gate(frozen, recipe)
    normals, root = _normals(recipe)
    missed = _missed(recipe)
    skipped: list[Skipped] = []
    taken = {image.digest: image.path for image in missed} | (normals.of_digest if normals else {})
    require_apart(frozen, taken, what="those to learn from")
    after, grown = copy.deepcopy(model), copy.deepcopy(normality)
    known = {one[:16] for one in grown.digests.values()}
    require_apart(_short(frozen), dict.fromkeys(known), what="the normal images learnt before")
    wishes = [recipe.forget, recipe.masks is not None, recipe.max_drop, recipe.new_gate]
    images = [normals.labelled.fingerprint if normals else None, sorted(one.fingerprint for one in missed)]
    id = digest(records.model_in, images, wishes, frozen.fingerprint)
    entry_id = records.id_of(id, recipe)
    for name in recipe.forget:
        grown.forget(name)
    notes: list[str] = []
    fresh: list[normal_images.Named] = []
    if normals:
        named_images = normal_images.named(normals.samples, grown, root=root)
        fresh = [one for one in named_images if one.digest not in known]
        if len(fresh) < len(named_images):
            notes.append(f"{len(named_images) - len(fresh)} of the normal images are in the bank already")
    if not (fresh or recipe.forget or missed):
        raise DataError("there is nothing new to learn: all normal images are in the bank already")
    partial = Path(recipe.output) / "partial"
    learned = normal_images.learn(after, grown, fresh, decode_spec=spec, partial=partial)
    skipped += learned.skipped
    grown = learned.normality
    flagged = None
    if missed:
        flagged = _make_known(after, grown, missed, spec, skipped, notes)
    old = _measure(model, measured, spec, "before")
    new = _measure(after, measured, spec, "after")
    verdict = judge(old, new, limit=recipe.max_drop)
    facts = {
        "task": "anomaly",
        "learnt": {NORMAL: len(fresh) - len(learned.skipped)} if fresh else {},
        "forgotten": list(recipe.forget),
        "missed": {"images": len(missed), "flagged_now": flagged} if missed else None,
        "data": data_facts(recipe.data, normals.labelled if normals else None),
        "gate": data_facts(gate, frozen),
        "threshold": [float(model.threshold), float(after.threshold)],
        "defect_patches": len(grown.defects.owners) if grown.defects else 0,
        "boost": grown.defects.boost if grown.defects else None,
        "memory_mb": round(grown.bank.nbytes / 1e6, 2),
    }
    provenance = replace(saved.provenance, data_hash=digest(saved.provenance.data_hash, id))
    next_saved = replace(saved, model=after, normality=grown, provenance=provenance)
    return Judged(next_saved, verdict, old, new, new, facts, entry_id, tuple(notes), tuple(skipped), gate)


def _require_possible(recipe: UpdateRecipe) -> None:
    wrong = [name for name in ("hard", "rename", "relabel") if getattr(recipe, name)]
    if wrong:
        raise SettingsError(
            f"--{wrong[0]} is for classifiers; an anomaly detector takes normal images (--data), images to take out "
            "(--forget) and missed defects (--missed)"
        )
    if recipe.masks and not recipe.missed:
        raise SettingsError("--masks are of missed defects: name these by --missed")
    if not (recipe.data or recipe.forget or recipe.missed):
        raise SettingsError("there is nothing to learn: name --data, --forget or --missed")


@dataclass(frozen=True)
class _Normals:
    samples: tuple[Sample, ...]
    labelled: Labelled

    @property
    def of_digest(self) -> dict[str, Path]:
        return {key: path for path, key in self.labelled.digests.items()}


def _normals(recipe: UpdateRecipe) -> tuple[_Normals | None, Path]:
    if recipe.data is None:
        return None, Path()
    dataset = recipe.data.read()
    samples = tuple(s for s in to_learn(dataset) if s.label == NORMAL)
    if not samples:
        raise DataError(
            f"{dataset.root}: no normal images to learn; they are those of a folder named '{NORMAL}' (found: "
            f"{', '.join(dataset.classes) or 'no classes'}). Missed defects are named by --missed"
        )
    return _Normals(samples, labelled(recipe.data, samples, dataset, task="anomaly")), dataset.root


def _missed(recipe: UpdateRecipe) -> list[Missed]:
    """Images of a dataset that are not normal, or all of a folder; raises DataError for what cannot be read."""
    if recipe.missed is None:
        return []
    folder = recipe.missed.path
    pairs: list[tuple[Path, Path | None]]
    if folder.exists() and recognise(folder) is not None:
        # of one whose annotation says that nothing is there, nothing was missed
        pairs = [(s.path, s.mask) for s in recipe.missed.read() if s.label != NORMAL and s.boxes != ()]
    else:
        pairs = [(path, None) for path in list_images(folder)]
    if not pairs:
        raise DataError(f"{folder}: no image of a defect")
    if recipe.masks is not None:
        pairs = [(path, _mask_of(path, Path(recipe.masks))) for path, _ in pairs]
    found: dict[str, Missed] = {}
    for path, mask in pairs:
        key = content_digest(path)
        found.setdefault(key, Missed(path, mask, key))
    return list(found.values())


def _mask_of(path: Path, folder: Path) -> Path:
    for suffix in _SUFFIXES:
        for found in sorted(folder.glob(f"{escape(path.stem + suffix)}.*")):
            return found
    raise DataError(f"{folder}: holds no mask for {path.name}; looked for {path.stem}.* and {path.stem}_mask.*")


def _make_known(
    model: AnomalyModel,
    normality: Normality,
    missed: Sequence[Missed],
    spec: DecodeSpec,
    skipped: list[Skipped],
    notes: list[str],
) -> int:
    """Put patches of the missed defects into the memory, as strong as it takes; returns how many are flagged now.

    Never weaker than it was. A patch that more normal images would be raised by than may be flagged at all is left out.
    """
    shown: dict[str, Tensor] = {}
    of_defect: dict[str, Tensor] = dict(normality.defects.images) if normality.defects else {}
    evidence = list(normality.evidence().values())
    dropped = 0
    for image in missed:
        try:
            patches_hwD, inside_P = _patches(model, image, spec)
        except ImageError as error:
            skipped.append(Skipped(image.path, error.reason, str(error)))
            continue
        name = f"{image.path.name}@{image.digest[:16]}"
        if name in of_defect:
            notes.append(f"{image.path.name} is a known defect already")
        flat = patches_hwD.flatten(0, 1)
        shown[name] = patches_hwD
        chosen = defect_patches(flat, normality.bank.distances(flat), inside_P, top_k=model.top_k)
        like_normal = raises_normals(chosen, evidence) > model.config.false_alarm_rate
        dropped += int(like_normal.sum())
        of_defect[name] = chosen[~like_normal]
    if not shown:
        raise DataError(f"--missed: none of {len(missed)} images can be read; the first: {skipped[-1].message}")
    if dropped:
        notes.append(f"{dropped} patches of missed defects look like many normal images and are left out")
    nothing = [name for name in shown if not len(of_defect[name])]
    if nothing:
        notes.append(
            f"nothing of {named(nothing)} can be told from normal images; a mask may help, or a larger task.preprocess"
        )
    least = normality.defects.boost if normality.defects else BOOSTS[0]  # less would let earlier ones pass again
    boosts = (least, *(boost for boost in BOOSTS if boost > least))
    flagged: dict[float, int] = {}
    for boost in boosts:
        normality.defects = KnownDefects.of(of_defect, boost=boost)
        normality.calibrate(model)
        flagged[boost] = sum(_is_flagged(model, patches) for patches in shown.values())
        if normality.defects is None or flagged[boost] == len(shown):
            return flagged[boost]
    best = max(boosts, key=lambda boost: (flagged[boost], -boost))
    normality.defects = KnownDefects.of(of_defect, boost=best)
    normality.calibrate(model)
    notes.append(f"{len(shown) - flagged[best]} of {len(shown)} missed defects still pass at the certified threshold")
    return flagged[best]


@torch.inference_mode()
def _is_flagged(model: AnomalyModel, patches_hwD: Tensor) -> bool:
    return bool(model.image_score(model.distances(patches_hwD[None]) / model.unit) > model.threshold)


@torch.inference_mode()
def _patches(model: AnomalyModel, image: Missed, spec: DecodeSpec) -> tuple[Tensor, Tensor | None]:
    """Patches float32[h,w,D], and which of them the mask touches."""
    pixels = decode(image.path, spec=spec)
    patches = model.patches(model.prepare(torch.from_numpy(pixels)[None]))[0].clone()
    if image.mask is None:
        return patches, None
    mask = read_mask(image.mask)
    if mask.shape != pixels.shape[:2]:
        raise DataError(
            f"{image.mask}: {mask.shape[1]} x {mask.shape[0]} pixels, its image is {pixels.shape[1]} x "
            f"{pixels.shape[0]}; bring both to one size"
        )
    share = nn.functional.adaptive_avg_pool2d(torch.from_numpy(mask).float()[None, None], model.grid_hw)
    return patches, (share > 0).flatten()


def _measure(model: AnomalyModel, samples: Sequence[Sample], spec: DecodeSpec, when: str) -> AnomalyOutcome:
    with bar(f"the frozen set, {when}") as progress:
        decider, rate = TorchDecider(model), model.config.false_alarm_rate
        return evaluate_anomaly(decider, samples, asked_rate=rate, decode_spec=spec, progress=progress).outcome


def _short(frozen: Labelled) -> Labelled:
    return replace(frozen, digests={path: key[:16] for path, key in frozen.digests.items()})
