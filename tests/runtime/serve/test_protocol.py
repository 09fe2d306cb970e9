import json
import tracemalloc
from typing import Any

import numpy as np
import pytest

from pangu_runtime.bundle import Bundle, Threshold
from pangu_runtime.decode import DEFAULT_SPEC
from pangu_runtime.serve.protocol import RequestError, answer, json_bytes, json_part, model_metadata, parse_request

BUNDLE = Bundle(None, "classify", ("a", "b"), DEFAULT_SPEC, Threshold(0.0, None), None, {})  # type: ignore[arg-type]
PIXELS = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)


def image(**changes: Any) -> dict[str, Any]:
    return {"name": "image", "datatype": "UINT8", "shape": [2, 4, 5, 3], "data": PIXELS.ravel().tolist()} | changes


def parse(inputs: Any, blobs: bytes | None = None, max_pixels: int = 1000, **more: Any) -> Any:
    head = json.dumps({"inputs": inputs, **more}).encode()
    if blobs is None:
        return parse_request(head, None, BUNDLE, max_pixels=max_pixels)
    return parse_request(head + blobs, str(len(head)), BUNDLE, max_pixels=max_pixels)


def test_json_and_binary_say_the_same() -> None:
    sized = {"data": None, "parameters": {"binary_data_size": PIXELS.nbytes}}
    threshold = {"name": "threshold", "datatype": "FP32", "shape": [1], "parameters": {"binary_data_size": 4}}
    for found in (
        parse([image()], id="7"),
        parse([image(data=PIXELS.tolist())]),
        parse([image(**sized), threshold], PIXELS.tobytes() + np.float32(0.25).tobytes()),
    ):
        assert np.array_equal(found.images_NHW3, PIXELS)
    assert found.threshold == 0.25
    assert parse([image()], id="7").id == "7"


@pytest.mark.parametrize(
    ("inputs", "blobs", "told"),
    [
        ({}, None, 'a list "inputs"'),
        ([3], None, "an object with a name"),
        ([], None, "needs image"),
        ([image(), image(name="other")], None, r"takes \['image', 'threshold'\]"),
        ([image(datatype="FP16")], None, "datatype 'FP16' found"),
        ([image(shape=[2, 4, 5, 4])], None, "120 numbers found"),
        ([image(shape=[2, 4, 15, -1])], None, "positive numbers"),
        ([image(shape=[True, 4, 5, 3])], None, "positive numbers"),
        ([image(shape=[120])], None, r"UINT8 \[N,H,W,3\] is needed"),
        ([image(data=[[1], [2, 3]])], None, "rows differ"),
        ([image(data=[300] * 120)], None, "whole numbers from 0 to 255"),
        ([image(data="x")], None, "no list of numbers"),
        ([image(parameters=3)], None, "an object is needed"),
        ([image(parameters={"binary_data_size": 119})], PIXELS.tobytes(), "needs 120"),
        ([image(parameters={"binary_data_size": 120})], PIXELS.tobytes()[:-1], "119 bytes are left"),
        ([image(parameters={"binary_data_size": 120})], PIXELS.tobytes() + b"x", "belong to no input"),
        ([image(parameters={"binary_data_size": "120"})], PIXELS.tobytes(), "needs 120"),
        ([image(), {"name": "threshold", "datatype": "FP32", "shape": [2], "data": [1, 2]}], None, "one finite FP32"),
    ],
)
def test_what_is_wrong_is_said(inputs: Any, blobs: bytes | None, told: str) -> None:
    with pytest.raises(RequestError, match=told) as caught:
        parse(inputs, blobs)
    assert caught.value.status == 400


def test_more_pixels_than_allowed_are_refused_before_they_are_made() -> None:
    huge = image(shape=[1, 2**30, 2**30, 3], parameters={"binary_data_size": 3 * 2**60}, data=None)
    with pytest.raises(RequestError, match="at most 1000 are taken") as caught:
        parse([huge], b"")
    assert caught.value.status == 413


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"\xff\xfe", b"[" * 100_000, b'{"inputs": 1e999}'])
def test_other_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(RequestError):
        parse_request(body, None, BUNDLE, max_pixels=10)


def test_a_number_beyond_every_float_is_refused() -> None:
    with pytest.raises(RequestError, match="no list of numbers"):
        parse([image(shape=[1, 1, 1, 3], data=[10**400, 0, 0])])


@pytest.mark.parametrize(
    "part", [b"{}", b'{"":0}', b"[]", b"[0]", b"[7,7,7]", b'"ab"', b"1.5"], ids=lambda part: part.decode()
)
def test_what_json_takes_once_read_is_foreseen(part: bytes) -> None:
    body = b"[" + b",".join([part] * 20_000) + b"]"
    tracemalloc.start()
    read = json.loads(body)
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(read) == 20_000
    assert taken <= json_bytes(body)


def test_only_the_json_of_a_body_counts_as_json() -> None:
    assert json_part(b'{"a":1}tensor', "7") == b'{"a":1}'
    assert json_part(b'{"a":1}', None) == json_part(b'{"a":1}', "nonsense") == b'{"a":1}'


@pytest.mark.parametrize("header", ["-1", "x", "1e3", "99999", "٣"])
def test_a_false_header_length_is_refused(header: str) -> None:
    with pytest.raises(RequestError, match="content-length"):
        parse_request(b"{}", header, BUNDLE, max_pixels=10)


def test_answers_come_as_they_were_asked_for() -> None:
    outputs = {
        "scores": np.array([[0.25, 0.75], [1, 0]], np.float32),
        "label": np.array([1, 0]),
        "threshold_applied": np.zeros(1, np.float32),
    }
    wanted = [{"name": "label"}, {"name": "scores", "parameters": {"binary_data": True}}]
    body, headers = answer(parse([image()], outputs=wanted), outputs, name="m", version="v")
    head = json.loads(body[: int(headers["inference-header-content-length"])])
    assert head["outputs"][0] == {"name": "label", "datatype": "INT64", "shape": [2], "data": [1, 0]}
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 16}
    assert np.array_equal(np.frombuffer(body[-16:], np.float32), outputs["scores"].ravel())
    plain, headers = answer(parse([image()]), outputs, name="m", version="v")
    assert [one["name"] for one in json.loads(plain)["outputs"]] == ["scores", "label", "threshold_applied"]
    with pytest.raises(RequestError, match="this model has scores"):
        parse([image()], outputs=[{"name": "map"}])


def test_metadata_names_the_contract() -> None:
    about = model_metadata(BUNDLE, name="m", version="v")
    assert about["inputs"][0] == {"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}
    assert about["outputs"][0] == {"name": "scores", "datatype": "FP32", "shape": [-1, 2]}
