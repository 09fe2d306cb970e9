"""The page and the script that decide without Python, against the Python runtime."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from PIL import Image

from pangu_cv import cli
from pangu_runtime.bundle import open_bundle, write_sums
from pangu_runtime.errors import BundleError, RuntimeLimitError
from pangu_runtime.predictor import Predictor
from pangu_runtime.tiles import Tiling
from pangu_runtime.web.site import write_site
from tests.finetune.tiny import COLOURS, Made, copy_of, picture, save

END = Path(__file__).parents[3] / "export" / "end"
ENGINE = END / "node_modules" / "onnxruntime-web"
WEB = Path(__file__).parents[3] / "export" / "pangu_runtime" / "web"
KINDS = ("classify", "unknown", "multilabel", "anomaly", "segment", "detect")


@pytest.fixture
def engine() -> Path:
    if not (ENGINE / "dist").is_dir():
        pytest.skip("onnxruntime-web is not here")
    return ENGINE


@pytest.fixture
def node(engine: Path, tmp_path: Path) -> Path:
    """A folder with the script beside its packages."""
    if shutil.which("node") is None or not (END / "node_modules" / "sharp").is_dir():
        pytest.skip("no node, or no sharp")
    for name in ("bundle.mjs", "decide.mjs"):
        shutil.copyfile(WEB / name, tmp_path / name)
    (tmp_path / "node_modules").symlink_to(END / "node_modules")
    return tmp_path / "decide.mjs"


def run(script: Path, bundle: Path, *images: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["node", script, bundle, *images], capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize("kind", KINDS)
def test_node_decides_as_python_does(kind: str, request: pytest.FixtureRequest, node: Path) -> None:
    made: Made = request.getfixturevalue(kind)
    images = made.images[:6]
    done = run(node, made.bundle, *images)
    assert done.returncode == 0, done.stderr
    assert "golden replay: 8 images" in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for theirs, prediction in zip(found, Predictor(made.bundle).predict(images), strict=True):
        ours = prediction.to_json()
        assert theirs.keys() == ours.keys()
        for key, value in ours.items():
            if key in ("score", "threshold", "scores"):
                assert theirs[key] == pytest.approx(value, abs=2e-4)
            elif key == "boxes":
                assert [box["label"] for box in theirs[key]] == [box["label"] for box in value]
                for mine, other in zip(value, theirs[key], strict=True):
                    assert other["box_xyxy"] == pytest.approx(mine["box_xyxy"], abs=0.05)
            else:
                assert theirs[key] == value


def test_changed_bundles_are_refused(classify: Made, node: Path, tmp_path: Path) -> None:
    changed = copy_of(classify.bundle, tmp_path / "changed")
    (changed / "bundle.json").write_text((changed / "bundle.json").read_text().replace('"red"', '"rot"'))
    assert "bundle.json is altered" in run(node, changed).stderr
    write_sums(changed)  # signed again, and still not what was certified
    told = run(node, changed)
    assert (told.returncode, told.stdout) == (2, "")
    assert "other classes" in told.stderr
    swapped = copy_of(classify.bundle, tmp_path / "swapped")
    expected = json.loads((swapped / "golden" / "expected.json").read_text())
    first = expected["answers"]["0.png"]
    first["scores"] = [first["scores"][0][::-1]]
    (swapped / "golden" / "expected.json").write_text(json.dumps(expected))
    write_sums(swapped)
    assert "does not give the certified answer" in run(node, swapped).stderr


def test_an_image_that_cannot_be_read_is_told_and_the_others_go_on(classify: Made, node: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    deep = tmp_path / "deep.png"
    Image.new("I;16", (32, 32)).save(deep)
    done = run(node, classify.bundle, tmp_path / "bad.png", deep, classify.images[0])
    bad, sixteen, good = map(json.loads, done.stdout.splitlines())
    assert "error" in bad
    assert "16 bits" in sixteen["error"]
    assert good["label"] == "blue"


@pytest.fixture
def site(classify: Made, engine: Path, tmp_path: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    """A page served from this machine."""
    with pytest.raises(SystemExit) as done:
        cli.main(["page", str(classify.bundle), "--out", str(tmp_path / "site"), "--engine", str(engine)])
    assert not done.value.code

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map: ClassVar = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "site"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/", server
    server.shutdown()
    server.server_close()
    thread.join()


def test_the_page_decides_by_itself_and_without_a_network(
    classify: Made, site: tuple[str, http.server.ThreadingHTTPServer], tmp_path: Path
) -> None:
    sync_api, browser = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    url, server = site
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page, errors = chromium.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        about = page.locator("#about")
        sync_api.expect(about).to_contain_text("8 certified answers given again (sums checked)", timeout=30_000)
        page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        server.shutdown()  # from here on there is no network
        page.reload()
        sync_api.expect(about).to_contain_text("8 certified answers given again", timeout=30_000)
        expected = Predictor(classify.bundle).predict(classify.images)
        for prediction in expected:
            page.set_input_files("#file", prediction.source)
            told = rf"^{prediction.to_json()['label']}, {100 * prediction.to_json()['score']:.1f} %"
            sync_api.expect(page.locator("#verdict")).to_have_text(re.compile(told))
        assert page.locator("#scores tr").count() == 2
        (tmp_path / "bad.png").write_bytes(b"no image")
        page.set_input_files("#file", tmp_path / "bad.png")
        page.wait_for_selector("#verdict.error")
        page.set_input_files("#file", save(tmp_path / "good.png", picture(COLOURS["red"], 1)))
        sync_api.expect(page.locator("#verdict")).to_have_text(re.compile("^red"))
        chromium.close()
    assert errors == []


def test_what_cannot_be_put_together_is_told(classify: Made, tmp_path: Path) -> None:
    bundle = open_bundle(classify.bundle)
    with pytest.raises(RuntimeLimitError, match="npm install onnxruntime-web"):
        write_site(bundle, tmp_path, tmp_path)
    with pytest.raises(BundleError, match="works in tiles"):
        write_site(replace(bundle, tiling=Tiling(px=64, overlap=0.2)), tmp_path, tmp_path)
