"""What tests of the loop share."""

from pathlib import Path

import pytest

from pangu_cv.workflows.loop import stage
from tests.workflows.loops import card


@pytest.fixture
def settings(tmp_path: Path) -> list[str]:
    return card(tmp_path)


@pytest.fixture
def _no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounds alone; the end and the page are tested once."""
    monkeypatch.setattr(stage, "finish", lambda loop, last: {"verified": {"holds": True}})
    monkeypatch.setattr(stage, "loop_report", lambda *_, **__: None)
