"""The one interface over timm's ViTs and CNNs: pooled vector and dense grids.

Shapes: B images, D channels of a level, h×w its grid.
"""

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import timm
import timm.data
import torch
from pydantic import Field
from torch import Tensor, nn

from pangu_cv.errors import SettingsError
from pangu_cv.models.weights import WeightsFile, load_state, locate
from pangu_cv.settings import Settings

DEFAULT_BACKBONE = "tf_efficientnet_lite0.in1k"


class BackboneConfig(Settings):
    """Which network, whose weights, and which of its depths are read."""

    name: str = DEFAULT_BACKBONE
    """A timm model name; with a tag (``.in1k``) it also names the weights."""
    weights: str = "auto"
    """``auto`` searches as ``pangu-cv weights list`` shows, ``random`` draws them, else a file or a pretraining run."""
    levels: tuple[int, ...] = (2, 3, 4)
    """Depths whose grids are read, in fifths of the network: 0 is the shallowest (stride 2 in a CNN), 4 the last."""

    arguments: dict[str, int | float | bool] = Field(default_factory=dict)
    """Passed on to timm, for sizes it has no name for; weights must fit them."""

    def build(self) -> "Backbone":
        """The network in eval mode with its weights."""
        return Backbone(self)


@dataclass(frozen=True)
class BackboneFeatures:
    """What a task may read: ``vector_BD`` (pooled or class token) and one grid ``[B,D,h,w]`` per level asked for."""

    vector_BD: Tensor
    grids_BDhw: tuple[Tensor, ...]


class Backbone(nn.Module):
    """A frozen timm network; float32[B,3,S,S] in, ``BackboneFeatures`` out."""

    network: Any  # timm's classes share attributes that no common base declares

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        architecture = config.name.split(".")[0]
        self.network = _create(architecture, config.arguments)
        source = None if config.weights == "random" else locate(config.name, config.weights)
        if source is not None:
            load_state(self.network, source)
        data = timm.data.resolve_data_config(pretrained_cfg=_published_config(config.name))
        self.source: WeightsFile | None = source
        self.mean, self.std = cast(tuple[float, ...], data["mean"]), cast(tuple[float, ...], data["std"])
        self.indices = self._intermediate_indices()
        self.eval().requires_grad_(False)
        self.to(memory_format=torch.channels_last)  # 1.3 times faster convolutions on a CPU, more on a GPU

    @property
    def fingerprint(self) -> str:
        """What the features depend on: architecture, levels and a digest of every weight."""
        shape = dict(sorted(self.config.arguments.items())) or ""
        sha = hashlib.sha256(f"{self.config.name.split('.')[0]} {self.indices}{shape}".encode())
        for tensor in self.network.state_dict().values():
            sha.update(tensor.contiguous().numpy().tobytes())
        return sha.hexdigest()

    def _intermediate_indices(self) -> list[int]:
        """Levels are fifths of the depth: stages of a CNN (which may lack the shallowest), blocks of a ViT."""
        depth = len(self.network.feature_info)
        if depth > 5:
            indices = [round(depth * (level + 1) / 5) - 1 for level in self.config.levels]
        else:
            indices = [level - (5 - depth) for level in self.config.levels]
        if not indices or min(indices) < 0 or max(indices) >= depth or sorted(set(indices)) != indices:
            raise SettingsError(
                f"backbone.levels: {list(self.config.levels)} do not fit '{self.config.name}'; "
                f"allowed: increasing numbers from {max(0, 5 - depth)} to 4"
            )
        return indices

    def forward(self, images_BCHW: Tensor) -> BackboneFeatures:
        """Shapes as ``BackboneFeatures`` says; a ViT's vector is the class token beside the mean of its patches."""
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        final, grids = self.network.forward_intermediates(images_BCHW, indices=self.indices)
        return BackboneFeatures(vector_BD=self.pooled(final), grids_BDhw=tuple(grids))

    def grids(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
        """The grids alone, without computing what lies beyond the deepest of them."""
        images_BCHW = images_BCHW.contiguous(memory_format=torch.channels_last)
        options = {"indices": self.indices, "intermediates_only": True, "stop_early": True}
        return tuple(self.network.forward_intermediates(images_BCHW, **options))

    @torch.no_grad()
    def probe(self, side_px: int) -> BackboneFeatures:
        """Features of a black image, to size what follows; raises SettingsError where the side does not fit."""
        try:
            features: BackboneFeatures = self(torch.zeros(1, 3, side_px, side_px))
            return features
        except (AssertionError, RuntimeError) as error:
            raise SettingsError(
                f"preprocess.image_px: {side_px} does not fit '{self.config.name}' ({error}); "
                "a ViT takes multiples of its patch side"
            ) from None

    def pooled(self, final: Tensor) -> Tensor:
        """float32[B,D] from the last depth: a ViT's normalised tokens [B,N,D], a CNN's grid [B,D,h,w]."""
        if final.ndim == 3:
            prefix = int(self.network.num_prefix_tokens)
            patches_mean = final[:, prefix:].mean(1)
            return torch.cat([final[:, 0], patches_mean], 1) if prefix else patches_mean
        return cast(Tensor, self.network.forward_head(final, pre_logits=True))


def _create(architecture: str, arguments: Mapping[str, int | float | bool]) -> nn.Module:
    if not timm.is_model(architecture):
        close = difflib.get_close_matches(architecture, timm.list_models(), n=1)
        hint = f"; nearest is '{close[0]}'" if close else ""
        raise SettingsError(f"backbone.name: timm {timm.__version__} has no model '{architecture}'{hint}")
    options = {"dynamic_img_size": True} if "vit_" in architecture else {}  # any multiple of the patch side
    try:
        network = timm.create_model(architecture, pretrained=False, num_classes=0, **options, **arguments)
    except (TypeError, AssertionError, ValueError) as error:
        raise SettingsError(
            f"backbone.arguments: timm's '{architecture}' refuses {dict(arguments)} ({error})"
        ) from None
    if not hasattr(network, "forward_intermediates"):
        raise SettingsError(f"backbone.name: timm's '{architecture}' gives no intermediate grids; choose a ViT or CNN")
    return cast(nn.Module, network)


def _published_config(name: str) -> dict[str, Any]:
    """timm's record of how the weights were trained; a tag it does not know falls back to the architecture."""
    try:
        record = timm.get_pretrained_cfg(name, allow_unregistered=True)
    except RuntimeError:  # timm knows the architecture and not the tag
        record = None
    if record is None:
        record = timm.get_pretrained_cfg(name.split(".")[0], allow_unregistered=True)
    return record.to_dict() if record is not None else {}
