"""A checkpoint: a folder with one safetensors file per component and ``model.json``; nothing is ever unpickled."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pangu_cv.errors import CheckpointError
from pangu_cv.settings import nearest_path
from pangu_cv.staging import staged_folder

FORMAT = "pangu-cv-checkpoint"
VERSION = 1
Components = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by component (``backbone``, ``head``, ``bank``, …) and the plain values of ``model.json``."""

    components: Components
    manifest: dict[str, Any]


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write the folder whole or not at all, replacing an earlier checkpoint there."""
    with staged_folder(folder, replaces="model.json") as staging:
        for name, tensors in checkpoint.components.items():
            _write(staging / f"{name}.safetensors", tensors)
        head = {"format": FORMAT, "version": VERSION, "components": sorted(checkpoint.components)}
        staging.joinpath("model.json").write_text(json.dumps(head | checkpoint.manifest, indent=2), encoding="utf-8")


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raises OSError, a full disk above all, which safetensors tells as an error of its own."""
    try:
        save_file({key: value.contiguous() for key, value in tensors.items()}, path)
    except SafetensorError as error:
        raise OSError(f"{path}: cannot be written ({error})") from None


def load(folder: Path) -> Checkpoint:
    """Read a checkpoint; raises CheckpointError for anything that is not one, pickles above all."""
    path = folder / "model.json"
    if not path.is_file():
        raise CheckpointError(_what_it_is(folder))
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        names = [str(name) for name in manifest["components"]]
        found = (manifest["format"], manifest["version"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: malformed ({type(error).__name__}: {error})") from None
    if found != (FORMAT, VERSION):
        raise CheckpointError(f"{path}: {found} found; this version reads {(FORMAT, VERSION)}")
    if any(not name.isidentifier() for name in names):
        raise CheckpointError(f"{path}: component names {names} are not plain words")
    return Checkpoint({name: _tensors(folder / f"{name}.safetensors") for name in names}, manifest)


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except FileNotFoundError:
        raise CheckpointError(f"{path}: is missing; the checkpoint is incomplete") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is not a safetensors file ({error}); pickles are never loaded") from None


def _what_it_is(folder: Path) -> str:
    if folder.is_file():
        return (
            f"'{folder}' is a file; a checkpoint is a folder with model.json and safetensors files. "
            "Pickled checkpoints (.pt, .pth, .ckpt, .bin) are not loaded, since loading one can run any code; "
            "weights can be given as backbone.weights=FILE, which reads tensors only"
        )
    if not folder.exists():
        return f"'{folder}' does not exist{nearest_path(folder)}"
    return f"'{folder}' holds no model.json; a checkpoint is the folder that 'pangu-cv finetune' names at its end"
