"""The page and the script that decide without Python, against the Python runtime."""

import functools
import http.server
import json
import re
import shutil
import struct
import subprocess
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image, ImageCms

from pangu_cv import cli
from pangu_runtime.bundle import fingerprint, open_bundle, write_sums
from pangu_runtime.errors import ImageError, RuntimeLimitError
from pangu_runtime.predictor import Predictor
from pangu_runtime.web.site import ENGINE as ENGINE_FILES
from pangu_runtime.web.site import write_site
from tests.finetune.tiny import COLOURS, Made, copy_of, made, picture, save
from tests.runtime import forge, tile_vectors
from tests.runtime.forge import edit_json

END = Path(__file__).parents[3] / "export" / "end"
ENGINE = END / "node_modules" / "onnxruntime-web"
WEB = Path(__file__).parents[3] / "export" / "pangu_runtime" / "web"
KINDS = ("classify", "unknown", "multilabel", "anomaly", "segment", "detect")
CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
OF_A_FRAME = re.compile(r"\((\d{4}) × \d+, \d+ ms\)$")  # wider than the 640 pixels that a page gets unasked


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
    for name in ("bundle.mjs", "tiles.mjs", "decide.mjs"):
        shutil.copyfile(WEB / name, tmp_path / name)
    (tmp_path / "node_modules").symlink_to(END / "node_modules")
    return tmp_path / "decide.mjs"


