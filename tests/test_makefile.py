"""What make installs, and that what could not be fetched is tried again."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from requirements import lock

ROOT = Path(__file__).parents[1]
ENGINE = "export/end/node_modules/.package-lock.json"
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="no make")


def make(folder: Path, target: str, *, npm: str) -> None:
    """One target of the Makefile in a folder of its own, with a program in npm's place."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "npm").write_text(f"#!/bin/sh\n{npm}\n")
    (folder / "bin" / "npm").chmod(0o755)
    for name in ("Makefile", "export/end/package.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    calm = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    calm["PATH"] = f"{folder / 'bin'}:{calm['PATH']}"
    done = subprocess.run(["make", target], cwd=folder, env=calm, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@needs_make
def test_engine_that_npm_could_not_fetch_is_tried_again_and_cleaned_away(tmp_path: Path) -> None:
    make(tmp_path, ENGINE, npm="exit 1")
    assert not (tmp_path / ENGINE).exists()
    make(tmp_path, ENGINE, npm="mkdir -p node_modules")
    assert (tmp_path / ENGINE).exists()
    make(tmp_path, ENGINE, npm="rm -r node_modules")  # not called: it is there
    assert (tmp_path / ENGINE).exists()
    make(tmp_path, "clean", npm="")
    assert not (tmp_path / ENGINE).parent.exists()


def test_what_make_installs_with_each_lock_is_all_it_needs() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    train, dev = (
        set(re.findall(rf"^{name} := (.*)$", text, flags=re.MULTILINE)[0].split()) for name in ("TRAIN", "DEV")
    )
    assert set(lock.together("train")) <= train
    assert set().union(*map(lock.together, dev)) <= train | dev
    assert set(lock.together("bench")) <= train | dev | {"bench"}
