"""``pangu-cv verify``: is this bundle what was certified, and does this machine decide the same?"""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv.errors import BundleError
from pangu_runtime import certificate, golden
from pangu_runtime.bundle import Precision, open_bundle
from pangu_runtime.images import list_images
from pangu_runtime.predictor import Predictor


def verify(
    bundle: Path,
    *,
    images: Path | None = None,
    precision: Precision | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Check a bundle: sums, format, golden replay; with images, its certificate again. Runs without torch.

    Parameters
    ----------
    bundle
        The folder that 'pangu-cv export' wrote.
    images
        An image or folder of those it was certified on: this machine's answers are compared with the recorded ones.
    precision
        Check this one alone; default: all that the bundle holds.
    as_json
        Print JSON.
    """
    opened = open_bundle(bundle)
    paths = None if images is None else list_images(images)
    checked = opened.precisions if precision is None else (precision,)
    result: dict[str, Any] = {"bundle": str(bundle), "task": opened.task, "sums": "ok"}
    lines = [f"sums and format   ok ({opened.task})"]
    for one in checked:
        found = result if one == "fp32" else result.setdefault(one, {})
        prefix = "" if len(opened.precisions) == 1 else f"{one}: "
        lines += _verified(Predictor(opened, precision=one), paths, images, found, prefix)
    print(json.dumps(result) if as_json else "\n".join(lines))


def _verified(
    predictor: Predictor, paths: tuple[Path, ...] | None, images: Path | None, found: dict[str, Any], prefix: str
) -> list[str]:
    """Lines for people; figures go into ``found``."""
    bundle = predictor.bundle.folder
    replay = golden.replay(predictor)
    certificate.check(predictor)
    found["golden"] = replay.difference.to_json()
    lines = [f"golden replay     ok ({prefix}{replay.images} images, scores within {replay.difference.score:.1e})"]
    if paths is None:
        return lines
    again = certificate.recheck(predictor, paths)
    found["certificate"] = {"checked": again.checked, "unknown": again.unknown, **again.difference.to_json()}
    if again.checked == 0:
        raise BundleError(
            f"{bundle}: none of the {again.unknown} images in '{images}' is in the certificate; it knows images by "
            "their bytes, so give the files it was exported with"
        )
    if not again.holds:
        raise BundleError(
            f"{bundle}: {prefix}on {again.checked} certified images this machine flips {again.difference.flips} "
            f"decisions, scores differ by {again.difference.score:.2g} (limit {again.limits.score:.2g})"
        )
    others = f", {again.unknown} others not in it" if again.unknown else ""
    lines.append(f"certificate       ok ({prefix}{again.checked} images, {again.difference.flips} flips{others})")
    return lines