@pytest.fixture
def tiled(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """A bundle that works in tiles, and images of several of them."""
    bundle = copy_of(made(request.param).bundle, tmp_path / "tiled")
    forge.state(tile={"px": 96, "overlap": 0.25})(bundle)
    forge.restate_everything(bundle)
    images = []
    for number, (height, width) in enumerate(((150, 201), (96, 96), (70, 230))):
        image = picture(COLOURS["blue"], number, height=height, width=width)
        image[20:44, 30:54], image[36:60, 100:124], image[:, 80:86] = 10, 250, (250, 240, 230)
        images.append(save(tmp_path / "images" / f"{number}.png", image))
    return Made(tmp_path, bundle, tmp_path / "images", tuple(images))


def run(script: Path, bundle: Path, *images: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["node", script, bundle, *images], capture_output=True, text=True, check=False, timeout=120)


def test_node_refuses_what_it_would_decode_otherwise(classify: Made, node: Path, tmp_path: Path) -> None:
    image = Image.fromarray(picture(COLOURS["red"], 1))
    deep = Image.fromarray(np.full((20, 20), 40_000, np.uint16))
    others = [Image.fromarray(picture(COLOURS["blue"], 2))]
    paths = [tmp_path / name for name in ("deep.tiff", "cmyk.jpg", "pages.tiff", "film.gif", "film.webp", "film.png")]
    deep.save(paths[0])
    image.convert("CMYK").save(paths[1])
    for path in paths[2:]:
        image.save(path, save_all=True, append_images=others)
    image.save(tmp_path / "still.gif")
    told = [json.loads(line) for line in run(node, classify.bundle, *paths, tmp_path / "still.gif").stdout.splitlines()]
    assert all("error" in one for one in told[:-1]), told
    assert told[-1]["label"] == "red"
    image.save(tmp_path / "plain.jpg")
    script = tmp_path / "heads.mjs"  # what the page has before a browser decodes
    script.write_text(
        'import { readFileSync } from "node:fs"; import { checkedHeader } from "./bundle.mjs";'
        "for (const path of process.argv.slice(3)) { let said = 'ok';"
        "try { checkedHeader(readFileSync(path), { max_pixels: 1e6, max_bytes: 1e6 }); } catch (e) { said = e.message }"
        "console.log(said.split(/[ :]/)[0]) }"
    )
    names = ("cmyk.jpg", "film.gif", "film.webp", "film.png", "still.gif", "plain.jpg")
    said = run(script, classify.bundle, *(tmp_path / name for name in names)).stdout.split()
    assert said == ["CMYK", "holds", "holds", "holds", "ok", "ok"]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    image.save(tmp_path / "profiled.png", icc_profile=profile.tobytes())
    agree(node, classify.bundle, [tmp_path / "profiled.png"])


@pytest.mark.parametrize("kind", KINDS)
def test_node_decides_as_python_does(kind: str, request: pytest.FixtureRequest, node: Path) -> None:
    bundle: Made = request.getfixturevalue(kind)
    agree(node, bundle.bundle, bundle.images[:6])


@pytest.mark.parametrize("tiled", ["segment", "detect"], indirect=True)
def test_node_cuts_and_merges_as_python_does(tiled: Made, node: Path) -> None:
    agree(node, tiled.bundle, tiled.images)


def test_node_decides_in_full_precision_where_there_are_others(precise: Made, node: Path, tmp_path: Path) -> None:
    agree(node, precise.bundle, precise.images[:2])
    bundle = copy_of(precise.bundle, tmp_path / "changed")
    (bundle / "model.int8.onnx").unlink()  # never fetched
    agree(node, bundle, precise.images[:2], reference=precise.bundle)
    forge.change_threshold(0.9)(bundle)
    assert "model.onnx is altered" in run(node, bundle).stderr


def agree(node: Path, bundle: Path, images: tuple[Path, ...], reference: Path | None = None) -> None:
    done = run(node, bundle, *images)
    assert done.returncode == 0, done.stderr
    assert "golden replay: 8 images" in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for theirs, prediction in zip(found, Predictor(reference or bundle, precision="fp32").predict(images), strict=True):
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


def test_golden_vectors_of_tiles() -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    script = [Path(__file__).with_name("tiles_test.mjs"), WEB / "tiles.mjs", tile_vectors.PATH]
    done = subprocess.run(["node", *script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert int(done.stderr.split()[0]) > 90


def test_every_file_is_fetched_once_for_its_sum_and_its_use(classify: Made) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    script = [Path(__file__).with_name("reads_test.mjs"), WEB / "bundle.mjs", classify.bundle]
    done = subprocess.run(["node", *script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["reads"].values()) == {1}
    assert {"model.onnx", "golden/expected.json", "golden/0.png", "bundle.json"} <= told["reads"].keys()
    assert told["ran"] == (classify.bundle / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("kind", "tile"), [("classify", {"px": 64, "overlap": 0.2}), ("detect", {"px": 8, "overlap": 0.2})]
)
def test_tiles_that_are_none_are_refused(kind: str, tile: dict, node: Path, tmp_path: Path) -> None:
    bundle = copy_of(made(kind).bundle, tmp_path / "changed")
    forge.state(tile=tile)(bundle)
    write_sums(bundle)
    assert "is none" in run(node, bundle).stderr


def test_mutants_are_refused(classify: Made, node: Path, tmp_path: Path) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "changed")
    forge.other_normalisation(bundle)
    write_sums(bundle)
    assert "recorded with another model.onnx" in run(node, bundle).stderr
    forge.restate_model(bundle)
    assert "does not give the certified answer" in run(node, bundle).stderr
    sums = (bundle / "SHA256SUMS").read_text().splitlines(keepends=True)
    (bundle / "SHA256SUMS").write_text("".join(line for line in sums if "model.onnx" not in line))
    assert "does not list model.onnx" in run(node, bundle).stderr


def test_images_without_boxes_tell_by_their_best_score(detect: Made, node: Path, tmp_path: Path) -> None:
    bundle = copy_of(detect.bundle, tmp_path / "changed")
    forge.change_threshold_everywhere(0.999)(bundle)  # so that no golden image shows a box
    forge.restate_everything(bundle)
    assert "golden replay: 8 images" in run(node, bundle).stderr

    def change(record: dict) -> None:
        assert record["answers"]["0.png"]["count"] == [0]
        record["answers"]["0.png"]["scores"][0][0] += 0.01

    edit_json(bundle / "golden" / "expected.json", change)
    write_sums(bundle)
    assert "does not give the certified answer" in run(node, bundle).stderr


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
    assert sixteen["error"] == "unsupported"
    assert "16 bits" in sixteen["message"]
    assert good["label"] == "blue"
    assert done.returncode == 0


def test_node_names_what_cannot_be_read_as_python_does(classify: Made, node: Path, tmp_path: Path) -> None:
    names = ("missing", "empty", "text", "cut", "header", "pages", "huge")
    paths = [tmp_path / f"{name}.png" for name in names]
    sound, image = classify.images[0].read_bytes(), Image.fromarray(picture(COLOURS["red"], 1))
    huge = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    huge = sound[:8] + struct.pack(">I", 13) + huge + struct.pack(">I", zlib.crc32(huge)) + sound[33:]
    for path, content in zip(paths[1:], (b"", b"no image", sound[:-300], sound[:20], b"", huge), strict=True):
        path.write_bytes(content)
    image.save(paths[5], "TIFF", save_all=True, append_images=[image])
    done = run(node, classify.bundle, *paths)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [one for one in Predictor(classify.bundle).predict(paths) if isinstance(one, ImageError)]
    assert [(one["image"], one["error"]) for one in told] == [(one.path, one.reason) for one in expected]
    assert len({one["error"] for one in told}) == 5
    assert all(one["message"].startswith(f"{one['image']}: ") and one.keys() == told[0].keys() for one in told)
    assert all(f"skipped: {one['message']}" in done.stderr for one in told)
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(classify.bundle), str(paths[2])])
    assert done.returncode == ended.value.code == 2
    assert "error: none of the 7 images could be read" in done.stderr


def test_node_decides_nothing_that_python_does_not_read(classify: Made, node: Path, tmp_path: Path) -> None:
    (tmp_path / "drawn.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>')
    assert json.loads(run(node, classify.bundle, tmp_path / "drawn.svg").stdout)["error"] == "unsupported"


@pytest.fixture
def site(classify: Made, engine: Path, tmp_path: Path) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    """A page served from this machine."""
    with serving(classify.bundle, engine, tmp_path) as served:
        yield served


@contextmanager
def serving(
    bundle: Path, engine: Path, tmp_path: Path, *, max_age_s: int | None = None, script_type: str = "text/javascript"
) -> Iterator[tuple[str, http.server.ThreadingHTTPServer]]:
    with pytest.raises(SystemExit) as done:
        cli.main(["page", str(bundle), "--out", str(tmp_path / "site"), "--engine", str(engine)])
    assert not done.value.code

    class Quiet(http.server.SimpleHTTPRequestHandler):
        extensions_map: ClassVar = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": script_type}

        def log_message(self, *_: object) -> None:
            pass

        def end_headers(self) -> None:
            if max_age_s is not None:
                self.send_header("Cache-Control", f"max-age={max_age_s}")
            super().end_headers()

    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "site"))
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/", server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def browsing(*arguments: str) -> Iterator[tuple[Any, Any]]:
    """A page of a headless browser, in which no error may go uncaught, and what expects of it; skips without one."""
    sync_api, browser = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    sync_api.expect.set_options(timeout=20_000)  # neighbours may be at work
    errors: list[str] = []
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox", *arguments])
        page = chromium.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        yield page, sync_api.expect
        chromium.close()
    assert errors == []


