"""A pretrained encoder and its decoder as a restorer of whole images, tile by tile.

Shapes: S pixels a side of a tile, T tiles.
"""

from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pangu_cv.errors import CheckpointError
from pangu_cv.models import checkpoint
from pangu_cv.models.backbone import Backbone, BackboneConfig
from pangu_cv.models.checkpoint_folder import last_of
from pangu_cv.pretrain.encoder import Encoder
from pangu_cv.pretrain.repair import RepairConfig, RepairDecoder
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec

Pixels = NDArray[np.uint8]
_BATCH = 32


class Restorer(nn.Module):
    """Frees an image of noise, blur and compression as it learnt to in pretraining; blind to the kind of damage.

    ``decode_spec`` is how the images that it learnt from became pixels.
    """

    def __init__(
        self, backbone: Backbone, config: RepairConfig, *, side_px: int, decode_spec: DecodeSpec = DEFAULT_SPEC
    ) -> None:
        super().__init__()
        self.decode_spec = decode_spec
        self.encoder = Encoder(backbone)
        self.side_px = side_px
        self.decoder: RepairDecoder = config.build(
            features=self.encoder.features, patch_px=self.encoder.patch_px, side_px=side_px
        )
        self.mean, self.std = (255 * torch.tensor(one).view(1, 3, 1, 1) for one in (backbone.mean, backbone.std))
        self.eval()

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From a run of 'pangu-cv pretrain' with a repair term; raises CheckpointError for another one."""
        folder = last_of(folder)
        stored = checkpoint.load(folder)
        if "decoder" not in stored.components:
            raise CheckpointError(
                f"{folder}: has no decoder, so it cannot restore; the recipe joint_repair trains one: "
                "'pangu-cv pretrain joint_repair data=my_images' (any with objective.repair.weight above 0 does)"
            )
        try:
            manifest = stored.manifest
            harm = manifest["views"]["damage"]
            if not (harm["p"] and harm["kinds"]):
                raise CheckpointError(
                    f"{folder}: its decoder was shown no damage (views.damage.p=0), so it would give images back as "
                    "they are; the recipe joint_repair shows some"
                )
            backbone = BackboneConfig(
                name=str(manifest["backbone"]),
                weights=str(folder),
                levels=tuple(manifest["levels"]),
                arguments=manifest["arguments"],
            ).build()
            config = RepairConfig.model_validate(manifest["objective"]["repair"])
            spec = DecodeSpec.from_json(manifest["decode"])
            found = cls(backbone, config, side_px=int(manifest["views"]["image_px"]), decode_spec=spec)
            found.decoder.load_state_dict(stored.components["decoder"])
            return found
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: malformed ({type(error).__name__}: {error})") from None

    @torch.no_grad()
    def restore(self, image_HW3: Pixels) -> Pixels:
        """The image repaired, uint8[H,W,3]; tiles of the views' side overlap by half and fade into each other."""
        side = self.side_px
        height, width = image_HW3.shape[:2]
        more = [(0, max(0, side - height)), (0, max(0, side - width)), (0, 0)]
        padded = np.pad(image_HW3, more, mode="symmetric")
        rows, columns = _starts(padded.shape[0], side), _starts(padded.shape[1], side)
        corners = [(top, left) for top in rows for left in columns]
        image = torch.from_numpy(np.ascontiguousarray(padded)).permute(2, 0, 1).float()
        total, weight = torch.zeros_like(image), torch.zeros(image.shape[1:])
        fade = _fade(side)
        for start in range(0, len(corners), _BATCH):
            part = corners[start : start + _BATCH]
            tiles_T3SS = torch.stack([image[:, t : t + side, le : le + side] for t, le in part])
            for (top, left), tile in zip(part, self._repaired(tiles_T3SS), strict=True):
                total[:, top : top + side, left : left + side] += tile * fade
                weight[top : top + side, left : left + side] += fade
        found = (total / weight)[:, :height, :width].clamp(0, 255).round().byte()
        return np.asarray(found.permute(1, 2, 0).numpy(), np.uint8)

    def _repaired(self, tiles_T3SS: Tensor) -> Tensor:
        x = (tiles_T3SS - self.mean) / self.std
        repaired: Tensor = self.decoder(self.encoder(x).tokens_BND, None, x).image_B3SS
        return repaired * self.std + self.mean


def _starts(length: int, side: int) -> list[int]:
    """Where tiles begin: every half side, and flush with the end."""
    return sorted({*range(0, length - side, side // 2), length - side})


def _fade(side: int) -> Tensor:
    """Weights that fall towards a tile's border, never to 0."""
    ramp = torch.hann_window(side, periodic=False) + 1e-3
    return ramp[:, None] * ramp
