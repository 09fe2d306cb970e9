"""The Open Inference Protocol v2 over HTTP: requests and answers, tensors as JSON or, by its extension, as binary.

https://kserve.github.io/website/docs/concepts/architecture/data-plane/v2-protocol. What is asked of a model is its
contract: ``image`` UINT8 [N,H,W,3], and ``threshold`` FP32 [1] where it has one.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_runtime.bundle import CONTRACT, DTYPES, Bundle

BINARY_HEADER = "inference-header-content-length"
# What JSON takes once it is read, measured: a byte in general, each object and each list.
_BYTES_PER_JSON_BYTE, _BYTES_PER_OBJECT, _BYTES_PER_LIST = 12, 192, 56
DATATYPES = {"uint8": "UINT8", "float32": "FP32", "int64": "INT64", "bool": "BOOL"}


class RequestError(Exception):
    """A request that is refused: the HTTP status, and what is wrong with it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class InferRequest:
    """Pixels uint8[N,H,W,3] to decide, and how to answer: names of outputs, each with whether it is sent as binary."""

    id: str | None
    images_NHW3: NDArray[np.uint8]
    threshold: float | None
    outputs: Mapping[str, bool]


def model_metadata(bundle: Bundle, *, name: str, version: str, boxes: int = -1) -> dict[str, Any]:
    """What ``GET /v2/models/NAME`` answers; -1 stands for a size that may vary, ``boxes`` is how many the graph has."""
    sizes = {"N": -1, "H": -1, "W": -1, "K": boxes, "C": len(bundle.classes)}
    inputs = [{"name": "image", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    if bundle.threshold is not None:
        inputs.append({"name": "threshold", "datatype": "FP32", "shape": [1]})
    outputs = [
        {
            "name": output,
            "datatype": DATATYPES[DTYPES[output]],
            "shape": [sizes[size] if isinstance(size, str) else size for size in shape],
        }
        for output, shape in CONTRACT[bundle.task].items()
    ]
    about = {"task": bundle.task, "classes": json.dumps(list(bundle.classes))}
    return {
        "name": name,
        "versions": [version],
        "platform": "onnxruntime_onnx",
        "inputs": inputs,
        "outputs": outputs,
        "parameters": about,
    }


def json_part(body: bytes, header_bytes: str | None) -> bytes:
    """What of a body is JSON; all of it where ``header_bytes`` says nothing or nonsense, which parsing will refuse."""
    try:
        return _split(body, header_bytes)[0]
    except RequestError:
        return body


def json_bytes(head: bytes) -> int:
    """Memory that reading it may take: brackets that hold nothing are as short as they are expensive."""
    objects, lists = head.count(b"{"), head.count(b"[")
    return _BYTES_PER_JSON_BYTE * len(head) + _BYTES_PER_OBJECT * objects + _BYTES_PER_LIST * lists


def parse_request(body: bytes, header_bytes: str | None, bundle: Bundle, *, max_pixels: int) -> InferRequest:
    """The request for a bundle; ``header_bytes`` is what ``BINARY_HEADER`` says, where it is there.

    Raises RequestError.
    """
    head, blobs = _split(body, header_bytes)
    try:
        asked = json.loads(head)
    except (ValueError, RecursionError):
        raise RequestError(400, "the request is not JSON") from None
    if not isinstance(asked, dict) or not isinstance(asked.get("inputs"), list):
        raise RequestError(400, 'a JSON object with a list "inputs" is needed')
    tensors = dict(_tensors(asked["inputs"], blobs, max_pixels=max_pixels))
    allowed = {"image", "threshold"} if bundle.threshold is not None else {"image"}
    if "image" not in tensors or set(tensors) - allowed:
        raise RequestError(400, f"inputs {sorted(tensors)} found; this model takes {sorted(allowed)}, and needs image")
    identity = asked.get("id")
    return InferRequest(
        None if identity is None else str(identity),
        _images(tensors["image"]),
        _threshold(tensors.get("threshold")),
        _outputs(asked, list(CONTRACT[bundle.task])),
    )


def answer(
    request: InferRequest, outputs: Mapping[str, NDArray[Any]], *, name: str, version: str
) -> tuple[bytes, dict[str, str]]:
    """Body and headers."""
    described, blobs = [], []
    for output, is_binary in request.outputs.items():
        value = np.ascontiguousarray(outputs[output])
        one: dict[str, Any] = {"name": output, "datatype": DATATYPES[value.dtype.name], "shape": list(value.shape)}
        if is_binary:
            blobs.append(value.astype(value.dtype.newbyteorder("<"), copy=False).tobytes())
            one["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            one["data"] = value.ravel().tolist()
        described.append(one)
    told: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": described}
    if request.id is not None:
        told["id"] = request.id
    head = json.dumps(told).encode()
    if not blobs:
        return head, {"content-type": "application/json"}
    return b"".join((head, *blobs)), {"content-type": "application/octet-stream", BINARY_HEADER: str(len(head))}


def _split(body: bytes, header_bytes: str | None) -> tuple[bytes, memoryview]:
    if header_bytes is None:
        return body, memoryview(b"")
    if not header_bytes.isascii() or not header_bytes.isdigit() or int(header_bytes) > len(body):
        raise RequestError(400, f"{BINARY_HEADER}: {header_bytes!r} found; the body has {len(body)} bytes")
    end = int(header_bytes)
    return body[:end], memoryview(body)[end:]


def _tensors(inputs: Sequence[Any], blobs: memoryview, *, max_pixels: int) -> Iterator[tuple[str, NDArray[Any]]]:
    """Name and array of every input; binary ones lie one after the other in the order of the inputs."""
    at = 0
    for one in inputs:
        if not isinstance(one, dict) or not isinstance(one.get("name"), str):
            raise RequestError(400, "every input is an object with a name")
        name, shape = one["name"], _shape(one)
        kinds = {"UINT8": np.uint8, "FP32": np.float32}
        if one.get("datatype") not in kinds:
            raise RequestError(400, f"{name}: datatype {one.get('datatype')!r} found; allowed: {', '.join(kinds)}")
        dtype = np.dtype(kinds[one["datatype"]])
        count = math.prod(shape)
        if count > 3 * max_pixels:
            raise RequestError(413, f"{name}: {count // 3} pixels; at most {max_pixels} are taken")
        size = _parameters(one).get("binary_data_size")
        if size is None:
            yield name, _from_json(one.get("data"), dtype, name, shape)
            continue
        if type(size) is not int or size != count * dtype.itemsize or at + size > len(blobs):
            told = f"{name}: binary_data_size {size!r} found; shape {list(shape)} needs {count * dtype.itemsize}"
            raise RequestError(400, f"{told}, and {len(blobs) - at} bytes are left in the body")
        yield name, np.frombuffer(blobs[at : at + size], dtype.newbyteorder("<")).reshape(shape)
        at += size
    if at != len(blobs):
        raise RequestError(400, f"{len(blobs) - at} bytes of the body belong to no input")


def _parameters(one: Mapping[str, Any]) -> Mapping[str, Any]:
    found = one.get("parameters") or {}
    if not isinstance(found, dict):
        raise RequestError(400, "parameters: an object is needed")
    return found


def _shape(one: Mapping[str, Any]) -> tuple[int, ...]:
    shape = one.get("shape")
    if isinstance(shape, list) and len(shape) <= 8 and all(type(size) is int and 0 < size < 2**31 for size in shape):
        return tuple(shape)
    raise RequestError(400, f"{one['name']}: shape {shape!r} found; a list of positive numbers is needed")


def _from_json(data: Any, dtype: np.dtype[Any], name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Flat or nested."""
    try:
        values = np.asarray(data, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise RequestError(400, f"{name}: data is no list of numbers, or its rows differ in length") from None
    if dtype == np.uint8 and not ((values >= 0) & (values <= 255) & (values == np.floor(values))).all():
        raise RequestError(400, f"{name}: UINT8 holds whole numbers from 0 to 255")
    if values.size != math.prod(shape):
        raise RequestError(400, f"{name}: {values.size} numbers found; shape {list(shape)} needs {math.prod(shape)}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is refused by its name, not warned of
        return values.astype(dtype).reshape(shape)


def _images(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] != 3:
        found = f"{DATATYPES.get(image.dtype.name)} {list(image.shape)}"
        raise RequestError(400, f"image: {found} found; UINT8 [N,H,W,3] is needed")
    return image


def _threshold(value: NDArray[Any] | None) -> float | None:
    if value is None:
        return None
    if value.shape != (1,) or value.dtype != np.float32 or not np.isfinite(value).all():
        raise RequestError(400, "threshold: one finite FP32 of shape [1] is needed")
    return float(value[0])


def _outputs(asked: Mapping[str, Any], known: Sequence[str]) -> dict[str, bool]:
    is_binary = _parameters(asked).get("binary_data_output") is True
    wanted = asked.get("outputs")
    if not wanted:
        return dict.fromkeys(known, is_binary)
    if not isinstance(wanted, list) or not all(isinstance(one, dict) and one.get("name") in known for one in wanted):
        raise RequestError(400, f"outputs: this model has {', '.join(known)}")
    return {one["name"]: bool(_parameters(one).get("binary_data", is_binary)) for one in wanted}