def load(page: Any, expect: Any, url: str) -> Any:
    """Where the page at ``url`` says its decisions, once it is ready."""
    page.goto(url)
    expect(page.locator("#about")).to_contain_text("8 certified answers given again", timeout=60_000)
    return page.locator("#verdict")


def test_the_page_decides_by_itself_and_without_a_network(
    classify: Made, site: tuple[str, http.server.ThreadingHTTPServer], tmp_path: Path
) -> None:
    url, server = site
    with browsing() as (page, expect):
        load(page, expect, url)
        pin = fingerprint(classify.bundle)[:12]
        expect(page.locator("#about")).to_contain_text(f"given again (sums checked, fingerprint {pin})")
        page.evaluate("navigator.serviceWorker.ready.then(() => 0)")
        server.shutdown()  # from here on there is no network
        page.reload()
        expect(page.locator("#about")).to_contain_text("8 certified answers given again", timeout=30_000)
        expected = Predictor(classify.bundle).predict(classify.images)
        for prediction in expected:
            page.set_input_files("#file", prediction.source)
            told = rf"^{prediction.to_json()['label']}, {100 * prediction.to_json()['score']:.1f} %"
            expect(page.locator("#verdict")).to_have_text(re.compile(told))
        assert page.locator("#scores tr").count() == 2
        (tmp_path / "bad.png").write_bytes(b"no image")
        page.set_input_files("#file", tmp_path / "bad.png")
        page.wait_for_selector("#verdict.error")
        page.set_input_files("#file", save(tmp_path / "good.png", picture(COLOURS["red"], 1)))
        expect(page.locator("#verdict")).to_have_text(re.compile("^red"))


def test_an_image_given_while_the_page_is_busy_is_decided(
    site: tuple[str, http.server.ThreadingHTTPServer], tmp_path: Path
) -> None:
    red = save(tmp_path / "red.png", picture(COLOURS["red"], 1))
    blue = save(tmp_path / "blue.png", picture(COLOURS["blue"], 1))
    drop = """(images) => images.forEach((bytes) => {
      const dataTransfer = new DataTransfer();
      dataTransfer.items.add(new File([Uint8Array.from(bytes)], "image.png"));
      document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer }));
    })"""
    with browsing(*CAMERA) as (page, expect):
        verdict = load(page, expect, site[0])
        page.click("#camera")
        expect(verdict).to_have_text(OF_A_FRAME)
        page.set_input_files("#file", red)
        expect(verdict).to_have_text(re.compile(r"^red, .* \(48 × 40, "))
        expect(page.locator("#camera")).to_have_text("camera")
        page.evaluate(drop, [list(path.read_bytes()) for path in (red, red, blue)])
        expect(verdict).to_have_text(re.compile("^blue"))


