"""The bundle in a headless Chromium and in Node: labels against Python's, and how soon the first result comes."""

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.deploy_site import Site, node_script, site_of
from benchmarks.deploy_subjects import prepare
from benchmarks.deploy_turns import spread_of
from benchmarks.isolate import NotRunError
from benchmarks.latency import spread, summary
from pangu_runtime.predictor import ClassPrediction, Predictor

IMAGES, LOADS = 50, 5
_PATIENCE_MS = 120_000
_READY = "certified answers given again"
_SESSION = """async () => {
  const start = performance.now();
  const ort = await import("/onnxruntime/ort.wasm.min.mjs");
  ort.env.wasm.wasmPaths = new URL("/onnxruntime/", location.href).href;
  ort.env.wasm.numThreads = 1;
  const model = new Uint8Array(await (await fetch("/bundle/model.onnx")).arrayBuffer());
  const fetched = performance.now();
  await ort.InferenceSession.create(model, { logSeverityLevel: 3 });
  return { fetch_ms: fetched - start, session_ms: performance.now() - fetched };
}"""


def browser(*, data: str, is_quick: bool, model: str) -> dict[str, Any]:
    """A page of a classifier in Chromium."""
    prepared = prepare(model, Path(data))
    paths = spread(prepared.test, 6 if is_quick else IMAGES)
    return {"model": model} | in_browser(prepared.bundle, paths, loads=1 if is_quick else LOADS)


def node(*, data: str, is_quick: bool, model: str) -> dict[str, Any]:
    """The script in Node."""
    prepared = prepare(model, Path(data))
    return {"model": model} | in_node(prepared.bundle, spread(prepared.test, 6 if is_quick else IMAGES))


def in_browser(bundle: Path, paths: Sequence[Path], *, loads: int) -> dict[str, Any]:
    """Fresh browsers load the page and decide the first image; the last one decides them all."""
    sync_api, executable = _chromium()
    runs = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "site"
        with site_of(bundle, folder) as site, sync_api.sync_playwright() as play:
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            for number in range(loads):
                chromium = play.chromium.launch(executable_path=executable, args=["--no-sandbox"])
                version, is_last = chromium.version, number == loads - 1
                runs.append(_load(chromium, site, paths if is_last else paths[:1]))
                if number == 0:
                    runs[0] |= _session(chromium, site)
                chromium.close()
    last = runs[-1]
    return {
        "browser": f"Chromium {version}",
        "loads": loads,
        "first_result_ms": spread_of([run["first_result_ms"] for run in runs]),
        "ready_ms": spread_of([run["ready_ms"] for run in runs]),
        "session_ms": runs[0]["session_ms"],
        "fetch_ms": runs[0]["fetch_ms"],
        "bytes": {"site": size, "ready": runs[0]["ready_bytes"], "with_offline_copy": last["all_bytes"]},
        "image_ms": summary(last["image_ms"]),
        **against_python(bundle, last["found"]),
    }


def in_node(bundle: Path, paths: Sequence[Path]) -> dict[str, Any]:
    """One process for all images; its seconds hold its start, the sums and the golden replay too."""
    with tempfile.TemporaryDirectory() as scratch:
        script = node_script(Path(scratch))
        start = time.perf_counter()
        done = subprocess.run(
            ["node", str(script), str(bundle), *map(str, paths)], capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    found = dict(zip(paths, lines, strict=True))
    return {"node": version, "seconds": seconds, **against_python(bundle, found)}


def against_python(bundle: Path, found: Mapping[Path, Mapping[str, Any]]) -> dict[str, Any]:
    """Answers by image against the Predictor's."""
    predictor, unlike, apart = Predictor(bundle), [], 0.0
    for path, told in found.items():
        expected = predictor.predict_image(predictor.decode(path))
        assert isinstance(expected, ClassPrediction)
        if told.get("label") != expected.label:
            unlike.append(f"{told.get('label', told.get('error'))} for {expected.label}")
        else:
            pairs = zip(told["scores"], expected.scores_C.tolist(), strict=True)
            apart = max(apart, *(abs(a - b) for a, b in pairs))
    return {"images": len(found), "unlike": len(unlike), "told": unlike[:5], "score_difference": apart}


def _chromium() -> tuple[Any, str]:
    try:
        from playwright import sync_api
    except ImportError:
        raise NotRunError("playwright is not installed: pip install 'pangu-cv[dev]'") from None
    executable = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if executable is None:
        raise NotRunError("no chromium here")
    return sync_api, executable


def _load(chromium: Any, site: Site, paths: Sequence[Path]) -> dict[str, Any]:
    """From the address to the first answer: fetching, sums, session, golden replay, the image."""
    context = chromium.new_context()  # nothing in its cache
    page, errors, before = context.new_page(), [], site.sent_bytes
    page.on("pageerror", lambda error: errors.append(str(error)))
    start = time.perf_counter()
    page.goto(site.url)
    page.wait_for_function(f"document.getElementById('about').textContent.includes('{_READY}')", timeout=_PATIENCE_MS)
    ready, ready_bytes = time.perf_counter() - start, site.sent_bytes - before
    found, taken = {}, []
    for path in paths:
        begun = time.perf_counter()
        found[path] = _decided(page, path)
        taken.append(1e3 * (time.perf_counter() - begun))
        if len(found) == 1:
            first = time.perf_counter() - start
    page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
    if errors:
        raise RuntimeError(f"the page failed: {errors[:3]}")
    context.close()
    return {
        "ready_ms": 1e3 * ready,
        "first_result_ms": 1e3 * first,
        "ready_bytes": ready_bytes,
        "all_bytes": site.sent_bytes - before,
        "image_ms": taken,
        "found": found,
    }


def _decided(page: Any, path: Path) -> dict[str, Any]:
    page.evaluate("() => { for (const id of ['json', 'verdict']) document.getElementById(id).textContent = ''; }")
    page.set_input_files("#file", path)
    told = "document.getElementById('json').textContent || document.getElementById('verdict').className"
    page.wait_for_function(told, timeout=_PATIENCE_MS)
    answer = page.evaluate("document.getElementById('json').textContent")
    return (
        dict(json.loads(answer))
        if answer
        else {"error": page.evaluate("document.getElementById('verdict').textContent")}
    )


def _session(chromium: Any, site: Site) -> dict[str, float]:
    """Engine and session alone, in a page of the same address that holds nothing else."""
    context = chromium.new_context(service_workers="block")
    page = context.new_page()
    page.goto(site.url + "style.css")
    found: dict[str, float] = page.evaluate(_SESSION)
    context.close()
    return found
