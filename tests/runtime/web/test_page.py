"""The page that decides in a browser without Python, against the Python runtime."""

import functools
import http.server
import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest
from PIL import Image

from pangu_cv import cli
from pangu_runtime.bundle import fingerprint, open_bundle
from pangu_runtime.errors import RuntimeLimitError
from pangu_runtime.predictor import Predictor
from pangu_runtime.web.site import ENGINE as ENGINE_FILES
from pangu_runtime.web.site import write_site
from tests.finetune.tiny import COLOURS, Made, picture, save

CAMERA = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
OF_A_FRAME = re.compile(r"\((\d{4}) × \d+, \d+ ms\)$")  # wider than the 640 pixels that a page gets unasked


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
            shown, over = (page.locator(layer).bounding_box() for layer in ("#image", "#boxes"))
            assert shown["height"] > 100
            assert shown == over
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
    scripts = {path.name: path.read_text() for path in (tmp_path / "site").glob("*.mjs")}
    wanted = set(re.findall(r'from "\./([\w.]+)"', "".join(scripts.values())))
    assert wanted <= set(scripts)  # the one for Node too
    assert "decide.mjs" in scripts
    told = (tmp_path / "site" / "LICENSES.txt").read_text()
    assert "TERMS AND CONDITIONS FOR USE, REPRODUCTION, AND DISTRIBUTION" in told
    assert "not affiliated with" in told
    assert "Copyright (c) Microsoft Corporation" in told
    assert "The above copyright notice and this permission notice shall be included" in told


def test_what_cannot_be_put_together_is_told(classify: Made, tmp_path: Path) -> None:
    bundle = open_bundle(classify.bundle)
    with pytest.raises(RuntimeLimitError, match="npm install onnxruntime-web"):
        write_site(bundle, tmp_path, tmp_path)
