"""``pangu-cv page``: a static page that runs a bundle in any browser or phone."""

import sys
from pathlib import Path

from pangu_cv.errors import DataError
from pangu_cv.staging import staged_folder
from pangu_runtime.bundle import open_bundle
from pangu_runtime.web.site import write_site


def page(bundle: Path, *, out: Path, engine: Path = Path("node_modules/onnxruntime-web")) -> None:
    """Write a static page that decides on the device itself, offline after the first load. Runs without torch.

    Images do not leave the device. At its start the page checks the bundle's sums and gives its certified answers
    again. Serve OUT by any web server: over https for camera and offline use, or on localhost.

    Parameters
    ----------
    bundle
        The folder that 'pangu-cv export' wrote.
    out
        A new folder for the page.
    engine
        The npm package onnxruntime-web, as 'npm install onnxruntime-web' leaves it.
    """
    if out.exists():
        raise DataError(f"'{out}' exists already; give --out a new folder")
    opened = open_bundle(bundle)
    with staged_folder(out) as staging:
        write_site(opened, engine, staging)
    print(f"wrote {out}; try it: python3 -m http.server --directory {out}", file=sys.stderr)
