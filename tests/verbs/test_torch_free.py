"""The light verbs give the same answers where nothing of the training side is installed."""

import json
import os
import re
import resource
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from pangu_cv import cli
from pangu_cv.iterate.ledger import Ledger
from tests.finetune.tiny import Made

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
SOURCES = [path for folder in ("pangu_cv", "export/pangu_runtime") for path in (ROOT / folder).rglob("*.py")]
IMPORTED = {
    name
    for path in SOURCES
    for name in re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
}
INSTALLED = packages_distributions()


def imported_of(extra: str) -> set[str]:
    """The modules of an extra's packages that the sources import."""
    packages = {canonicalize_name(Requirement(line).name) for line in EXTRAS[extra]}
    return {name for name in IMPORTED if packages & set(map(canonicalize_name, INSTALLED.get(name, ())))}


TRAINING = sorted(imported_of("train"))
LIGHT = ("data", "inspect", "ledger", "page", "predict", "profile", "recipe", "serve", "verify", "watch", "weights")
HEAVY = sorted(verb for verb in cli.app if verb.isalpha() and verb not in LIGHT)
WITHOUT = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {TRAINING!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from pangu_cv.cli import main
main(sys.argv[1:])
"""


def without_torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", WITHOUT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def in_process(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    assert not stopped.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("kind", ["classify", "anomaly"])
def test_predict_and_verify(kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    made: Made = request.getfixturevalue(kind)
    for command in (
        ["predict", made.bundle, made.data / "test", "--json"],
        ["verify", made.bundle, "--images", made.data / "test", "--json"],
    ):
        alone = without_torch(*command)
        assert alone.returncode == 0, alone.stderr
        expected = [json.loads(line) for line in in_process(capsys, *command).splitlines()]
        assert [json.loads(line) for line in alone.stdout.splitlines()] == expected
        assert expected


def test_profile(anomaly: Made) -> None:
    done = without_torch("profile", anomaly.bundle, "--runs", "2", "--size", "80x60", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["task"] == "anomaly"


def test_heat_maps_are_written(anomaly: Made, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = without_torch("predict", anomaly.bundle, anomaly.images[0], "--out", out)
    assert done.returncode == 0, done.stderr
    assert len(list(out.glob("*.jpg"))) == 1


@pytest.mark.parametrize(
    "command", [["--help"], ["recipe", "list"], ["recipe", "list", "--json"], ["weights", "list", "--json"]]
)
def test_listing(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    alone = without_torch(*command)
    assert alone.returncode == 0, alone.stderr
    assert alone.stdout.split() == in_process(capsys, *command).split()


def test_data_check(classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "check", classify.data, "--json", "--report", tmp_path / "check.html"]
    alone = without_torch(*command)
    assert alone.returncode == 0, alone.stderr
    assert json.loads(alone.stdout) == json.loads(in_process(capsys, *command))
    assert (tmp_path / "check.html").is_file()


def test_recipe_copy(tmp_path: Path) -> None:
    done = without_torch("recipe", "copy", "finetune", "classify", tmp_path / "mine.yaml")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "mine.yaml").is_file()


@pytest.mark.parametrize("verb", HEAVY)
def test_heavy_verbs_say_what_to_install(verb: str) -> None:
    done = without_torch(verb, "a", "b")
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "pip install 'pangu-cv[train]'" in done.stderr
    assert verb in done.stderr


def test_absence_of_each_import_is_told_with_an_extra_that_brings_it() -> None:
    brings = {extra: imported_of(extra) for extra in EXTRAS if extra not in ("bench", "dev")}
    told = {name: cli._EXTRA_OF.get(name, "none") for name in set().union(*brings.values())}
    assert {name: extra for name, extra in told.items() if name not in brings.get(extra, ())} == {}


def test_help_is_quick_and_imports_no_torch() -> None:
    code = (
        "import sys, contextlib\n"
        "from pangu_cv.cli import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['--help'])\n"
        f"assert not set({TRAINING!r}) & set(sys.modules), sorted(set({TRAINING!r}) & set(sys.modules))\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    # processor time, since the wall clock of a busy machine says nothing
    assert after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime < 1.5


def test_a_ledger_is_checked(tmp_path: Path) -> None:
    Ledger(tmp_path / "ledger.jsonl").append("update", model_out="m")
    done = without_torch("ledger", "check", tmp_path / "ledger.jsonl")
    assert done.returncode == 0, done.stderr
    assert "1 entries" in done.stdout
