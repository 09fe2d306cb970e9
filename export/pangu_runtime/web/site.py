"""Puts together a page that decides by itself: the page, a bundle, onnxruntime-web; any web server can serve it."""

import hashlib
import json
import shutil
from importlib import metadata, resources
from pathlib import Path

from pangu_runtime.bundle import Bundle
from pangu_runtime.errors import RuntimeLimitError

PAGE = {"device.html": "index.html", "device.mjs": "device.mjs", "bundle.mjs": "bundle.mjs", "show.mjs": "show.mjs"}
PAGE |= {"style.css": "style.css", "tiles.mjs": "tiles.mjs", "decide.mjs": "decide.mjs"}
ENGINE = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")


def write_site(bundle: Bundle, engine: Path, folder: Path) -> None:
    """Write into an empty folder; ``engine`` is the folder of the npm package onnxruntime-web.

    Raises RuntimeLimitError where the package is not there.
    """
    missing = [name for name in ENGINE if not (engine / "dist" / name).is_file()]
    if missing:
        raise RuntimeLimitError(
            f"{engine}: holds no dist/{missing[0]}; fetch the package by 'npm install onnxruntime-web' and name "
            "node_modules/onnxruntime-web"
        )
    others = shutil.ignore_patterns("model.*.onnx")  # other precisions: the page runs model.onnx, at full precision
    shutil.copytree(bundle.folder, folder / "bundle", ignore=others)
    (folder / "onnxruntime").mkdir()
    for name in ENGINE:
        shutil.copyfile(engine / "dist" / name, folder / "onnxruntime" / name)
    for source, target in PAGE.items():
        (folder / target).write_text(_asset(source), encoding="utf-8")
    (folder / "LICENSES.txt").write_text(_licences(), encoding="utf-8")
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    sums = hashlib.sha256()
    for name in files:
        sums.update((folder / name).read_bytes())
    worker = _asset("offline.js").replace("@VERSION@", sums.hexdigest()[:16])
    listed = json.dumps(["./", *files])
    (folder / "offline.js").write_text(worker.replace("@FILES@", listed), encoding="utf-8")


def _licences() -> str:
    """Whoever serves the site passes on this package and ONNX Runtime: both ask for their texts to go along."""
    own = metadata.distribution("pangu-cv")
    texts = [own.read_text(f"licenses/{name}") or "" for name in ("NOTICE", "LICENSE")]
    return f"\n\n{'=' * 80}\n\n".join([*texts, _asset("onnxruntime_license.txt")])


def _asset(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
