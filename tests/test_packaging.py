"""What the wheel and the image carry, and that the runtime half works without torch."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pangu_cv.models import text_tower, weights
from tests.test_locks import pins

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "export" / "cloud" / "Dockerfile").read_text(encoding="utf-8")
WITHOUT_TORCH = """
import sys
class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "torchvision", "timm", "pangu_cv"}:
            raise ImportError(f"{name} is not for the line")
sys.meta_path.insert(0, NoTorch())
sys.path.insert(0, sys.argv[1])
import pangu_runtime, pangu_runtime.decode, pangu_runtime.predictor
assert pangu_runtime.__file__.startswith(sys.argv[1]), pangu_runtime.__file__
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder))
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    return zipfile.ZipFile(wheel).namelist()


def run(*command: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def test_wheel_carries_both_packages_and_every_recipe(names: list[str]) -> None:
    sources = [*(ROOT / "pangu_cv").rglob("*.py"), *(ROOT / "export" / "pangu_runtime").rglob("*.py")]
    modules = {path.relative_to(ROOT).as_posix().removeprefix("export/") for path in sources}
    recipes = {f"pangu_cv/_recipes/{path.relative_to(ROOT / 'recipes').as_posix()}" for path in recipe_files()}
    assert recipes
    assert modules | recipes <= set(names)


def recipe_files() -> list[Path]:
    return list((ROOT / "recipes").rglob("*.yaml"))


def test_wheel_carries_nothing_else(wheel: Path, names: list[str]) -> None:
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"pangu_cv", "pangu_runtime"}
    assert not [name for name in names if re.search(r"(^|/)(test_|tests/|conftest)", name)]
    heavy = [name for name in names if name.endswith((".pth", ".pt", ".safetensors", ".onnx", ".npy", ".npz"))]
    assert heavy == ["pangu_cv/models/embedded/vit_tiny_patch16_224.pangu_cv_embedded.safetensors"]
    assert "pangu_cv/models/embedded/MODEL_CARD.md" in names
    assert wheel.stat().st_size < 13_000_000


def test_wheel_carries_licence_and_notice(wheel: Path, names: list[str]) -> None:
    with zipfile.ZipFile(wheel) as archive:
        texts = {Path(name).name: archive.read(name).decode() for name in names if "/licenses/" in name}
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in texts["LICENSE"]
    assert "not affiliated with" in texts["NOTICE"]
    assert metadata(wheel)["License-Expression"] == "Apache-2.0"


def test_base_install_has_no_torch(wheel: Path) -> None:
    required = [Requirement(line) for line in metadata(wheel).get_all("Requires-Dist", [])]
    base = {canonicalize_name(r.name) for r in required if r.marker is None}
    assert base == {"numpy", "onnxruntime", "pillow", "pydantic", "cyclopts", "rich", "pyyaml"}
    assert not {"torch", "torchvision", "timm"} & set(pins(ROOT / "requirements" / "base.lock"))


def test_installed_runtime_works_without_torch(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-index"]
    run(*pip, "--no-deps", "--no-compile", "--target", str(target), str(wheel))
    run(sys.executable, "-W", "error", "-c", WITHOUT_TORCH, str(target))


def test_image_is_built_of_all_that_the_wheel_is_made_of(names: list[str], tmp_path: Path) -> None:
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, flags=re.MULTILINE):
        *sources, target = line.split()
        for source in sources:
            place = tmp_path / target.removeprefix("/")
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place)
            else:
                place.mkdir(exist_ok=True)
                shutil.copy(ROOT / source, place)
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path), cwd=tmp_path / "src")
    (built,) = tmp_path.glob("*.whl")
    assert set(zipfile.ZipFile(built).namelist()) == set(names)


def test_image_serves_bundles_and_nothing_that_lies_beside_them(tmp_path: Path) -> None:
    for name in ("steel/bundle.json", "two words/bundle.json", "steel.triton/steel/config.pbtxt", "steel.report.html"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    program = tmp_path / "bin" / "pangu-cv"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nprintf '%s\\n' \"$@\"\n")
    program.chmod(0o755)
    command = json.loads(re.findall(r"^CMD (.*)$", DOCKERFILE, flags=re.MULTILINE)[-1])
    command = [part.replace("/bundles", str(tmp_path)) for part in command]
    path = f"{program.parent}:/usr/bin:/bin"
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": path})
    served = [str(tmp_path / name) for name in ("steel", "two words")]
    assert done.stdout.splitlines() == ["serve", *served, "--host", "0.0.0.0"]


def test_notice_names_the_weights_of_others() -> None:
    notice = (ROOT / "NOTICE").read_text(encoding="utf-8")
    others = [one for one in weights.KNOWN if one.package != "pangu-cv"]
    names = {name for one in others for name in (one.name, one.package) if name}
    names.add(text_tower._MINILM_FILE.partition("/")[0].replace("_", "-"))
    assert sorted(name for name in names if name not in notice) == []
