"""How long a sub-model takes, added up from parts measured in ONNX Runtime: one block, and all that is not a block.

A kit of small graphs is measured on this machine, or on the device by ``pangu-cv profile KIT``, where there is no
torch. A block's time is taken as linear in its hidden units and everything else as linear in the input's area, which
spares most of the measuring; what goes into the trials is measured as a whole (``settle``).
"""

import copy
import json
import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pangu_cv.distill.shape import Shape
from pangu_cv.errors import SettingsError
from pangu_cv.progress import bar
from pangu_cv.staging import staged_folder
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.graph import OPSET, write_graph

KIT = "pangu-cv-probes"
TABLE = "pangu-cv-latency"
WHOLE = "whole"
_MEASURE = (
    "write this model's kit by probes=FOLDER, run 'pangu-cv profile FOLDER' on the device and bring back its "
    "latency.json"
)


@dataclass(frozen=True)
class Origin:
    """What times are of: the model by its digest, the pixels of what its graph is given, and how often for an image."""

    model: str
    image_hw: tuple[int, int]
    tiles: int = 1

    def to_json(self) -> dict[str, Any]:
        """As it stands in a kit and in what was measured of it: of one call."""
        return {"model": self.model, "image_hw": list(self.image_hw)}


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of every probe; ``patch_px`` and ``prefix`` say how many tokens an input side makes."""

    ms: Mapping[str, float]
    patch_px: int
    prefix: int
    hidden: tuple[int, int]
    sides: tuple[int, ...]

    @property
    def whole_ms(self) -> float:
        """The teacher, from pixels to decision."""
        return self.ms[WHOLE]

    def predict(self, shape: Shape) -> float:
        """Of a sub-model, in milliseconds."""
        tokens = _tokens(shape.image_px, self.patch_px, self.prefix)
        low, high = (self.ms[_block(shape.channels, units, tokens)] for units in self.hidden)
        share = (shape.hidden - self.hidden[0]) / max(self.hidden[1] - self.hidden[0], 1)
        areas = [side * side for side in self.sides]
        rest = float(np.interp(shape.image_px**2, areas, [self.ms[_rest(side)] for side in self.sides]))
        return rest + shape.depth * (low + share * (high - low))


@dataclass(frozen=True)
class ByArithmetic:
    """Where no time is asked for none is measured: times follow the multiplications of the blocks."""

    whole: Shape
    patch_px: int
    prefix: int
    whole_ms: float = 1.0

    @classmethod
    def of(cls, teacher: TaskModel, whole: Shape) -> "ByArithmetic":
        """In shares of the teacher's."""
        return cls(whole, *_patching(teacher))

    def predict(self, shape: Shape) -> float:
        """Of a sub-model, in shares of the teacher's."""
        return self.whole_ms * self._products(shape) / self._products(self.whole)

    def _products(self, shape: Shape) -> int:
        tokens, wide = _tokens(shape.image_px, self.patch_px, self.prefix), shape.channels
        return shape.depth * tokens * wide * (4 * wide + 2 * tokens + 2 * shape.hidden)


def write_kit(teacher: TaskModel, shapes: Sequence[Shape], folder: Path, *, origin: Origin) -> None:
    """Graphs and ``probes.json`` for everything the table needs, whole or not at all."""
    probes: list[dict[str, Any]] = []
    sides = _sides(shapes)
    hidden = _ends(shapes)
    with staged_folder(folder, replaces="probes.json") as staging, bar("writing probes") as progress:
        channels = sorted({(shape.channels, shape.heads) for shape in shapes})
        total, done = len(sides) + 2 * len(channels) + 1, 0
        for side in [*sides, None]:
            name = WHOLE if side is None else _rest(side)
            write_graph(_without_blocks(teacher, side) if side else teacher, staging / f"{name}.onnx", classes=())
            probes.append(image_probe(name, origin))
            progress(done := done + 1, total)
        for (wide, heads), units in product(channels, hidden):
            file = f"block-{wide}-{units}.onnx"
            _write_block(teacher, wide, heads, units, staging / file)
            patch, prefix = _patching(teacher)
            for tokens in sorted({_tokens(shape.image_px, patch, prefix) for shape in shapes}):
                probes.append(_probe(_block(wide, units, tokens), file, "tokens", "float32", [1, tokens, wide]))
            progress(done := done + 1, total)
        write_record(staging, probes, origin)


