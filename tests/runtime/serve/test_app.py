import base64
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("starlette")
from starlette.testclient import TestClient

from pangu_runtime.errors import BundleError
from pangu_runtime.predictor import Predictor
from pangu_runtime.serve.app import App
from pangu_runtime.serve.config import ServeConfig
from pangu_runtime.serve.metrics import Metrics
from pangu_runtime.serve.shelf import Shelf
from tests.finetune.tiny import COLOURS, Made, copy_of, picture


def client(*folders: Path, **changes: Any) -> TestClient:
    config, metrics = ServeConfig(**({"reload_s": 0, "threads": 1} | changes)), Metrics()
    app = App(Shelf(folders, config, on_batch=metrics.on_batch), config, metrics)
    return TestClient(app.starlette(), raise_server_exceptions=False)


@pytest.fixture
def served(classify: Made, anomaly: Made, tmp_path: Path) -> Iterator[TestClient]:
    folders = [copy_of(made.bundle, tmp_path / name) for name, made in (("colours", classify), ("stains", anomaly))]
    with client(*folders) as found:
        yield found


def png(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    return stream.getvalue()


def test_a_file_is_decided_as_the_predictor_decides_it(served: TestClient, classify: Made) -> None:
    predictor = Predictor(classify.bundle)
    for path in classify.images:
        [expected] = predictor.predict([path])
        told = served.post("/models/colours/predict", content=path.read_bytes()).json()
        assert told["label"] == expected.to_json()["label"]
        assert told["scores"] == pytest.approx(expected.to_json()["scores"], abs=1e-5)


def test_the_map_comes_along_where_it_is_asked_for(served: TestClient, anomaly: Made) -> None:
    stain = (anomaly.data / "test" / "stain" / "0.png").read_bytes()
    told = served.post("/models/stains/predict?overlay=1", content=stain).json()
    assert told["is_anomalous"] is True
    overlay = Image.open(io.BytesIO(base64.b64decode(told["overlay_png"])))
    assert (overlay.size, overlay.mode) == ((48, 40), "RGBA")
    opacity = np.asarray(overlay)[..., 3]
    assert opacity[8:28, 8:28].mean() > 1.3 * opacity[:, 40:].mean()
    assert "overlay_png" not in served.post("/models/stains/predict", content=stain).json()
    moved = served.post("/models/stains/predict?threshold=1e9", content=stain).json()
    assert (moved["is_anomalous"], moved["threshold"]) == (False, 1e9)


def test_tensors_go_in_and_decisions_come_out(served: TestClient) -> None:
    image = np.stack([picture(COLOURS["red"], 1), picture(COLOURS["blue"], 2)])
    asked = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(image.shape), "data": image.tolist()}]}
    told = served.post("/v2/models/colours/infer", json=asked | {"id": "x"}).json()
    by_name = {one["name"]: one for one in told["outputs"]}
    assert by_name["label"]["data"] == [1, 0]
    assert by_name["scores"]["shape"] == [2, 2]
    assert told["id"] == "x"
    version = served.get("/v2/models/colours").json()["versions"][0]
    assert told["model_version"] == version
    assert served.post(f"/v2/models/colours/versions/{version}/infer", json=asked).status_code == 200
    assert served.post("/v2/models/colours/versions/other/infer", json=asked).status_code == 404


def test_health_index_and_page(served: TestClient) -> None:
    assert served.get("/v2/health/live").status_code == served.get("/v2/health/ready").status_code == 200
    assert served.get("/v2/models/colours/ready").status_code == 200
    assert served.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert [one["name"] for one in served.post("/v2/repository/index").json()] == ["colours", "stains"]
    assert served.get("/models").json()[0]["classes"] == ["blue", "red"]
    page = served.get("/")
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert not re.search(r"(src|href)=\"https?:", page.text)


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        (b"", 400, "truncated"),
        (b"no image at all", 400, "not_an_image"),
        (png(picture(COLOURS["red"], 0))[:-40], 400, "truncated"),
        (png(np.zeros((200, 200, 3), np.uint8)), 413, "too_large"),
        (os.urandom(70_000), 413, None),
    ],
)
def test_bad_images_are_refused(classify: Made, body: bytes, status: int, reason: str | None) -> None:
    with client(classify.bundle, max_pixels=30_000, max_body_bytes=60_000) as server:
        told = server.post("/models/bundle/predict", content=body)
        assert told.status_code == status, told.text
        assert told.json().get("reason") == reason
        assert server.post("/models/bundle/predict", content=png(picture(COLOURS["red"], 0))).status_code == 200


