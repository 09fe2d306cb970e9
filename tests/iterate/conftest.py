"""What tests of updates share."""

import shutil
from pathlib import Path

import pytest

from pangu_cv.iterate import update as stage
from tests.finetune.tiny import Made
from tests.iterate.updating import BLUE, GREEN, RED, folder


@pytest.fixture
def _pages_on_demand(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing a report takes most of an update's time here; tests that read it ask for it."""
    if "with_page" not in request.fixturenames:
        monkeypatch.setattr(stage, "update_report", lambda *_, **__: None)


@pytest.fixture
def with_page() -> None:
    """The report is written."""


@pytest.fixture(scope="module")
def start(classify: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of blue and red, new images of green, and a frozen set of all three."""
    root = tmp_path_factory.mktemp("update")
    shutil.copytree(classify.run, root / "start")
    folder(root / "new", 0, green=GREEN)
    folder(root / "gate", 500, 5, blue=BLUE, green=GREEN, red=RED)
    return root
