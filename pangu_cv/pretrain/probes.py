"""Does it help? Few-shot accuracy, nearest neighbours and patch anomaly on the targets, at the resolution of use.

Probes see the training part of a target only. They are the deciders of ``tasks`` in small: frozen features, the ridge
head of ``classify``, the patch distance of ``anomaly``.

Shapes: M images, S pixels a side, D features.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from pangu_cv.data.config import DataConfig, dataset_title
from pangu_cv.data.few_shot import draw, holdout
from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import read_ahead
from pangu_cv.models.backbone import Backbone
from pangu_cv.models.memory_bank import nearest
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.models.ridge_head import RidgeHeadConfig
from pangu_cv.tasks.anomaly import NORMAL, describe
from pangu_cv.tasks.classify import pooled
from pangu_runtime.decode import decode

Autocast = Callable[[], AbstractContextManager[Any]]
_BATCH = 16
_BANK_PATCHES = 4096


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
    draws: Annotated[int, Field(ge=2)] = 10
    """Draws, the same ones for every checkpoint."""
    images: Annotated[int, Field(ge=8)] = 300
    """Images used at most, of all classes alike."""

    @property
    def title(self) -> str:
        """A name for people."""
        return dataset_title(self.path)


@dataclass(frozen=True)
class Score:
    """One target, one state of the backbone: shares of 1, a value per draw; ``knn`` is leave-one-out."""

    target: str
    values: tuple[float, ...]
    knn: float | None

    @property
    def mean(self) -> float:
        """Mean over draws."""
        return float(np.mean(self.values))


class Probe:
    """One target with its images in memory, resized once."""

    def __init__(self, config: TargetConfig, backbone: Backbone, *, autocast: Autocast = nullcontext) -> None:
        self.config, self.autocast = config, autocast
        preprocess = PreprocessConfig(image_px=config.image_px).build(mean=(0, 0, 0), std=(1 / 255,) * 3)
        samples = _chosen(config)
        images, kept = [], []
        decoded = read_ahead([s.path for s in samples], lambda path: decode(path, spec=config.decode_spec))
        for sample, image in zip(samples, decoded, strict=True):
            if not isinstance(image, ImageError):
                images.append(preprocess(torch.from_numpy(image)[None]).round().byte())
                kept.append(sample)
        self.samples = tuple(kept)
        self.images_M3SS = torch.cat(images)
        self.classes = sorted({str(s.label) for s in kept})
        self.label_M = torch.tensor([self.classes.index(str(s.label)) for s in kept])
        self.mean = 255 * torch.tensor(backbone.mean).view(1, 3, 1, 1)
        self.std = 255 * torch.tensor(backbone.std).view(1, 3, 1, 1)
        self.draws = self._draws()

    def measure(self, backbone: Backbone) -> Score:
        """The backbone as it is now."""
        if self.config.kind == "anomaly":
            return self._anomaly(backbone)
        features_MD, groups = self._features(backbone)
        values = [self._few_shot(features_MD, groups, support) for support in self.draws]
        return Score(self.config.title, tuple(values), _knn(features_MD, self.label_M))

    def _draws(self) -> list[Tensor]:
        """Row numbers of each draw's labelled images."""
        row = {sample.path: number for number, sample in enumerate(self.samples)}
        if self.config.kind == "anomaly":
            good = [s for s in self.samples if s.label == NORMAL]
            parts = [holdout(good, fraction=0.5, seed=seed).kept for seed in range(self.config.draws)]
        else:
            parts = [draw(self.samples, shots=self.config.shots, seed=seed) for seed in range(self.config.draws)]
        return [torch.tensor([row[s.path] for s in part]) for part in parts]

    def _batches(self, backbone: Backbone) -> "list[Tensor]":
        device = next(backbone.parameters()).device
        mean, std = self.mean.to(device), self.std.to(device)
        return [((part.to(device).float() - mean) / std) for part in torch.split(self.images_M3SS, _BATCH)]

    @torch.no_grad()
    def _features(self, backbone: Backbone) -> tuple[Tensor, list[int]]:
        found, groups = [], []
        for images in self._batches(backbone):
            with self.autocast():
                parts = [part.float().cpu() for part in pooled(backbone(images))]
            groups = [part.shape[1] for part in parts]
            found.append(torch.cat(parts, 1))
        return torch.cat(found), groups

    def _few_shot(self, features_MD: Tensor, groups: list[int], support: Tensor) -> float:
        head = RidgeHeadConfig().build(groups=groups, classes=len(self.classes))
        head.fit(features_MD[support][:, None], self.label_M[support])
        rest = torch.ones(len(features_MD), dtype=torch.bool)
        rest[support] = False
        with torch.no_grad():
            predicted = head(features_MD[rest][:, None]).argmax(1)
        return _balanced(predicted.numpy(), self.label_M[rest].numpy())

    @torch.no_grad()
    def _anomaly(self, backbone: Backbone) -> Score:
        """Image AUROC of the distance to patches of half the normal images."""
        from sklearn.metrics import roc_auc_score

        found = []
        for images in self._batches(backbone):
            with self.autocast():
                grids = backbone.grids(images)
            found.append(describe((grids[-2].float(),), smooth=3).cpu())
        patches_MPD = torch.cat(found).flatten(1, 2)
        is_defect = np.array([s.label != NORMAL for s in self.samples])
        values = []
        for support in self.draws:
            bank = patches_MPD[support].flatten(0, 1)
            bank = bank[:: max(1, len(bank) // _BANK_PATCHES)]
            rest = np.setdiff1d(np.arange(len(is_defect)), support.numpy())
            distances = nearest(patches_MPD[rest].flatten(0, 1), bank).distances_P.view(len(rest), -1)
            scores = distances.topk(max(1, distances.shape[1] // 33), 1).values.mean(1)
            values.append(float(roc_auc_score(is_defect[rest], scores.numpy())))
        return Score(self.config.title, tuple(values), None)


def _chosen(config: TargetConfig) -> list[Sample]:
    """At most ``images`` labelled samples, as many of each class as there can be."""
    wanted = {None if split == "none" else split for split in config.splits}
    samples = [s for s in config.read() if s.split in wanted and s.label is not None]
    classes = sorted({str(s.label) for s in samples})
    if len(classes) < 2:
        raise DataError(
            f"targets: {config.path} has {len(classes)} class(es) in splits {list(config.splits)}; a probe needs 2"
        )
    share = max(1, config.images // len(classes))
    chosen: list[Sample] = []
    for name in classes:
        members = [s for s in samples if s.label == name]
        order = np.random.default_rng([7, len(members)]).permutation(len(members))[:share]
        chosen += [members[at] for at in sorted(order)]
    if config.kind == "anomaly" and NORMAL not in classes:
        raise DataError(f"targets: {config.path} has no '{NORMAL}' images; found {', '.join(classes)}")
    return chosen


def _balanced(predicted_M: NDArray[np.int64], label_M: NDArray[np.int64]) -> float:
    return float(np.mean([(predicted_M[label_M == c] == c).mean() for c in np.unique(label_M)]))


def _knn(features_MD: Tensor, label_M: Tensor, *, k: int = 10) -> float:
    """Balanced accuracy of a vote among the k nearest others by cosine of standardised features."""
    unit = torch.nn.functional.normalize((features_MD - features_MD.mean(0)) / (features_MD.std(0) + 1e-6), dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-2)
    near = similarity.topk(min(k, len(unit) - 1), 1)
    votes = torch.zeros(len(unit), int(label_M.max()) + 1)
    votes.scatter_add_(1, label_M[near.indices], near.values.clamp(min=0))
    return _balanced(votes.argmax(1).numpy(), label_M.numpy())


def measure_all(probes: Sequence[Probe], backbone: Backbone) -> list[Score]:
    """The figures of every target."""
    was_training = backbone.network.training
    backbone.network.eval()
    scores = [probe.measure(backbone) for probe in probes]
    backbone.network.train(was_training)
    return scores