def test_a_short_body_of_unknown_length_takes_its_own_memory(classify: Made) -> None:
    asked = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": [1, 8, 8, 3], "data": [7] * 192}]}
    with client(classify.bundle) as server:
        told = server.post("/v2/models/bundle/infer", content=iter([json.dumps(asked).encode()]))
        assert told.status_code == 200


def test_more_images_than_may_wait_are_refused(classify: Made) -> None:
    many = np.zeros((9, 8, 8, 3), np.uint8)
    asked = {"inputs": [{"name": "image", "datatype": "UINT8", "shape": list(many.shape), "data": many.tolist()}]}
    with client(classify.bundle, max_waiting=8) as server:
        told = server.post("/v2/models/bundle/infer", json=asked)
        assert (told.status_code, told.json()["error"]) == (413, "9 images; at most 8 are taken at once")


def test_an_answer_of_many_numbers_takes_memory_too(anomaly: Made) -> None:
    """A map of 10,000 numbers, asked for as JSON, and as bytes with enough memory for those."""
    pixels = bytes(100 * 100 * 3)
    image = {"name": "image", "datatype": "UINT8", "shape": [1, 100, 100, 3]}
    asked = {"inputs": [image | {"parameters": {"binary_data_size": len(pixels)}}]}
    binary = {"parameters": {"binary_data_output": True}}
    for most, parameters, status in ((200_000, {}, 413), (100_000, binary, 413), (200_000, binary, 200)):
        with client(anomaly.bundle, max_in_flight_bytes=most) as server:
            head = json.dumps(asked | parameters).encode()
            headers = {"Inference-Header-Content-Length": str(len(head))}
            told = server.post("/v2/models/bundle/infer", content=head + pixels, headers=headers)
            assert told.status_code == status, told.text


@pytest.mark.parametrize(("asked", "is_there"), [("1", True), ("0", False), ("", False)])
def test_an_overlay_is_made_where_it_is_asked_for(anomaly: Made, asked: str, is_there: bool) -> None:
    with client(anomaly.bundle) as server:
        told = server.post(f"/models/bundle/predict?overlay={asked}", content=png(picture(COLOURS["blue"], 0))).json()
        assert ("overlay_png" in told) == is_there


def test_a_bundle_that_is_copied_over_in_place_is_taken_once_it_is_whole(
    classify: Made, unknown: Made, tmp_path: Path
) -> None:
    folder = copy_of(classify.bundle, tmp_path / "colours")
    shelf = Shelf([folder], ServeConfig(reload_s=0, threads=1))
    before = shelf["colours"].version
    shutil.copyfile(unknown.bundle / "SHA256SUMS", folder / "SHA256SUMS")  # the first file of a copy
    shelf.reload()
    assert shelf["colours"].version == before
    assert list(shelf.refused) == ["colours"]
    shutil.copytree(unknown.bundle, folder, dirs_exist_ok=True)
    shelf.reload()
    assert shelf["colours"].version != before
    assert shelf.refused == {}
    shelf.close()


