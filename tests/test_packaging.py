"""What the wheel carries, that its runtime half works without torch, and that the lock agrees with the bounds."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted((ROOT / "requirements").glob("*.lock"))
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


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
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


def pins(lock: Path) -> dict[str, str]:
    """Names and versions of a lock file; every other line must be a hash or a comment."""
    found = {}
    for line in lock.read_text(encoding="utf-8").splitlines():
        if pin := re.fullmatch(r"([a-z0-9-]+)==(\S+) \\", line):
            found[pin[1]] = pin[2]
        else:
            assert re.fullmatch(r"(    --hash=sha256:[0-9a-f]{64}( \\)?|\s*#.*|)", line), line
    return found


def test_lock_holds_every_requirement_within_its_bounds() -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    groups = [PYPROJECT["project"]["dependencies"], PYPROJECT["build-system"]["requires"]]
    groups += [extras[name] for name in ("train", "dev", "bench")]
    locked = {name: version for lock in LOCKS for name, version in pins(lock).items()}
    for requirement in (Requirement(line) for group in groups for line in group):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}; run make lock"


def test_lock_names_no_package_twice_and_no_place() -> None:
    names = [name for lock in LOCKS for name in pins(lock)]
    assert len(names) == len(set(names)) > 100
    assert not [lock.name for lock in LOCKS if re.search(r"://|file:|@ ", lock.read_text(encoding="utf-8"))]
