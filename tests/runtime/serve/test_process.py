"""The server as a process of its own, spoken to by the clients its users have."""

import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import COLOURS, Made, picture, save
from tests.verbs.test_torch_free import WITHOUT

pytest.importorskip("uvicorn")


@dataclass
class Running:
    """A server and the bundle it serves."""

    process: subprocess.Popen[str]
    port: int
    made: Made

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture(scope="module")
def running(classify: Made) -> Iterator[Running]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", WITHOUT, "serve", str(classify.bundle), "--port", str(port), "--threads", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    server = Running(process, port, classify)
    for _ in range(300):
        try:
            urllib.request.urlopen(server.url + "/v2/health/ready", timeout=1)
            break
        except OSError:
            assert process.poll() is None, process.stderr.read() if process.stderr else ""
            time.sleep(0.1)
    yield server
    if process.poll() is None:
        process.kill()
    process.communicate()


def test_a_port_in_use_is_told(running: Running) -> None:
    command = [sys.executable, "-c", WITHOUT, "serve", str(running.made.bundle), "--port", str(running.port)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "cannot listen there" in done.stderr
    assert "Traceback" not in done.stderr


def test_tritonclient_speaks_to_it(running: Running) -> None:
    http = pytest.importorskip("tritonclient.http")
    client = http.InferenceServerClient(f"127.0.0.1:{running.port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("bundle")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("bundle")["inputs"][0]["datatype"] == "UINT8"
    assert client.get_model_repository_index()[0]["state"] == "READY"
    images = np.stack([picture(COLOURS[name], at) for at, name in enumerate(("red", "blue", "red"))])
    expected = Predictor(running.made.bundle).run(images)
    for is_binary in (True, False):
        asked = http.InferInput("image", list(images.shape), "UINT8")
        asked.set_data_from_numpy(images, binary_data=is_binary)
        wanted = [http.InferRequestedOutput(name, binary_data=is_binary) for name in ("label", "scores")]
        found = client.infer("bundle", [asked], outputs=wanted)
        assert found.as_numpy("label").tolist() == expected["label"].tolist() == [1, 0, 1]
        assert found.as_numpy("scores") == pytest.approx(expected["scores"], abs=1e-5)
    assert len(client.infer("bundle", [asked]).get_response()["outputs"]) == 3
    client.close()


def test_a_browser_shows_the_decision(running: Running, tmp_path: Path) -> None:
    sync_api, browser = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    image = save(tmp_path / "a.png", picture(COLOURS["red"], 3))
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page, errors = chromium.new_page(), []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda line: errors.append(line.text) if line.type == "error" else None)
        page.goto(running.url)
        page.wait_for_selector("#model option", state="attached")
        page.set_input_files("#file", image)
        sync_api.expect(page.locator("#verdict")).to_have_text(re.compile(r"^red, .* ms\)$"))
        sync_api.expect(page.locator("#stage")).to_be_visible()  # the picture is decoded after the verdict
        assert page.locator("#scores tr").count() == 2
        page.set_input_files("#file", save(tmp_path / "b.png", picture(COLOURS["blue"], 3)).parent / "b.png")
        sync_api.expect(page.locator("#verdict")).to_have_text(re.compile("^blue"))
        (tmp_path / "c.png").write_bytes(image.read_bytes()[:-50])
        page.set_input_files("#file", tmp_path / "c.png")
        page.wait_for_selector("#verdict.error")
        chromium.close()
    assert [error for error in errors if "400" not in error] == []


def test_cut_off_bodies_harm_nobody(running: Running) -> None:
    for body in (b"", b"x" * 100):
        with socket.create_connection(("127.0.0.1", running.port)) as line:
            head = b"POST /models/bundle/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n"
            line.sendall(head + body)
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.sendall(b"POST /models/bundle/predict HTTP/1.1\r\nContent-Length: -4\r\n\r\n")
        line.settimeout(5)
        assert b" 400 " in line.recv(1000)
    with urllib.request.urlopen(running.url + "/metrics") as told:
        text = told.read().decode()
    assert "pangu_in_flight_bytes 0.0" in text
    assert 'status="499"' in text


def test_it_stops_when_told_to_and_says_how_it_is_guarded(running: Running) -> None:
    running.process.send_signal(signal.SIGTERM)
    _, told = running.process.communicate(timeout=30)
    assert running.process.returncode in (0, -signal.SIGTERM)
    assert "anyone who reaches the port may use it" in told
    assert "Traceback" not in told