def test_a_bundle_that_nobody_foresaw_does_not_end_the_watching(
    classify: Made, unknown: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy_of(classify.bundle, tmp_path / "colours")
    shelf = Shelf([folder], ServeConfig(reload_s=0, threads=1))

    def odd(_: Predictor) -> None:
        raise RuntimeError("odd")

    with monkeypatch.context() as broken:
        broken.setattr("pangu_runtime.serve.shelf.replay", odd)
        shutil.rmtree(folder)
        copy_of(unknown.bundle, folder)
        shelf.reload()
    assert list(shelf.refused) == ["colours"]
    (folder / "SHA256SUMS").touch()
    shelf.reload()
    assert shelf.refused == {}
    shelf.close()


def test_a_body_of_unknown_length_is_cut_at_the_limit(classify: Made) -> None:
    with client(classify.bundle, max_body_bytes=10_000) as server:
        told = server.post("/models/bundle/predict", content=iter([b"x" * 4_000] * 5))
        assert told.status_code == 413


@pytest.mark.parametrize("path", ["/models/other/predict", "/v2/models/other/infer"])
def test_other_models_are_told(served: TestClient, path: str) -> None:
    told = served.post(path, content=b"{}")
    assert told.status_code == 404
    assert "colours, stains" in told.json()["error"]


def test_a_token_is_asked_for_by_all_but_health_and_the_page(classify: Made) -> None:
    image = png(picture(COLOURS["red"], 0))
    with client(classify.bundle, token="öpen") as server:
        for headers in ({}, {"authorization": "Bearer other"}, {"authorization": "öpen".encode()}):
            assert server.post("/models/bundle/predict", content=image, headers=headers).status_code == 401
        assert server.get("/metrics").status_code == server.get("/models").status_code == 401
        right = {"authorization": "Bearer öpen".encode()}
        assert server.post("/models/bundle/predict", content=image, headers=right).status_code == 200
        assert server.get("/v2/health/ready").status_code == server.get("/").status_code == 200


def test_more_memory_than_allowed_is_refused(classify: Made) -> None:
    image = png(picture(COLOURS["red"], 0))
    with client(classify.bundle, max_in_flight_bytes=10_000) as server:
        told = server.post("/models/bundle/predict", content=image)
        assert told.status_code == 413
        assert "10000 may be used" in told.json()["error"]


def test_many_at_once_are_all_answered_or_told_to_wait(classify: Made) -> None:
    image = {"red": png(picture(COLOURS["red"], 0)), "blue": png(picture(COLOURS["blue"], 0))}
    with client(classify.bundle, max_waiting=4) as server, ThreadPoolExecutor(16) as pool:
        names = ["red", "blue"] * 40
        found = list(pool.map(lambda name: server.post("/models/bundle/predict", content=image[name]), names))
        answered = [(name, one) for name, one in zip(names, found, strict=True) if one.status_code == 200]
        assert all(one.json()["label"] == name for name, one in answered)
        assert {one.status_code for one in found} <= {200, 429}
        assert all("retry-after" in one.headers for one in found if one.status_code == 429)
        counted = re.findall(r'pangu_requests_total{.*status="(\d+)"} (\d+)', server.get("/metrics").text)
        assert sum(int(float(count)) for _, count in counted) == 80


def test_a_bundle_is_served_by_the_name_of_the_link_to_it(classify: Made, tmp_path: Path) -> None:
    (tmp_path / "steel").symlink_to(classify.bundle, target_is_directory=True)
    with client(tmp_path / "steel") as server:
        assert server.get("/models").json()[0]["name"] == "steel"


def test_json_hidden_as_a_binary_head_takes_the_memory_of_json(classify: Made) -> None:
    body = b'{"inputs": [' + b",".join([b"{}"] * 5_000) + b"]}"
    headers = {"Inference-Header-Content-Length": str(len(body))}
    with client(classify.bundle, max_in_flight_bytes=100_000) as server:
        assert server.post("/v2/models/bundle/infer", content=body, headers=headers).status_code == 413
        assert server.post("/v2/models/bundle/infer", content=body[:500], headers=headers).status_code == 400


def test_a_threshold_beyond_what_the_graph_takes_is_refused(served: TestClient) -> None:
    image = png(picture(COLOURS["red"], 0))
    for threshold in ("1e300", "nan", "-inf", "much"):
        told = served.post(f"/models/stains/predict?threshold={threshold}", content=image)
        assert (told.status_code, "a finite number is needed" in told.json()["error"]) == (400, True)


def test_a_threshold_that_would_make_two_answers_one_is_refused(classify: Made) -> None:
    config, metrics = ServeConfig(reload_s=0, threads=1), Metrics()
    shelf = Shelf([classify.bundle], config, on_batch=metrics.on_batch)
    [served] = shelf
    served.predictor.bundle = replace(served.predictor.bundle, classes=("blue", "unknown"))
    tensors = [
        {"name": "image", "datatype": "UINT8", "shape": [1, 1, 1, 3], "data": [1, 2, 3]},
        {"name": "threshold", "datatype": "FP32", "shape": [1], "data": [0.5]},
    ]
    body = png(picture(COLOURS["red"], 1))
    with TestClient(App(shelf, config, metrics).starlette()) as found:
        asked = found.post(f"/models/{served.name}/predict?threshold=0.5", content=body)
        inferred = found.post(f"/v2/models/{served.name}/infer", json={"inputs": tensors})
        alone = found.post(f"/models/{served.name}/predict", content=body)
    assert (asked.status_code, inferred.status_code, alone.status_code) == (400, 400, 200)
    assert "has a class 'unknown'" in asked.json()["error"] == inferred.json()["error"]


def test_a_replaced_bundle_takes_over_and_a_broken_one_does_not(classify: Made, unknown: Made, tmp_path: Path) -> None:
    folder, image = copy_of(classify.bundle, tmp_path / "colours"), png(picture(COLOURS["red"], 0))
    config, metrics = ServeConfig(reload_s=0, threads=1), Metrics()
    shelf = Shelf([folder], config)
    with TestClient(App(shelf, config, metrics).starlette()) as server:
        before = server.post("/models/colours/predict", content=image).json()
        shutil.rmtree(folder)
        shelf.reload()  # at this moment there is none
        assert server.post("/models/colours/predict", content=image).json() == before
        copy_of(unknown.bundle, folder)
        shelf.reload()
        after = server.post("/models/colours/predict", content=image).json()
        assert after["version"] != before["version"]
        assert after["threshold"] > 0 == before["threshold"]
        (folder / "bundle.json").write_text("{}")
        (folder / "SHA256SUMS").write_text("0  bundle.json\n")
        shelf.reload()
        assert server.post("/models/colours/predict", content=image).json() == after
        assert "pangu_refused_bundles 1.0" in server.get("/metrics").text
        shutil.rmtree(folder)
        copy_of(unknown.bundle, folder)  # taken back to what is served
        shelf.reload()
        assert "pangu_refused_bundles 0.0" in server.get("/metrics").text


def test_two_of_one_name_are_refused(classify: Made, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="same folder name"):
        client(classify.bundle, copy_of(classify.bundle, tmp_path / "bundle"))


def test_an_answer_that_takes_too_long_is_given_up(classify: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Predictor.run

    def run(self: Predictor, images: np.ndarray, *, threshold: float | None = None) -> Any:
        time.sleep(0.5 if len(images) == 1 and images.shape[1] == 33 else 0)
        return slow(self, images, threshold=threshold)

    monkeypatch.setattr(Predictor, "run", run)
    with client(classify.bundle, decide_timeout_s=0.1) as server:
        told = server.post("/models/bundle/predict", content=png(np.zeros((33, 33, 3), np.uint8)))
        assert (told.status_code, told.json()) == (503, {"error": "no answer in time"})


def test_a_failure_of_ours_is_said_without_its_insides(classify: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Predictor, images: np.ndarray, *, threshold: float | None = None) -> Any:
        raise RuntimeError("secret path")

    with client(classify.bundle) as server:
        monkeypatch.setattr(Predictor, "run", broken)
        told = server.post("/models/bundle/predict", content=png(picture(COLOURS["red"], 0)))
        assert (told.status_code, told.json()) == (500, {"error": "the server failed; its log says why"})
        assert 'route="predict",status="500"' in server.get("/metrics").text


def test_answers_are_json_that_others_can_read(served: TestClient) -> None:
    image = png(picture(COLOURS["red"], 0))
    json.loads(served.post("/models/colours/predict", content=image).text, parse_constant=pytest.fail)