def test_the_camera_is_opened_once_and_says_when_it_gives_nothing(
    site: tuple[str, http.server.ThreadingHTTPServer],
) -> None:
    count = """globalThis.opened = 0;
      const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = (wanted) => { opened++; return open(wanted); };"""
    turn = """([name, muted]) => {
      const [track] = document.getElementById("video").srcObject.getVideoTracks();
      Object.defineProperty(track, "muted", { value: muted, configurable: true });
      track.dispatchEvent(new Event(name));
    }"""
    with browsing(*CAMERA) as (page, expect):
        page.add_init_script(count)
        verdict = load(page, expect, site[0])
        page.evaluate("() => { for (const _ of [1, 2]) document.getElementById('camera').click(); }")
        expect(verdict).to_have_text(OF_A_FRAME)
        assert page.evaluate("opened") == 1
        page.evaluate(turn, ["mute", True])
        expect(verdict).to_have_text("the camera gives no picture")
        page.wait_for_timeout(500)
        expect(verdict).to_have_text("the camera gives no picture")
        page.evaluate(turn, ["unmute", False])
        expect(verdict).to_have_text(OF_A_FRAME)
        page.evaluate(turn, ["ended", False])
        expect(verdict).to_have_text(re.compile("^camera lost"))
        expect(page.locator("#camera")).to_have_text("camera")
        page.wait_for_timeout(500)
        expect(verdict).to_have_text(re.compile("^camera lost"))


def test_an_image_given_while_the_camera_opens_keeps_its_verdict(
    site: tuple[str, http.server.ThreadingHTTPServer], tmp_path: Path
) -> None:
    slow = """const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        await new Promise((go) => { globalThis.letIn = go; });
        return globalThis.opened = await open(wanted);
      };"""
    with browsing(*CAMERA) as (page, expect):
        page.add_init_script(slow)
        verdict = load(page, expect, site[0])
        page.click("#camera")
        page.set_input_files("#file", save(tmp_path / "red.png", picture(COLOURS["red"], 1)))
        expect(verdict).to_have_text(re.compile(r"^red, .* \(48 × 40, "))
        page.evaluate("letIn()")
        page.wait_for_function("globalThis.opened?.getTracks().every((track) => track.readyState === 'ended')")
        expect(verdict).to_have_text(re.compile(r"^red, .* \(48 × 40, "))
        expect(page.locator("#camera")).to_have_text("camera")


def test_a_camera_without_pictures_can_be_closed(site: tuple[str, http.server.ThreadingHTTPServer]) -> None:
    still = """HTMLMediaElement.prototype.play = () => new Promise(() => {});
      const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
      navigator.mediaDevices.getUserMedia = async (wanted) => {
        const stream = await open(wanted);
        Object.defineProperty(stream.getVideoTracks()[0], "muted", { value: true });
        return stream;
      };"""
    with browsing(*CAMERA) as (page, expect):
        page.add_init_script(still)
        verdict = load(page, expect, site[0])
        page.click("#camera")
        expect(verdict).to_have_text("the camera gives no picture")
        page.click("#camera")
        expect(page.locator("#camera")).to_have_text("camera")


def test_what_is_no_threshold_and_no_picture_decides_nothing(unknown: Made, engine: Path, tmp_path: Path) -> None:
    clear = tmp_path / "clear.png"
    Image.new("RGBA", (40, 30), (200, 70, 60, 0)).save(clear)
    certified = open_bundle(unknown.bundle).threshold
    assert certified is not None
    with serving(unknown.bundle, engine, tmp_path) as (url, _), browsing() as (page, expect):
        verdict = load(page, expect, url)
        page.fill("#threshold", "  ")
        page.set_input_files("#file", unknown.images[0])
        expect(verdict).to_have_text(re.compile(r"ms\)$"))
        told = json.loads(page.locator("#json").text_content())
        assert told["threshold"] == pytest.approx(certified.value, abs=1e-6)
        page.set_input_files("#file", clear)
        expect(verdict).to_have_text(re.compile("^40 × 30 pixels came as nothing: wholly transparent"))
        page.fill("#threshold", "1e999")
        page.set_input_files("#file", unknown.images[0])
        expect(verdict).to_have_text("threshold: 1e999 found; a number is needed")


