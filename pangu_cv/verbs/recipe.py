"""``pangu-cv recipe list|copy``."""

import json
import shlex
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pangu_cv import recipes
from pangu_cv.errors import SettingsError
from pangu_cv.staging import write_text


def list_recipes(*, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """List the recipes that come with the package.

    Parameters
    ----------
    as_json
        Print JSON.
    """
    found = recipes.shipped()
    if as_json:
        print(json.dumps([{"stage": r.stage, "name": r.name, "path": str(r.path), "about": r.about} for r in found]))
        return
    for r in found:
        print(f"{r.stage:10} {r.name:12} {r.about}")
    print("\nNext: pangu-cv recipe copy finetune classify my_recipe.yaml")


def copy(stage: str, name: str, target: Path) -> None:
    """Copy a recipe to a file of your own, to edit it.

    Parameters
    ----------
    stage
        The stage it belongs to, e.g. finetune.
    name
        Its name in 'pangu-cv recipe list'.
    target
        Where to write it; an existing file is left alone.
    """
    source = recipes.find(stage, name)
    if target.exists():
        raise SettingsError(f"'{target}' exists already; give another name")
    write_text(target, source.read_text(encoding="utf-8"))
    print(f"wrote {target}")
    for one in recipes.shipped():
        if one.path == source:
            print(f"Next: pangu-cv {one.verb} {shlex.quote(str(target))} {one.wanted}")