def write_record(kit: Path, probes: Sequence[Mapping[str, Any]], origin: Origin) -> None:
    """``probes.json`` beside the graphs."""
    record = {"format": KIT, "version": 1, **origin.to_json(), "probes": probes}
    kit.joinpath("probes.json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def read_measured(path: Path) -> dict[str, Any]:
    """What was measured of a kit, as it stands in the file; raises SettingsError where that is no JSON."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"budget.table: {path} cannot be read as JSON ({error})") from None
    return found if isinstance(found, dict) else {}


def times_of_an_image(measured: Mapping[str, Any], origin: Origin, *, threads: int | None) -> dict[str, float]:
    """Milliseconds of every probe, for all tiles of an image.

    Raises SettingsError where they are of another kit or of other ``threads``; ValueError, KeyError, TypeError or
    AttributeError where they are malformed.
    """
    _require_origin(measured, origin, threads)
    if (measured["format"], measured["version"]) != (TABLE, 1):
        raise ValueError(f"{measured['format']!r} version {measured['version']!r}")
    return {name: origin.tiles * float(found["ms"]) for name, found in measured["probes"].items()}


def no_such_table(error: Exception) -> SettingsError:
    """For what ``times_of_an_image`` finds malformed, and for probes that are not there."""
    return SettingsError(f"budget.table: does not fit this model ({type(error).__name__}: {error}); {_MEASURE}")


def read_table(
    measured: Mapping[str, Any],
    teacher: TaskModel,
    shapes: Sequence[Shape],
    *,
    origin: Origin,
    threads: int | None = None,
) -> LatencyTable:
    """What was measured of a kit; raises SettingsError where it is of another kit, or with other ``threads``."""
    try:
        ms = times_of_an_image(measured, origin, threads=threads)
        patch, prefix = _patching(teacher)
        table = LatencyTable(ms, patch, prefix, _ends(shapes), tuple(_sides(shapes)))
        for shape in (*shapes, *(replace(shapes[0], hidden=units) for units in _ends(shapes))):
            table.predict(shape)
        _ = table.whole_ms
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise no_such_table(error) from None
    return table


def _require_origin(measured: Mapping[str, Any], origin: Origin, threads: int | None) -> None:
    """Parts of two models often have the same names and sizes."""
    model, image_hw = measured.get("model"), measured.get("image_hw")
    if model != origin.model:
        raise SettingsError(f"budget.table: was measured of another model ({model}, here {origin.model}); {_MEASURE}")
    if image_hw != list(origin.image_hw):
        raise SettingsError(
            f"budget.table: was measured with images of {image_hw} pixels (height, width), those of data.path are of "
            f"{list(origin.image_hw)}; {_MEASURE}"
        )
    if threads is not None and measured.get("threads") != threads:
        raise SettingsError(
            f"budget.threads: {threads} found, and budget.table was measured with {measured.get('threads')}; leave "
            f"budget.threads out, or measure again by 'pangu-cv profile KIT --threads {threads}'"
        )


def image_probe(name: str, origin: Origin) -> dict[str, Any]:
    """Of a graph from pixels to decision, in a file of that name."""
    return _probe(name, f"{name}.onnx", "image", "uint8", [1, *origin.image_hw, 3])


def _probe(name: str, file: str, given: str, dtype: str, shape: list[int]) -> dict[str, Any]:
    return {"name": name, "file": file, "input": {"name": given, "dtype": dtype, "shape": shape}}


def _block(channels: int, hidden: int, tokens: int) -> str:
    return f"block-{channels}-{hidden}-{tokens}"


def _rest(side: int) -> str:
    return f"rest-{side}"


def _ends(shapes: Sequence[Shape]) -> tuple[int, int]:
    hidden = [shape.hidden for shape in shapes]
    return min(hidden), max(hidden)


def _sides(shapes: Sequence[Shape]) -> list[int]:
    """The smallest, a middle one and the largest."""
    found = sorted({shape.image_px for shape in shapes})
    return sorted({found[0], found[len(found) // 2], found[-1]})


def _patching(teacher: TaskModel) -> tuple[int, int]:
    network = teacher.backbone.network
    return int(network.patch_embed.patch_size[0]), int(network.num_prefix_tokens)


def _tokens(side: int, patch_px: int, prefix: int) -> int:
    return (side // patch_px) ** 2 + prefix


class _Nothing(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def _without_blocks(teacher: TaskModel, side: int) -> TaskModel:
    """The teacher at another input side, its blocks taken out."""
    own: Any = teacher.config
    preprocess = own.preprocess.model_copy(update={"image_px": side})
    config = own.model_copy(
        update={"preprocess": preprocess, "backbone": own.backbone.model_copy(update={"weights": "random"})}
    )
    classes = getattr(teacher, "classes", None)
    model: TaskModel = config.build() if classes is None else config.build(classes)
    if classes is None:
        copied: Any = copy.deepcopy(teacher)
        bank: Any = model
        bank.set_bank(copied.bank_MD)
    network = model.backbone.network
    network.blocks = nn.Sequential(*[_Nothing() for _ in network.blocks])
    return model


def _write_block(teacher: TaskModel, channels: int, heads: int, hidden: int, path: Path) -> None:
    network = teacher.backbone.network
    block = type(network.blocks[0])(
        channels, heads, mlp_ratio=hidden / channels, qkv_bias=network.blocks[0].attn.qkv.bias is not None
    ).eval()
    tokens = torch.zeros(2, 5, channels)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            block,
            (tokens,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["tokens"],
            output_names=["out"],
            dynamic_shapes=({0: torch.export.Dim("N"), 1: torch.export.Dim("T")},),
            verbose=False,
        )
    assert program is not None
    path.write_bytes(program.model_proto.SerializeToString())
