"""The locks agree with the bounds, and each says truly what it must be installed with."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from requirements import lock

PYPROJECT = tomllib.loads((lock.HERE.parent / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = sorted(lock.HERE.glob("*.lock"))


def pins(path: Path) -> dict[str, str]:
    """Names and versions of a lock file; every other line must be a hash or a comment."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if pin := re.fullmatch(r"([a-z0-9-]+)==(\S+) \\", line):
            found[pin[1]] = pin[2]
        else:
            assert re.fullmatch(r"(    --hash=sha256:[0-9a-f]{64}( \\)?|\s*#.*|)", line), line
    return found


def test_each_extra_has_its_lock() -> None:
    assert {path.stem for path in LOCKS} == {"base", "build", *PYPROJECT["project"]["optional-dependencies"]}


def test_lock_holds_every_requirement_within_its_bounds() -> None:
    locked = {name: version for path in LOCKS for name, version in pins(path).items()}
    for requirement in (one for group in lock.groups(PYPROJECT).values() for one in group):
        version = locked[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}; run make lock"


def test_lock_names_no_package_twice_and_no_place() -> None:
    names = [name for path in LOCKS for name in pins(path)]
    assert len(names) == len(set(names)) > 100
    assert not [path.name for path in LOCKS if re.search(r"://|file:|@ ", path.read_text(encoding="utf-8"))]


def installed_pin(name: str, version: str) -> lock.Pin | None:
    """What is locked, with its requirements, where that version is installed here."""
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    requires = tuple(Requirement(line) for line in found.requires or ())
    return lock.Pin(name, version, requires) if found.version == version else None


@pytest.mark.parametrize("group", lock.ABOUT)
def test_a_lock_needs_no_more_than_itself_and_those_it_names(group: str) -> None:
    """As far as the installed packages tell; what 'pip install --no-deps' of these files gives can be imported."""
    locked = {
        name: version for one in lock.together(group) for name, version in pins(lock.HERE / f"{one}.lock").items()
    }
    found = {name: installed_pin(name, version) for name, version in locked.items()}
    if absent := [name for name, pin in found.items() if pin is None]:
        pytest.skip(f"not installed as locked: {', '.join(absent[:5])}")
    held = {name: pin for name, pin in found.items() if pin is not None}
    needed = set(lock.reached(lock.groups(PYPROJECT)[group], held, "here"))  # KeyError: in none of these locks
    assert set(pins(lock.HERE / f"{group}.lock")) <= needed


def test_package_goes_to_the_first_group_that_needs_it() -> None:
    needed = {"base": {"a"}, "serve": {"a", "b"}, "train": {"b", "c"}, "dino": {"c"}}
    assert lock.shared_out(needed) == {"base": ["a"], "serve": ["b"], "train": ["c"], "dino": []}
    with pytest.raises(AssertionError, match=r"text lacks \['d'\]"):
        lock.shared_out({"dino": {"d"}, "text": {"d"}})


@pytest.mark.parametrize("group", lock.ABOUT)
def test_lock_opens_with_what_it_is_for(group: str) -> None:
    header = lock.HEADER.format(about=lock.about(group), pythons=" and ".join(lock.PYTHONS))
    assert (lock.HERE / f"{group}.lock").read_text(encoding="utf-8").startswith(f"{header}\n")
