"""From images on disk to what a session asks about."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pangu_cv.data.check import read_or_list
from pangu_cv.data.lineage import lineage
from pangu_cv.data.sample import Dataset
from pangu_cv.data.versions import newest, recognises
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.features import Progress, Skipped
from pangu_cv.iterate.ask import Subject
from pangu_cv.iterate.ask.history import history
from pangu_cv.iterate.ask.subject import name_of
from pangu_cv.iterate.decoding import given_spec, require_range
from pangu_cv.iterate.pool import Pool, Sight, embed_pool, kept_home
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.saved import SavedModel, mark_of

_ROWS = 4096


@dataclass(frozen=True)
class Prepared:
    """``dataset`` as it was read, the subject, what could not be, and the model where there is one."""

    dataset: Dataset
    subject: Subject
    skipped: tuple[Skipped, ...]
    saved: SavedModel | None = None

    @property
    def learns_on(self) -> bool:
        """Whether 'pangu-cv update' teaches the model what is answered here."""
        saved = self.saved
        return saved is not None and saved.memory is not None and isinstance(saved.model, ClassifyModel)


def prepare(
    images: Path,
    *,
    classes: Sequence[str],
    model: Path | None,
    root: Path | None,
    sight: Sight | None = None,
    store: Path | None = None,
    range_16bit: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Read and embed. Labels that people gave the images are known from the start; test images are never asked about.

    Classes are those named, else the model's, else those of the labels. ``sight`` sees where there is no model (the
    default network), ``store`` keeps the vectors (the cache folder). ``range_16bit`` becomes black and white, where no
    model or ``sight`` says it. Raises PanguError.
    """
    dataset = read_or_list(images, root=root)
    asked = [sample for sample in dataset if sample.split in (None, "train")]
    if not asked:
        raise DataError(f"{images}: every image belongs to a part that is measured on; nothing may be asked about")
    if model:
        sight = Sight.of(model)
        require_range(model, sight.decode_spec, range_16bit)
    sight = sight or Sight(BackboneConfig(), PreprocessConfig(), decode_spec=given_spec(range_16bit))
    names = _classes(classes, sight, dataset, model)
    home = store or kept_home(images)
    pool = embed_pool([s.path for s in asked], sight, folder=home, progress=progress)
    digest_of = dict(zip(pool.images, pool.digests, strict=True))
    before = history(lineage(newest(images) or images) if recognises(images) else ())
    named = [(name_of(s.path, dataset.root), s.label, digest_of[s.path]) for s in asked if s.path in digest_of]
    given = {digest: label for name, label, digest in named if label is not None and name not in before.machine}
    settled = {digest: before.settled[name] for name, _, digest in named if name in before.settled}
    if strange := sorted(set(given.values()) - set(names)):
        raise SettingsError(f"{images}: has labels '{strange[0]}', which is none of the classes {', '.join(names)}")
    features = np.asarray(pool.features_NK, np.float32)
    prior, spec = _prior(sight, pool, names), sight.decode_spec
    subject = Subject(dataset.root, pool.images, pool.digests, features, names, prior, given, settled, spec)
    return Prepared(dataset, subject, pool.skipped, sight.saved)


def _classes(named: Sequence[str], sight: Sight, dataset: Dataset, model: Path | None) -> tuple[str, ...]:
    known = sight.saved.model.classes if sight.saved and isinstance(sight.saved.model, ClassifyModel) else ()
    names = tuple(dict.fromkeys(named)) or known or dataset.classes
    if len(names) < 2 or not all(name.strip() for name in names):
        told = f"'{model}' is no classifier; " if model and not known else ""
        raise SettingsError(f"{told}which classes can it be? name two or more: --classes good,scratch,pit")
    return names


def _prior(sight: Sight, pool: Pool, classes: tuple[str, ...]) -> np.ndarray | None:
    """What a classifier of these very classes says of each image; None where there is none, or nothing new to it.

    A row of NaN for each image that it is known to have learnt: it repeats what it was told there, right or wrong.
    """
    saved = sight.saved
    if saved is None or not isinstance(saved.model, ClassifyModel) or not set(classes) <= set(saved.model.classes):
        return None
    model, learnt = saved.model, saved.learnt
    new = np.flatnonzero([mark_of(digest) not in learnt for digest in pool.digests])
    places = [model.classes.index(name) for name in classes]
    found = np.full((len(pool), len(classes)), np.nan)
    with torch.inference_mode():
        for start in range(0, len(new), _ROWS):
            rows = new[start : start + _ROWS]
            features_NVD = torch.from_numpy(pool.raw(rows))[:, None]
            found[rows] = model.head(features_NVD).softmax(-1)[:, places].double().numpy() + 1e-6
    return np.asarray(found / found.sum(1, keepdims=True)) if len(new) else None
