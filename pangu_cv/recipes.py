"""The recipes that come with the package: ``<stage>/<name>.yaml``."""

from dataclasses import dataclass
from pathlib import Path

from pangu_cv.errors import SettingsError
from pangu_cv.settings import nearest_path


@dataclass(frozen=True)
class ShippedRecipe:
    """A recipe file with the first line of its comment."""

    stage: str
    name: str
    path: Path
    about: str


def recipes_folder() -> Path:
    """``pangu_cv/_recipes`` of a wheel, or ``recipes`` of a checkout."""
    inside = Path(__file__).parent / "_recipes"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "recipes"


def shipped() -> list[ShippedRecipe]:
    """All recipes, sorted."""
    files = sorted(recipes_folder().rglob("*.yaml"))
    return [
        ShippedRecipe(f.parent.name, f.stem, f, f.read_text(encoding="utf-8").splitlines()[0].lstrip("# "))
        for f in files
    ]


def find(stage: str, name: str) -> Path:
    """A path as given, or a shipped recipe of the stage by its name; raises SettingsError."""
    if Path(name).is_file():
        return Path(name)
    of_stage = {r.name: r.path for r in shipped() if r.stage == stage}
    if name in of_stage:
        return of_stage[name]
    raise SettingsError(
        f"recipe '{name}': no such file{nearest_path(Path(name))}, and no shipped {stage} recipe of that name "
        f"(there are: {', '.join(of_stage)})"
    )
