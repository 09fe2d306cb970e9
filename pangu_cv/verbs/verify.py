"""``pangu-cv verify``: is this bundle what was certified, and does this machine decide the same?"""

import json
import re
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv.errors import BundleError, SettingsError
from pangu_runtime import certificate, golden
from pangu_runtime.bundle import Precision, fingerprint, open_bundle
from pangu_runtime.images import list_images
from pangu_runtime.predictor import Predictor


def verify(
    bundle: Path,
    *,
    images: Path | None = None,
    precision: Precision | None = None,
    sha256: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Check a bundle: sums, format, golden replay, certificate; with images, its answers again. Runs without torch.

    Who can write into a bundle can write its records anew too. What he cannot change is a fingerprint that was kept
    elsewhere: 'pangu-cv export' prints it, and --sha256 holds the bundle to it.

    Parameters
    ----------
    bundle
        The folder that 'pangu-cv export' wrote.
    images
        An image or folder of those it was certified on: this machine's answers are compared with the recorded ones.
    precision
        Check this one alone; default: all that the bundle holds.
    sha256
        The fingerprint that 'pangu-cv export' printed: any other bundle is refused, whatever its own records say.
    as_json
        Print JSON.
    """
    opened = open_bundle(bundle)
    pin = _fingerprint(bundle, sha256)
    paths = None if images is None else list_images(images)
    checked = opened.precisions if precision is None else (precision,)
    result: dict[str, Any] = {"bundle": str(bundle), "task": opened.task, "sums": "ok", "fingerprint": pin}
    lines = [
        f"fingerprint       {pin} ({'the one asked for' if sha256 else 'compare it with the one of the export'})",
        f"sums and format   ok ({opened.task})",
    ]
    for one in checked:
        found = result if one == "fp32" else result.setdefault(one, {})
        prefix = "" if len(opened.precisions) == 1 else f"{one}: "
        lines += _verified(Predictor(opened, precision=one), paths, images, found, prefix)
    if paths is None:
        lines.append("certificate       of these files; give --images to compare this machine's answers with it")
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
    worst, limits = again.difference, again.limits
    found["certificate"] = {"checked": again.checked, "unknown": again.unknown, **worst.to_json()}
    if again.checked == 0:
        raise BundleError(
            f"{bundle}: none of the {again.unknown} images in '{images}' is in the certificate; it knows images by "
            "their bytes, so give the files it was exported with"
        )
    if not again.holds:
        raise BundleError(
            f"{bundle}: {prefix}on {again.checked} certified images this machine flips {worst.flips} decisions (limit "
            f"{limits.flips}), scores differ by {worst.score:.2g} (limit {limits.score:.2g}), maps by "
            f"{worst.map:.2g} (limit {limits.map:.2g})"
        )
    others = f", {again.unknown} others not in it" if again.unknown else ""
    within = f"{worst.flips} flips, scores within {worst.score:.1e}"
    lines.append(f"certificate       ok ({prefix}{again.checked} images, {within}{others})")
    return lines


def _fingerprint(bundle: Path, expected: str | None) -> str:
    """The bundle's; raises where it is not the one that is expected."""
    found = fingerprint(bundle)
    if expected is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", expected):
        raise SettingsError(
            f"--sha256: '{expected}' found; the 64 hex digits that 'pangu-cv export' printed are needed"
        )
    if expected is not None and expected.lower() != found:
        raise BundleError(
            f"{bundle}: its fingerprint is {found}, not the one that was asked for: it is not the bundle that was "
            "exported then; its files agree with each other, so somebody made it so, or it is another export"
        )
    return found
