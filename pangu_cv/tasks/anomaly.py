"""Few-shot anomaly detection: distance of patches to the nearest normal patch, with a certified threshold.

PatchCore (Roth et al. 2022, arXiv 2106.08265) with unit-length patches per level and image scores from the mean of the
largest distances (AnomalyDINO, arXiv 2405.14529). Defects that were missed can be made known later
(``tasks/known_defects.py``).

Shapes: N images of H×W pixels, h×w the patch grid, P = h·w patches, D features, M vectors in the bank.
"""

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.features import digest
from pangu_cv.models.backbone import Backbone, BackboneConfig
from pangu_cv.models.memory_bank import MemoryBankConfig
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.settings import Settings
from pangu_cv.tasks.conformal import ConformalThreshold
from pangu_cv.tasks.known_defects import KnownDefects, raised

NORMAL = "good"


class AnomalyConfig(Settings):
    """An anomaly detector from normal images alone."""

    kind: Literal["anomaly"] = "anomaly"
    """The task."""
    backbone: BackboneConfig = BackboneConfig(levels=(3,))
    """The frozen network; the first level sets the grid, the others are brought to it."""
    preprocess: PreprocessConfig = PreprocessConfig(image_px=256)
    """The resize inside the graph."""
    smooth_patches: Literal[1, 3, 5, 7] = 3
    """Side of the neighbourhood each patch is averaged over before it is compared (1: none)."""
    top_share: Annotated[float, Field(gt=0, le=1)] = 0.03
    """The image score is the mean of this share of largest patch distances (AnomalyDINO, 2405.14529: 0.01)."""
    false_alarm_rate: Annotated[float, Field(gt=0, lt=1)] = 0.05
    """Share of normal images that may be flagged; the threshold is certified for it by conformal calibration."""
    bank: MemoryBankConfig = MemoryBankConfig()
    """Where normal patches are kept."""

    def build(self) -> "AnomalyModel":
        """A model without a bank."""
        return AnomalyModel(self)


class AnomalyModel(nn.Module):
    """uint8[N,H,W,3] to ``score`` float32[N], ``map`` float32[N,H,W], ``is_anomalous`` bool[N] and the threshold used.

    Scores and maps are in units of the median score of held-out normal images: 1.0 is a typical one.
    """

    bank_MD: Tensor
    half_norms_M: Tensor
    defects_KD: Tensor | None
    half_defects_K: Tensor | None
    unit: Tensor
    threshold: Tensor

    def __init__(self, config: AnomalyConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = config.backbone.build()
        self.preprocess = config.preprocess.build(mean=self.backbone.mean, std=self.backbone.std)
        with torch.no_grad():
            probe = self.backbone.probe(config.preprocess.image_px)
            patches = describe(probe.grids_BDhw, smooth=config.smooth_patches)
        self.grid_hw = (patches.shape[1], patches.shape[2])
        self.features = patches.shape[3]
        self.top_k = max(1, round(config.top_share * self.grid_hw[0] * self.grid_hw[1]))
        self.set_bank(torch.zeros(1, self.features))
        self.set_defects(None)
        self.register_buffer("unit", torch.ones(1))
        self.register_buffer("threshold", torch.ones(1))
        self.calibration: ConformalThreshold | None = None
        self.eval()

    @property
    def fingerprint(self) -> str:
        """Digest of weights, levels, resize and smoothing: what patches depend on."""
        return digest(
            "anomaly-1", self.backbone.fingerprint, self.config.preprocess.model_dump(), self.config.smooth_patches
        )

    def set_bank(self, bank_MD: Tensor) -> None:
        """Install the vectors that patches are compared with."""
        self.register_buffer("bank_MD", bank_MD.clone())
        self.register_buffer("half_norms_M", bank_MD.square().sum(1) / 2)

    def set_defects(self, defects: KnownDefects | None) -> None:
        """Install the known defects; without any the graph is as if there were no such thing."""
        self.boost = 0.0 if defects is None else defects.boost
        self.register_buffer("defects_KD", None if defects is None else defects.vectors_KD.clone())
        halves = None if self.defects_KD is None else self.defects_KD.square().sum(1) / 2
        self.register_buffer("half_defects_K", halves)

    def prepare(self, image_1HW3: Tensor) -> Tensor:
        """Raw pixels to the network's input."""
        prepared: Tensor = self.preprocess(image_1HW3)
        return prepared

    def patches(self, prepared_B3SS: Tensor) -> Tensor:
        """Patch descriptors float32[B,h,w,D]: levels side by side, each of unit length."""
        return describe(self.backbone.grids(prepared_B3SS), smooth=self.config.smooth_patches)

    def image_score(self, distances_NP: Tensor) -> Tensor:
        """Mean of the largest distances, in their own unit: float32[N]."""
        return distances_NP.topk(self.top_k, dim=1).values.mean(1)

    def distances(self, patches_NhwD: Tensor) -> Tensor:
        """Distance of every patch to the nearest vector of the bank, raised near known defects: float32[N,P]."""
        flat = patches_NhwD.flatten(0, 2)
        half_squares = flat.square().sum(1) / 2
        found = _root((self.half_norms_M - flat @ self.bank_MD.T).amin(1) + half_squares)
        if self.defects_KD is not None and self.half_defects_K is not None:
            halves = (self.half_defects_K - flat @ self.defects_KD.T).amin(1) + half_squares
            found = raised(found, (2 * halves).clamp(min=0), boost=self.boost)
        return found.view(patches_NhwD.shape[0], -1)

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Decisions for raw pixels; ``threshold`` float32[1]."""
        size = (image.shape[1], image.shape[2])
        return self.decide(self.prepare(image), threshold, size)

    def decide(
        self, prepared: Tensor, threshold: Tensor, size: tuple[int, int]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same from the network's input and the image's own height and width."""
        distances_NP = self.distances(self.patches(prepared)) / self.unit
        score_N = self.image_score(distances_NP)
        grid = distances_NP.view(-1, 1, *self.grid_hw)
        map_NHW = nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)[:, 0]
        return score_N, map_NHW, score_N > threshold, threshold.clone()


def _root(half_squares: Tensor) -> Tensor:
    return (2 * half_squares).clamp(min=1e-12).sqrt()


def describe(grids_BDhw: tuple[Tensor, ...], *, smooth: int) -> Tensor:
    """Grids to patch descriptors float32[B,h,w,D]: averaged over neighbours, on the first grid, unit length per level.

    Unit length makes the distance one of direction, so that a darker image is not an anomaly by itself; scaled such
    that distances lie within 0..2 whatever the number of levels.
    """
    size = grids_BDhw[0].shape[-2:]
    parts = []
    for grid in grids_BDhw:
        if smooth > 1:
            grid = nn.functional.avg_pool2d(grid, smooth, stride=1, padding=smooth // 2, count_include_pad=False)
        if grid.shape[-2:] != size:
            grid = nn.functional.interpolate(grid, size=size, mode="bilinear", align_corners=False)
        parts.append(nn.functional.normalize(grid, dim=1) / len(grids_BDhw) ** 0.5)
    return torch.cat(parts, 1).permute(0, 2, 3, 1)
