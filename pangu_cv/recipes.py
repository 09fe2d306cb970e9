"""The recipes that come with the package: ``<stage>/<name>.yaml``.

A recipe's comment opens with what it is, and has the command that runs it: ``#   pangu-cv VERB NAME key=value ...``.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from pangu_cv.errors import SettingsError
from pangu_cv.settings import nearest_path


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe file with the first line of its comment, the verb that takes it and the settings it is in want of."""

    stage: str
    name: str
    path: Path
    about: str
    verb: str
    wanted: str

    @classmethod
    def read(cls, path: Path) -> "ShippedRecipe":
        """A file of the package."""
        text, name = path.read_text(encoding="utf-8"), path.stem
        command = re.search(rf"^#   pangu-cv (\w+) {name} (.+)$", text, flags=re.MULTILINE)
        assert command is not None, f"{path} says which command runs it"
        return cls(path.parent.name, name, path, text.splitlines()[0].lstrip("# "), *command.groups())


def recipes_folder() -> Path:
    """``pangu_cv/_recipes`` of a wheel, or ``recipes`` of a checkout."""
    inside = Path(__file__).parent / "_recipes"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "recipes"


def shipped() -> list[ShippedRecipe]:
    """All recipes, sorted."""
    return [ShippedRecipe.read(path) for path in sorted(recipes_folder().rglob("*.yaml"))]


def find(stage: str, name: str) -> Path:
    """A path as given, or a shipped recipe of the stage by its name; raises SettingsError."""
    if Path(name).is_file():
        return Path(name)
    of_stage = {r.name: r for r in shipped() if r.stage == stage}
    if name in of_stage:
        return of_stage[name].path
    raise SettingsError(
        f"recipe '{name}': no such file{nearest_path(Path(name))}, and no shipped {stage} recipe of that name "
        f"(there are: {', '.join(of_stage)})"
    )
