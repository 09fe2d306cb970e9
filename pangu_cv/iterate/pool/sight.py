"""What mining sees of an image in one pass of the network: one vector for all of it, and one for each patch.

Shapes: B images, S pixels a side, D features of an image, P patches, F features of a patch.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pangu_cv.features import digest
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.tasks.anomaly import describe
from pangu_cv.tasks.saved import SavedModel, load_model
from pangu_cv.tasks.viewed import pooled
from pangu_runtime.decode import DecodeSpec

_SMOOTH = 3  # patches are averaged over their neighbours, as the anomaly task does by default
_JOINED = 2  # and over squares of so many a side: a sixteenth of the comparisons, docs/LOG.md


@dataclass(frozen=True)
class Seen:
    """``vectors_BD`` of whole images, and unit-length ``patches_BPF``, coarse ones of the network's middle level."""

    vectors_BD: Tensor
    patches_BPF: Tensor


class Sight:
    """A frozen network with its resize and how its images are decoded; of a trained model, ``saved``, the model's."""

    def __init__(
        self,
        backbone: BackboneConfig,
        preprocess: PreprocessConfig,
        *,
        saved: SavedModel | None = None,
        decode_spec: DecodeSpec | None = None,
    ) -> None:
        self.saved = saved
        self.decode_spec = saved.provenance.decode if saved else decode_spec or DecodeSpec()
        self.backbone = backbone.build() if saved is None else saved.model.backbone
        if saved is None:
            self.preprocess = preprocess.build(mean=self.backbone.mean, std=self.backbone.std)
        else:
            self.preprocess = saved.model.preprocess
        probe = self.backbone.probe(preprocess.image_px)
        self.groups = [part.shape[1] for part in pooled(probe)]
        self._level = len(probe.grids_BDhw) // 2
        self.patch_features = probe.grids_BDhw[self._level].shape[1]
        self._settings = preprocess.model_dump()

    @classmethod
    def of(cls, folder: Path) -> "Sight":
        """The network of a trained model (a run folder or its checkpoint); raises CheckpointError."""
        saved = load_model(folder_of(folder))
        config = saved.model.config
        return cls(config.backbone, config.preprocess, saved=saved)

    @property
    def fingerprint(self) -> str:
        """Digest of what vectors depend on, but for the decoder."""
        return digest("sight-2", self.backbone.fingerprint, self._settings, _SMOOTH, _JOINED)

    def prepare(self, image_1HW3: Tensor) -> Tensor:
        """Raw uint8 pixels to the network's input, float32[1,3,S,S]."""
        prepared: Tensor = self.preprocess(image_1HW3)
        return prepared

    @torch.inference_mode()
    def __call__(self, prepared_B3SS: Tensor) -> Seen:
        """One pass."""
        features = self.backbone(prepared_B3SS)
        grid_BFhw = features.grids_BDhw[self._level]
        smooth_BhwF = describe((grid_BFhw,), smooth=_SMOOTH)
        joined_BFhw = nn.functional.avg_pool2d(smooth_BhwF.permute(0, 3, 1, 2), _JOINED, ceil_mode=True)
        patches_BPF = nn.functional.normalize(joined_BFhw.flatten(2), dim=1).transpose(1, 2).contiguous()
        return Seen(torch.cat(pooled(features), 1), patches_BPF)
