"""What the program does before any verb begins."""

import io
import subprocess
import sys
from pathlib import Path

import pytest

from pangu_cv import cli


def test_name_in_bytes_that_are_no_utf8_is_printed_as_escapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="utf-8", errors="strict", write_through=True))
    with pytest.raises(SystemExit) as stopped:
        cli.main(["recipe", "copy", "finetune", "classify", str(tmp_path / "\udcd6\udcd0.yaml")])
    assert not stopped.value.code
    assert rb"\udcd6\udcd0.yaml" in shown.getvalue()


def test_a_verb_that_needs_unix_says_so() -> None:
    code = "import sys; sys.modules['fcntl'] = None; from pangu_cv.cli import main; main(['ledger', 'check', 'x'])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert told.returncode == 2
    assert told.stderr == "error: 'pangu-cv ledger' needs Linux or another Unix; on Windows run it in WSL 2\n"
