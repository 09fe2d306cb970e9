"""What the models say of images, read once per image and backbone and kept on disk like all features.

Shapes: M models, N images, C classes of the union, V views, D features of one backbone.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.features import Extraction, FeatureStore, Skipped, cache_folder, extract
from pangu_cv.iterate.fuse.ensemble import Floats, ensemble, known, spread
from pangu_cv.iterate.fuse.members import Member
from pangu_cv.progress import bar
from pangu_cv.tasks.classify import ClassifyModel
from pangu_runtime.decode import DecodeSpec

UNLABELLED = -1


@dataclass
class Reader:
    """Features of images by any model; stores stay open, so that what one model read serves others of its backbone."""

    spec: DecodeSpec
    is_cached: bool = True
    _stores: dict[str, FeatureStore] = field(default_factory=dict)

    def features(self, model: ClassifyModel, paths: Sequence[Path], views: Sequence[str], *, about: str) -> Extraction:
        """Of the readable images, float32[N,V,D]."""
        key = model.fingerprint
        if key not in self._stores:
            self._stores[key] = FeatureStore(cache_folder() if self.is_cached else None, key)
        with bar(f"features: {about}") as progress:
            store = self._stores[key]
            return extract(paths, model, views=views, store=store, decode_spec=self.spec, progress=progress)


@dataclass(frozen=True, eq=False)
class Evidence:
    """Images that could be read, their labels (-1: none) and every model's probabilities on the union's classes.

    ``spaces`` are the features in which images are near each other, float32[N,D] per backbone. ``silent_MN`` is where a
    model answers "unknown".
    """

    samples: tuple[Sample, ...]
    truth_N: NDArray[np.int64]
    scores_MNC: Floats
    silent_MN: NDArray[np.bool_]
    knows_MC: NDArray[np.bool_]
    spaces: tuple[NDArray[np.float32], ...]
    skipped: tuple[Skipped, ...] = ()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Of the images."""
        return tuple(s.path for s in self.samples)

    @property
    def labelled(self) -> NDArray[np.intp]:
        """Places of the labelled images."""
        return np.flatnonzero(self.truth_N != UNLABELLED)

    @cached_property
    def votes_MNC(self) -> Floats:
        """The scores, of nothing where a model answers "unknown" and another does not."""
        is_dumb_MN = self.silent_MN & ~self.silent_MN.all(0)
        return np.where(is_dumb_MN[:, :, None], 0.0, self.scores_MNC)

    @cached_property
    def ensemble_NC(self) -> Floats:
        """The plain ensemble."""
        return ensemble(self.votes_MNC, self.knows_MC)

    def among(self, places: NDArray[np.intp]) -> "Evidence":
        """Of some of the images."""
        return Evidence(
            tuple(self.samples[at] for at in places),
            self.truth_N[places],
            self.scores_MNC[:, places],
            self.silent_MN[:, places],
            self.knows_MC,
            tuple(space[places] for space in self.spaces),
        )


def gather(members: Sequence[Member], samples: Sequence[Sample], classes: Sequence[str], reader: Reader) -> Evidence:
    """Ask every model about every image; raises DataError where none can be read, or a label is of no model's."""
    samples = list({s.path: s for s in samples}.values())
    strange = sorted({s.label for s in samples if s.label is not None} - set(classes))
    if strange:
        raise DataError(
            f"data: label(s) {', '.join(strange)} are of no model's classes ({', '.join(classes)}); mend the spelling, "
            "rename the models' classes by 'rename', or leave these images out"
        )
    paths = [s.path for s in samples]
    scores, silent = [], []
    spaces: dict[str, NDArray[np.float32]] = {}
    for member in members:
        model = member.model
        seen = reader.features(model, paths, model.config.decision_views, about=member.name)
        if not seen.index:
            raise DataError(f"none of the {len(paths)} images can be read; the first: {seen.skipped[0].message}")
        scores_NK, is_silent_N = _answers(model, seen)
        scores.append(spread(scores_NK, member.classes, classes))
        silent.append(is_silent_N)
        spaces.setdefault(model.fingerprint, _space(model, seen))
    readable = tuple(s for s in samples if s.path in seen.index)
    truth_N = np.array([UNLABELLED if s.label is None else classes.index(s.label) for s in readable], np.int64)
    owned = known([m.classes for m in members], classes)
    return Evidence(readable, truth_N, np.stack(scores), np.stack(silent), owned, tuple(spaces.values()), seen.skipped)


@torch.inference_mode()
def _answers(model: ClassifyModel, seen: Extraction) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Probabilities float32[N,K], and where the answer is "unknown"."""
    scores_NK, labels_N, _ = model.decide_from_features(torch.from_numpy(seen.features_NVD), model.threshold)
    return scores_NK.numpy(), labels_N.numpy() < 0


@torch.inference_mode()
def _space(model: ClassifyModel, seen: Extraction) -> NDArray[np.float32]:
    """Unit vectors of the images as the head reads them."""
    mapped = model.head.normalised(torch.from_numpy(seen.features_NVD)).mean(1)
    return np.asarray(torch.nn.functional.normalize(mapped, dim=1).numpy(), np.float32)
