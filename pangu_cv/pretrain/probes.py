"""Does it help? Few-shot accuracy, nearest neighbours and patch anomaly on the targets, at the resolution of use.

Probes see the training part of a target only, and measure on images that pretraining does not see either: a backbone
tells apart what it was trained on, labelled or not, better than what comes later. These are told in two folds: the best
of many rounds looks better than it is on the images that chose it, so that each fold judges what the other chooses.
Probes are the deciders of ``tasks`` in small: frozen features, the ridge head of ``classify`` with its views, the patch
distance of ``anomaly``.

Shapes: M images, V views, S pixels a side, D features; R draws.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pangu_cv.data.config import DataConfig, dataset_title
from pangu_cv.data.few_shot import Holdout, draw, holdout
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import read_ahead
from pangu_cv.models.backbone import Backbone
from pangu_cv.models.memory_bank import nearest
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.models.ridge_head import RidgeHeadConfig
from pangu_cv.pretrain.choice import FOLDS
from pangu_cv.pretrain.scores import Judged, Score, area_parts, balanced_parts
from pangu_cv.tasks.anomaly import NORMAL, describe
from pangu_cv.tasks.viewed import View, pooled, see
from pangu_runtime.decode import decode

Autocast = Callable[[], AbstractContextManager[Any]]
_BATCH = 16
_BANK_PATCHES = 4096
_SEED = 7
_DEFECT = "defect"
_LEAST_PARTED = 20  # with fewer, a fold of them would say too little
_LEAST_OF_A_KIND = 3  # normal images and defects of a fold: an area of fewer hangs on each of them


class TargetConfig(DataConfig):
    """A dataset the backbone is meant for."""

    kind: Literal["classify", "anomaly"] = "classify"
    """What it will be asked: classes, or defects against ``good``."""
    splits: tuple[Literal["train", "val", "none"], ...] = ("train", "val", "none")
    """Parts the probe may see; test images are not among them."""
    image_px: Annotated[int, Field(ge=32)] = 224
    """The resolution of use."""
    shots: Annotated[int, Field(ge=1)] = 5
    """Labelled images per class of a draw."""
    fit_views: Annotated[tuple[View, ...], Field(min_length=1)] = ("identity", "flip_lr", "flip_ud", "rot90")
    """How labelled images are shown to the head, as in ``classify``."""
    draws: Annotated[int, Field(ge=2)] = 10
    """Draws, the same ones for every checkpoint."""
    images: Annotated[int, Field(ge=8)] = 300
    """Images used at most, of all classes alike; more where there are so many classes that shots ask for them."""
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """Share of them that is measured on, and taken out of what is learnt from."""


@dataclass(frozen=True)
class _Part:
    """Samples with their images, resized once, and labels."""

    samples: tuple[Sample, ...]
    images_M3SS: Tensor
    label_M: Tensor

    def rows(self, samples: Sequence[Sample]) -> Tensor:
        """Their places."""
        row = {sample.path: number for number, sample in enumerate(self.samples)}
        return torch.tensor([row[sample.path] for sample in samples])


def held_out(config: TargetConfig) -> frozenset[Path]:
    """Images of a target that are measured on, and all of their groups: they must not be learnt from."""
    measured = _parted(config).held_out
    groups = {sample.group for sample in measured} - {None}
    mates = [sample for sample in config.read() if sample.group in groups] if groups else []
    return frozenset(sample.path.resolve() for sample in (*measured, *mates))


def _parted(config: TargetConfig) -> Holdout:
    return holdout(_chosen(config), fraction=config.held_out, seed=_SEED)


class Probe:
    """One target with its images in memory."""

    def __init__(
        self, config: TargetConfig, backbone: Backbone, *, title: str = "", autocast: Autocast = nullcontext
    ) -> None:
        """``title`` is what its scores are named by; the dataset's own where there is none."""
        self.config, self.title, self.autocast = config, title or dataset_title(config.path), autocast
        parted = _parted(config)
        self.classes = sorted({str(s.label) for s in parted.kept})
        self.seen, self.held = (self._part(samples) for samples in (parted.kept, parted.held_out))
        defects = sum(sample.label != NORMAL for sample in self.held.samples)
        if config.kind == "anomaly" and min(defects, len(self.held.samples) - defects) < 2:
            raise DataError(
                f"targets: {config.path}: of {len(self.held.samples)} images that are held out {defects} are defects; "
                "an anomaly target needs two of both: label more images, or raise its held_out"
            )
        self.mean = 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1)
        self.std = 255 * torch.tensor(backbone.std).view(1, 3, 1, 1)
        self.draws = self._draws()
        self.folds = self._folds()

    def _part(self, samples: Sequence[Sample]) -> _Part:
        preprocess = PreprocessConfig(image_px=self.config.image_px).build(mean=(0, 0, 0), std=(1 / 255,) * 3)
        images, kept = [], []
        decoded = read_ahead([s.path for s in samples], lambda path: decode(path, spec=self.config.decode_spec))
        for sample, image in zip(samples, decoded, strict=True):
            if not isinstance(image, ImageError):
                images.append(preprocess(torch.from_numpy(image)[None]).round().byte())
                kept.append(sample)
        labels = torch.tensor([self.classes.index(str(s.label)) for s in kept])
        return _Part(tuple(kept), torch.cat(images), labels)

    @property
    def images(self) -> list[tuple[str, str, int]]:
        """What it measures on: path, label and bytes of each image, those seen first."""
        samples = (*self.seen.samples, *self.held.samples)
        return [(str(s.path), str(s.label), s.path.stat().st_size) for s in samples]

    def measure(self, backbone: Backbone) -> Score:
        """The backbone as it is now."""
        if self.config.kind == "anomaly":
            return self._anomaly(backbone)
        with torch.no_grad():
            seen_MVD, groups = self._features(backbone, self.seen, self.config.fit_views)
            held_MVD, _ = self._features(backbone, self.held, ("identity",))
        is_right_RM = np.stack([self._few_shot(seen_MVD, held_MVD, groups, support) for support in self.draws])
        label_M = self.held.label_M.numpy()
        folds = [Judged.of(balanced_parts(is_right_RM[:, rows], label_M[rows])) for rows in self.folds]
        knn = _knn(seen_MVD[:, 0], self.seen.label_M, held_MVD[:, 0], self.held.label_M)
        return Score(self.title, tuple(folds), knn)

    def _folds(self) -> list[list[int]]:
        """Row numbers of those held out, whole groups at a time; all of them in one where they are too few."""
        parted = holdout(self.held.samples, fraction=1 / FOLDS, seed=_SEED)
        folds = [self.held.rows(fold).tolist() for fold in (parted.held_out, parted.kept)]
        counts = [Counter(self.held.label_M[fold].tolist()) for fold in folds]
        least = _LEAST_OF_A_KIND if self.config.kind == "anomaly" else 1
        if len(self.held.samples) < _LEAST_PARTED or any(len(c) < 2 or min(c.values()) < least for c in counts):
            return [list(range(len(self.held.samples)))]
        return folds

    def _draws(self) -> list[Tensor]:
        """Row numbers of each draw's images among those seen."""
        seeds = range(self.config.draws)
        if self.config.kind == "anomaly":
            good = [s for s in self.seen.samples if s.label == NORMAL]
            return [self.seen.rows(holdout(good, fraction=0.3, seed=seed).kept) for seed in seeds]
        try:
            return [self.seen.rows(draw(self.seen.samples, shots=self.config.shots, seed=seed)) for seed in seeds]
        except DataError as error:
            raise DataError(f"targets: {self.config.path}, images that are not held out: {error}") from None

    def _batches(self, backbone: Backbone, part: _Part) -> Iterator[Tensor]:
        device = next(backbone.parameters()).device
        mean, std = self.mean.to(device), self.std.to(device)
        for images in torch.split(part.images_M3SS, _BATCH):
            yield (images.to(device).float() - mean) / std

    def _features(self, backbone: Backbone, part: _Part, views: Sequence[str]) -> tuple[Tensor, list[int]]:
        """Features float32[M,V,D] and the sizes of their groups."""
        found, groups = [], []
        for images in self._batches(backbone, part):
            seen = []
            for view in views:
                with self.autocast():
                    parts = [one.float().cpu() for one in pooled(backbone(see(images, view)))]
                groups = [one.shape[1] for one in parts]
                seen.append(torch.cat(parts, 1))
            found.append(torch.stack(seen, 1))
        return torch.cat(found), groups

    def _few_shot(self, seen_MVD: Tensor, held_MVD: Tensor, groups: list[int], support: Tensor) -> NDArray[np.bool_]:
        """Which held-out images one draw tells right, bool[M]."""
        head = RidgeHeadConfig().build(groups=groups, classes=len(self.classes))
        head.fit(seen_MVD[support], self.seen.label_M[support])
        with torch.no_grad():
            predicted = head(held_MVD).argmax(1)
        return np.asarray((predicted == self.held.label_M).numpy())

    @torch.no_grad()
    def _anomaly(self, backbone: Backbone) -> Score:
        """Image AUROC of the distance to patches of normal images."""
        seen_MPD, held_MPD = (self._patches(backbone, part) for part in (self.seen, self.held))
        is_defect = np.array([s.label != NORMAL for s in self.held.samples])
        found = []
        for support in self.draws:
            bank = seen_MPD[support].flatten(0, 1)
            bank = bank[:: max(1, len(bank) // _BANK_PATCHES)]
            distances = nearest(held_MPD.flatten(0, 1), bank).distances_P.view(len(held_MPD), -1)
            scores = distances.topk(max(1, distances.shape[1] // 33), 1).values.mean(1)
            found.append(scores.numpy())
        scores_RM = np.stack(found).astype(np.float64)
        folds = [Judged.of(area_parts(scores_RM[:, rows], is_defect[rows])) for rows in self.folds]
        return Score(self.title, tuple(folds), None)

    def _patches(self, backbone: Backbone, part: _Part) -> Tensor:
        found = []
        for images in self._batches(backbone, part):
            with self.autocast():
                grids = backbone.grids(images)
            found.append(describe((grids[-2].float(),), smooth=3).cpu())
        return torch.cat(found).flatten(1, 2)


def _chosen(config: TargetConfig) -> list[Sample]:
    """At most ``images`` labelled samples, as many of each class as there can be; all kinds of defects are one."""
    wanted = {None if split == "none" else split for split in config.splits}
    samples = [s for s in config.read() if s.split in wanted and s.label is not None]
    if config.kind == "anomaly":
        found = sorted({str(s.label) for s in samples})
        if NORMAL not in found:
            raise DataError(f"targets: {config.path} has no '{NORMAL}' images; found {', '.join(found)}")
        samples = [s if s.label == NORMAL else replace(s, label=_DEFECT) for s in samples]
    classes = sorted({str(s.label) for s in samples})
    if len(classes) < 2:
        raise DataError(
            f"targets: {config.path} has {len(classes)} class(es) in splits {list(config.splits)}; a probe needs 2. "
            "Where the others are in the test part alone (as defects in the layout of MVTec AD), split: anew draws "
            "the probe's images from all parts; measure the finished model on others then"
        )
    least = ceil((config.shots + 1) / (1 - config.held_out)) if config.kind == "classify" else 1
    share = max(least, config.images // len(classes))
    chosen: list[Sample] = []
    for name in classes:
        members = [s for s in samples if s.label == name]
        order = np.random.default_rng([_SEED, len(members)]).permutation(len(members))[:share]
        chosen += [members[at] for at in sorted(order)]
    return chosen


def _balanced(predicted_M: NDArray[np.int64], label_M: NDArray[np.int64]) -> float:
    return float(np.mean([(predicted_M[label_M == c] == c).mean() for c in np.unique(label_M)]))


def _knn(seen_MD: Tensor, label_M: Tensor, held_ND: Tensor, label_N: Tensor, *, k: int = 10) -> float:
    """Balanced accuracy of a vote among the k nearest of those seen, by cosine of standardised features."""
    mean, deviation = seen_MD.mean(0), seen_MD.std(0) + 1e-6
    seen, held = (torch.nn.functional.normalize((one - mean) / deviation, dim=1) for one in (seen_MD, held_ND))
    near = (held @ seen.T).topk(min(k, len(seen)), 1)
    votes = torch.zeros(len(held), int(label_M.max()) + 1)
    votes.scatter_add_(1, label_M[near.indices], near.values.clamp(min=0))
    return _balanced(votes.argmax(1).numpy(), label_N.numpy())


def measure_all(probes: Sequence[Probe], backbone: Backbone) -> list[Score]:
    """The figures of every target."""
    was_training = backbone.network.training
    backbone.network.eval()
    scores = [probe.measure(backbone) for probe in probes]
    backbone.network.train(was_training)
    return scores
