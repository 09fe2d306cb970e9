"""Ways of adapting a pretrained backbone to a task, from touching nothing to training all of it.

LoRA (arXiv 2106.09685, by peft), visual prompts (2203.12119), layer-wise learning rates (BEiT, 2106.08254).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import nn

from pangu_cv.errors import MissingExtraError, SettingsError
from pangu_cv.models.backbone import Backbone
from pangu_cv.settings import Settings

Positive = Annotated[int, Field(ge=1)]
Scale = Annotated[float, Field(gt=0, le=1)]


@dataclass(frozen=True)
class Group:
    """Parameters and their share of the backbone's learning rate."""

    parameters: tuple[nn.Parameter, ...]
    scale: float


class Frozen(Settings):
    """The backbone stays as it is; the head alone learns."""

    kind: Literal["frozen"] = "frozen"
    """The way."""

    def prepare(self, backbone: Backbone) -> list[Group]:
        """Mark what learns, and return it."""
        backbone.requires_grad_(False)
        return []


class Linear(Settings):
    """The backbone stays as it is; a linear head learns by gradient on many variants of each image (classify)."""

    kind: Literal["linear"] = "linear"
    """The way."""

    def prepare(self, backbone: Backbone) -> list[Group]:
        """Mark what learns, and return it."""
        backbone.requires_grad_(False)
        return []


class Moving(Settings):
    """Pretrained weights learn, and may be held near their start."""

    layer_decay: Scale = 0.75
    """Factor of the learning rate from each block to the one before it."""
    l2_sp: Annotated[float, Field(ge=0)] = 0.0
    """Strength of the pull of the weights towards their start (L2-SP, arXiv 1802.01483)."""
    interpolate: Scale = 1.0
    """How far backbone and head are moved from their start to what was trained (WiSE-FT, 2109.01903); 1: all the way.
    A classifier's or tagger's head starts in closed form; that of a detector or segmenter is trained alone first, which
    takes as long again."""


class Partial(Moving):
    """The last blocks learn."""

    kind: Literal["partial"] = "partial"
    """The way."""
    blocks: Positive = 4
    """How many of the last blocks (stages of a CNN)."""
    settled: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dynamic freezing: a block whose relative gradient has sunk below this share of its highest stops learning, from
    the shallow end on; 0 never freezes. Our reading of Pangu's regulariser."""

    def prepare(self, backbone: Backbone) -> list[Group]:
        """Mark what learns, and return it; raises SettingsError for a network that is no row of blocks."""
        blocks = depths(backbone)
        if len(blocks) < 2:
            raise SettingsError(
                f"adapt.kind: partial finds no blocks or stages in '{backbone.config.name}'; networks like ViT, Swin, "
                "ResNet, RegNet, EfficientNet, MobileNet and ConvNeXt have them. Take one of these, or "
                "adapt.kind=full; with auto, give adapt.ways without partial"
            )
        backbone.requires_grad_(False)
        return _layered(blocks[-self.blocks :], self.layer_decay)


class Full(Moving):
    """Everything learns, the shallow blocks slowly."""

    kind: Literal["full"] = "full"
    """The way."""

    def prepare(self, backbone: Backbone) -> list[Group]:
        """Mark what learns, and return it."""
        backbone.requires_grad_(False)
        blocks, everything = depths(backbone), list(backbone.parameters())
        inner = {id(p) for block in blocks for p in block.parameters()}
        last = max(at for at, p in enumerate(everything) if id(p) in inner)
        stem = tuple(p for p in everything[:last] if id(p) not in inner)
        behind = tuple(everything[last + 1 :])  # a ViT's last norm, a CNN's last convolution
        for parameter in (*stem, *behind):
            parameter.requires_grad_(True)
        deepest, *others = _layered(blocks, self.layer_decay)
        deepest = Group((*deepest.parameters, *behind), deepest.scale)
        return [deepest, *others, Group(stem, self.layer_decay ** len(blocks))]