def test_a_server_without_a_type_for_scripts_is_told(classify: Made, engine: Path, tmp_path: Path) -> None:
    untyped = "application/octet-stream"
    with serving(classify.bundle, engine, tmp_path, script_type=untyped) as (url, _), browsing() as (page, expect):
        page.goto(url)
        expect(page.locator("#about.error")).to_contain_text("text/javascript")


def test_pages_of_one_origin_keep_their_own_files_and_take_new_ones(
    classify: Made, engine: Path, tmp_path: Path
) -> None:
    """Two pages whose server lets a browser keep files for an hour; one of them is then updated, and says so."""
    kept = "caches.open(KEY).then((cache) => cache.match(new URL('style.css', location)).then((found) => found.text()))"
    with serving(classify.bundle, engine, tmp_path, max_age_s=3600) as (url, _), browsing() as (page, expect):
        for name in ("a", "a/b"):
            (tmp_path / "site" / name).mkdir()
            write_site(open_bundle(classify.bundle), engine, tmp_path / "site" / name)
        for count, name in enumerate(("a/", "a/b/"), 1):
            page.goto(url + name)
            first, *_ = caches_of(page, lambda names, count=count: len(names) == count)
            expect(page.locator("#newer")).to_be_hidden()
        assert [name.split()[1] for name in caches_of(page, bool)] == [f"{url}a/", f"{url}a/b/"]
        (tmp_path / "site" / "a" / "style.css").write_text("/* new */")
        worker = tmp_path / "site" / "a" / "offline.js"
        worker.write_text(worker.read_text().replace(first.split()[-1], "2" * 16))
        page.goto(url + "a/")
        names = caches_of(page, lambda names: first not in names)
        assert [name.split()[1] for name in names] == [f"{url}a/", f"{url}a/b/"]
        assert page.evaluate(kept.replace("KEY", repr(names[0]))) == "/* new */"
        expect(page.locator("#newer")).to_be_visible()
        page.click("#newer a")
        caches_of(page, bool)
        expect(page.locator("#newer")).to_be_hidden()


def caches_of(page: Any, is_reached: Callable[[list[str]], bool]) -> list[str]:
    """Names of the caches, the shortest first, once no worker is about to change them."""
    settled = "(one) => one.active?.state == 'activated' && !one.installing && !one.waiting"
    settled = f"navigator.serviceWorker.getRegistrations().then((all) => all.every({settled}))"
    end = time.monotonic() + 30
    while time.monotonic() < end:
        names: list[str] = sorted(page.evaluate("caches.keys()"), key=len)
        if is_reached(names) and page.evaluate(settled):
            return sorted(page.evaluate("caches.keys()"), key=len)
        time.sleep(0.1)
    raise AssertionError(f"caches after 30 s: {names}")


@pytest.mark.parametrize("tiled", ["detect"], indirect=True)
def test_the_page_works_in_tiles(tiled: Made, engine: Path, tmp_path: Path) -> None:
    with serving(tiled.bundle, engine, tmp_path) as (url, _), browsing() as (page, expect):
        verdict = load(page, expect, url)
        for prediction in Predictor(tiled.bundle).predict(tiled.images):
            boxes = prediction.to_json()["boxes"]
            page.set_input_files("#file", prediction.source)
            told = rf"^{len(boxes)} found" if boxes else "^nothing found"
            expect(verdict).to_have_text(re.compile(told), timeout=30_000)
            found = json.loads(page.locator("#json").text_content())["boxes"]
            assert [box["label"] for box in found] == [box["label"] for box in boxes]


def test_the_site_carries_the_licences_of_what_it_passes_on(classify: Made, tmp_path: Path) -> None:
    (tmp_path / "engine" / "dist").mkdir(parents=True)
    for name in ENGINE_FILES:
        (tmp_path / "engine" / "dist" / name).touch()
    write_site(open_bundle(classify.bundle), tmp_path / "engine", tmp_path / "site")
    told = (tmp_path / "site" / "LICENSES.txt").read_text()
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in told
    assert "not affiliated with" in told
    assert "Copyright (c) Microsoft Corporation" in told
    assert "The above copyright notice and this permission notice shall be included" in told


def test_what_cannot_be_put_together_is_told(classify: Made, tmp_path: Path) -> None:
    bundle = open_bundle(classify.bundle)
    with pytest.raises(RuntimeLimitError, match="npm install onnxruntime-web"):
        write_site(bundle, tmp_path, tmp_path)
