"""``pangu-cv verify``: is this bundle what was certified, and does this machine decide the same?"""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pangu_cv.errors import BundleError
from pangu_runtime import certificate, golden
from pangu_runtime.bundle import open_bundle
from pangu_runtime.images import list_images
from pangu_runtime.predictor import Predictor


def verify(
    bundle: Path,
    *,
    images: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Check a bundle: sums, format, golden replay; with images, its certificate again. Runs without torch.

    Parameters
    ----------
    bundle
        The folder that 'pangu-cv export' wrote.
    images
        An image or folder of those it was certified on: this machine's answers are compared with the recorded ones.
    as_json
        Print JSON.
    """
    predictor = Predictor(open_bundle(bundle))
    replay = golden.replay(predictor)
    certificate.check(predictor)
    result = {"bundle": str(bundle), "task": predictor.bundle.task, "sums": "ok", "golden": replay.difference.to_json()}
    lines = [
        f"sums and format   ok ({predictor.bundle.task})",
        f"golden replay     ok ({replay.images} images, scores within {replay.difference.score:.1e})",
    ]
    if images is not None:
        again = certificate.recheck(predictor, list_images(images))
        result["certificate"] = {"checked": again.checked, "unknown": again.unknown, **again.difference.to_json()}
        if again.checked == 0:
            raise BundleError(
                f"{bundle}: none of the {again.unknown} images in '{images}' is in the certificate; it knows images by "
                "their bytes, so give the files it was exported with"
            )
        if not again.holds:
            raise BundleError(
                f"{bundle}: on {again.checked} certified images this machine flips {again.difference.flips} decisions, "
                f"scores differ by {again.difference.score:.2g} (limit {again.limits.score:.2g})"
            )
        others = f", {again.unknown} others not in it" if again.unknown else ""
        lines.append(f"certificate       ok ({again.checked} images, 0 flips{others})")
    print(json.dumps(result) if as_json else "\n".join(lines))
