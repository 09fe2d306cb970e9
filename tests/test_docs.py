"""What a reader copies from the pages is a command that the program takes."""

import re
import shlex
from pathlib import Path

from pangu_cv import recipes
from pangu_cv.settings import Settings
from pangu_cv.workflows.loop import LoopRecipe
from tests.test_recipes import TAKES

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *(page for page in sorted((ROOT / "docs").glob("*.md")) if page.name != "LOG.md")]


def loaded(page: Path) -> list[Settings]:
    """The recipes of a page's commands, with their settings; flags left out."""
    blocks = "\n".join(re.findall(r"^```\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL))
    found = []
    for line in blocks.replace("\\\n", " ").splitlines():
        program, verb, name, *words = [*shlex.split(line, comments=True), "", "", ""]
        if program == "pangu-cv" and verb in TAKES:
            path = next(one.path for one in recipes.shipped() if (one.verb, one.name) == (verb, name))
            found.append(TAKES[verb].load(path, [word for word in words if "=" in word and not word.startswith("--")]))
    return found


def test_every_command_with_a_recipe_is_whole() -> None:
    assert sum(len(loaded(page)) for page in PAGES) > 10


def test_the_case_of_the_power_line_is_told_with_the_settings_it_was_run_with() -> None:
    page = ROOT / "docs" / "POWER_LINE.md"
    (asked,) = re.findall(r"`gate_images=(\d+)`", page.read_text(encoding="utf-8"))
    loops = [one for one in loaded(page) if isinstance(one, LoopRecipe)]
    assert [one.gate_images for one in loops] == [int(asked)]