class Lora(Settings):
    """Small low-rank matrices beside those of attention and MLP learn; they are folded into the weights at the end."""

    kind: Literal["lora"] = "lora"
    """The way."""
    rank: Positive = 8
    """Their rank."""
    alpha: Annotated[float, Field(gt=0)] = 16.0
    """Their scale is alpha / rank."""
    modules: tuple[str, ...] = ("qkv", "proj", "fc1", "fc2")
    """Linear layers of a ViT they stand beside, by the end of their name."""

    def prepare(self, backbone: Backbone) -> list[Group]:
        """Put the matrices in, and return them."""
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError:
            raise MissingExtraError("finetune with adapt.kind=lora", "lora", "peft") from None
        backbone.requires_grad_(False)
        linear = [name for name, layer in backbone.network.named_modules() if isinstance(layer, nn.Linear)]
        names = {name.rsplit(".", 1)[-1] for name in linear}
        # By their whole names: the convolution of a patch embedding ends in 'proj' too.
        found = [name for name in linear if name.rsplit(".", 1)[-1] in self.modules]
        if not found:
            raise SettingsError(
                f"adapt.kind: lora finds none of {list(self.modules)} in '{backbone.config.name}' (linear layers: "
                f"{', '.join(sorted(names)) or 'none'}); choose a ViT, or adapt.kind=partial"
            )
        config = LoraConfig(r=self.rank, lora_alpha=self.alpha, target_modules=found, lora_dropout=0.0)
        inject_adapter_in_model(config, backbone.network)
        return [Group(tuple(p for p in backbone.parameters() if p.requires_grad), 1.0)]


class Prompt(Settings):
    """A few learnt tokens beside the patches (arXiv 2203.12119, the shallow kind); everything else stays as it is.

    They are a ViT's register tokens, so that what remains is a plain timm network with ``reg_tokens``.
    """

    kind: Literal["prompt"] = "prompt"
    """The way."""
    tokens: Annotated[int, Field(ge=1, le=256)] = 16
    """How many."""

    def prepare(self, backbone: Backbone) -> list[Group]:
        """Put the tokens in, and return them."""
        old = backbone.network
        if not hasattr(old, "reg_token") or getattr(old, "reg_token", None) is not None or old.pos_embed is None:
            raise SettingsError(
                f"adapt.kind: prompt needs a ViT with learnt positions and without register tokens; "
                f"'{backbone.config.name}' is none. Take lora or partial"
            )
        config = backbone.config
        grown = config.model_copy(
            update={"weights": "random", "arguments": {**config.arguments, "reg_tokens": self.tokens}}
        ).build()
        state = dict(old.state_dict())
        if not old.no_embed_class:  # positions: class token, prompts, patches
            position, before = state["pos_embed"], old.num_prefix_tokens
            of_prompts = position.new_zeros(1, self.tokens, position.shape[2])
            state["pos_embed"] = torch.cat([position[:, :before], of_prompts, position[:, before:]], 1)
        generator = torch.Generator().manual_seed(0)
        width = state["norm.weight"].shape[0]
        state["reg_token"] = 0.02 * torch.randn(1, self.tokens, width, generator=generator)
        grown.network.load_state_dict(state)
        backbone.network, backbone.config = grown.network, grown.config.model_copy(update={"weights": config.weights})
        backbone.requires_grad_(False)
        backbone.network.reg_token.requires_grad_(True)
        return [Group((backbone.network.reg_token,), 10.0)]  # alone and small, they bear a higher rate


Adapt = Annotated[Frozen | Linear | Partial | Full | Lora | Prompt, Field(discriminator="kind")]


def settle(backbone: Backbone) -> None:
    """After training: fold what was put beside the weights into them, so that a plain timm network remains."""
    for name, module in list(backbone.network.named_modules()):
        if hasattr(module, "merge") and hasattr(module, "get_base_layer"):
            module.merge(safe_merge=True)
            parent = backbone.network.get_submodule(name.rpartition(".")[0])
            setattr(parent, name.rpartition(".")[2], module.get_base_layer())
    backbone.requires_grad_(False)
    backbone.eval()


def depths(backbone: Backbone) -> list[nn.Module]:
    """Blocks of a ViT or stages of a CNN, the shallowest first; where timm names none, the network as one."""
    children = dict(backbone.network.named_children())
    for name in ("blocks", "stages", "layers"):
        if isinstance(row := children.get(name), nn.Sequential | nn.ModuleList) and len(row):
            return list(row)
    for name in ("layer", "s"):  # a ResNet's, a RegNet's
        if numbered := [children[key] for n in range(1, 9) if (key := f"{name}{n}") in children]:
            return numbered
    return [backbone.network]


def _layered(blocks: list[nn.Module], decay: float) -> list[Group]:
    return list(_groups(blocks, decay))


def _groups(blocks: list[nn.Module], decay: float) -> Iterator[Group]:
    for above, block in enumerate(reversed(blocks)):
        block.requires_grad_(True)
        yield Group(tuple(block.parameters()), decay**above)


def learning(parts: list[Group]) -> int:
    """How many numbers learn."""
    return sum(p.numel() for group in parts for p in group.parameters)
