"""The routes of the server.

| route | what it does |
|---|---|
| ``GET /`` | a page to drop an image on |
| ``GET /models`` | what is served |
| ``POST /models/NAME/predict`` | an image file as body, the decision as JSON; ``?overlay=1`` adds its map |
| ``/v2/…`` | the Open Inference Protocol: health, metadata, infer |
| ``GET /metrics`` | Prometheus |
"""

import asyncio
import hmac
import json
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from importlib import resources
from importlib.metadata import version
from pathlib import PurePath

import numpy as np
from anyio import CapacityLimiter, to_thread
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pangu_runtime.decode import ImageHeader, decode, peek
from pangu_runtime.errors import ImageError
from pangu_runtime.overlay import layer_png
from pangu_runtime.serve.batcher import ClosedError, FullError, Outputs
from pangu_runtime.serve.config import ServeConfig
from pangu_runtime.serve.in_flight import HeldResponse, InFlight
from pangu_runtime.serve.metrics import Metrics
from pangu_runtime.serve.protocol import (
    BINARY_HEADER,
    InferRequest,
    RequestError,
    answer,
    json_bytes,
    json_part,
    model_metadata,
    parse_request,
)
from pangu_runtime.serve.shelf import Served, Shelf

log = logging.getLogger("pangu_runtime.serve")

_DECODERS = 2  # images decoded at a time
# Of an image while it is decoded, measured: 7.4 of any 8-bit kind, 3 more where EXIF turns it.
_BYTES_PER_PIXEL, _BYTES_PER_16BIT_PIXEL = 12, 24
_BYTES_PER_JSON_NUMBER = 60  # of an answer: an object, and its digits
_BYTES_PER_BINARY_BYTE = 3  # of an answer: on its own, joined with the others, and at the socket
_BYTES_PER_OVERLAY_PIXEL = 24
_FEW_NUMBERS = 200  # of an answer: written in about the time that handing it to a thread takes, 0.15 ms
_SHORT_JSON = 4096  # bytes of a request: read in less than that time
_LARGEST = float(np.finfo(np.float32).max)
_HEADERS = {"x-content-type-options": "nosniff", "cache-control": "no-store"}
_INLINE = "'self' 'unsafe-inline'"
_POLICY = f"default-src 'self'; style-src {_INLINE}; script-src {_INLINE}; img-src 'self' blob: data:"
_ASSETS = {"": "server.html", "show.mjs": "show.mjs", "style.css": "style.css"}
_TYPES = {".html": "text/html", ".mjs": "text/javascript", ".css": "text/css"}
Endpoint = Callable[[Request], Awaitable[Response]]


class App:
    """Holds what the routes share."""

    def __init__(self, shelf: Shelf, config: ServeConfig, metrics: Metrics) -> None:
        self.shelf, self.config, self.metrics = shelf, config, metrics
        self.in_flight = InFlight(config.max_in_flight_bytes)
        self._decoders = CapacityLimiter(_DECODERS)
        metrics.gauge("pangu_waiting_images", "Images that wait for a model", self._waiting)
        metrics.gauge("pangu_in_flight_bytes", "Bytes of requests held", lambda: self.in_flight.held)
        metrics.gauge("pangu_refused_bundles", "Replaced bundles that cannot be used", lambda: len(shelf.refused))

    def starlette(self) -> Starlette:
        """The ASGI application."""
        post, get = ["POST"], ["GET"]
        v2 = "/v2/models/{name}"
        routes = [
            *(Route(f"/{path}", partial(self._asset, name), methods=get) for path, name in _ASSETS.items()),
            Route("/metrics", self._guarded("metrics", self._metrics), methods=get),
            Route("/models", self._guarded("models", self._models), methods=get),
            Route("/models/{name}/predict", self._guarded("predict", self._predict), methods=post),
            Route("/v2", self._guarded("server", self._server), methods=get),
            Route("/v2/health/live", self._healthy, methods=get),
            Route("/v2/health/ready", self._healthy, methods=get),
            Route("/v2/repository/index", self._guarded("index", self._index), methods=post),
        ]
        for path in (v2, v2 + "/versions/{version}"):
            routes += [
                Route(path, self._guarded("metadata", self._metadata), methods=get),
                Route(path + "/ready", self._guarded("ready", self._ready), methods=get),
                Route(path + "/infer", self._guarded("infer", self._infer), methods=post),
            ]
        return Starlette(routes=routes, lifespan=self._lifespan)

    @asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await to_thread.run_sync(self.shelf.close)

    def _guarded(self, route: str, endpoint: Endpoint) -> Endpoint:
        """With the token asked for, errors as JSON, and every answer counted."""

        async def run(request: Request) -> Response:
            start, name = time.perf_counter(), request.path_params.get("name", "")
            model = name if any(one.name == name for one in self.shelf) else ""  # names of others are not ours to count
            try:
                self._authorise(request)
                response = await endpoint(request)
            except RequestError as error:
                response = JSONResponse({"error": str(error)}, error.status)
            except ImageError as error:
                status = 413 if error.reason == "too_large" else 400
                response = JSONResponse({"error": str(error), "reason": error.reason}, status)
            except FullError:
                response = JSONResponse({"error": "as many images wait as may; try again"}, 429)
            except TimeoutError:
                response = JSONResponse({"error": "no answer in time"}, 503)
            except ClientDisconnect:
                response = Response(status_code=499)  # nobody reads it; it is counted
            except Exception:
                log.exception("%s %s", request.method, request.url.path)
                response = JSONResponse({"error": "the server failed; its log says why"}, 500)
            if response.status_code == 429:
                response.headers["retry-after"] = "1"
            response.headers.update(_HEADERS)
            self.metrics.requests.labels(model, route, response.status_code).inc()
            self.metrics.seconds.labels(model, route).observe(time.perf_counter() - start)
            return response

        return run

    def _authorise(self, request: Request) -> None:
        token = self.config.token
        given = request.headers.get("authorization", "")
        if token is not None and not hmac.compare_digest(given.encode("latin-1"), f"Bearer {token}".encode()):
            raise RequestError(401, "a bearer token is needed")

    def _served(self, request: Request) -> Served:
        name, asked = request.path_params["name"], request.path_params.get("version")
        try:
            served = self.shelf[name]
        except KeyError:
            known = ", ".join(one.name for one in self.shelf)
            raise RequestError(404, f"no model '{name}' here; there are: {known}") from None
        if asked not in (None, served.version):
            raise RequestError(404, f"'{name}' is served in version {served.version}")
        return served

    async def _asset(self, name: str, _: Request) -> Response:
        text = resources.files("pangu_runtime.web").joinpath(name).read_text(encoding="utf-8")
        headers = {"content-security-policy": _POLICY, **_HEADERS}
        return Response(text, media_type=_TYPES[PurePath(name).suffix], headers=headers)

    async def _healthy(self, _: Request) -> Response:
        return Response(status_code=200)

    async def _metrics(self, _: Request) -> Response:
        return PlainTextResponse(self.metrics.text(), media_type="text/plain; version=0.0.4")

    async def _server(self, _: Request) -> Response:
        about = {"name": "pangu-cv", "version": version("pangu-cv"), "extensions": ["binary_tensor_data"]}
        return JSONResponse(about)

    async def _index(self, _: Request) -> Response:
        return JSONResponse([{"name": one.name, "version": one.version, "state": "READY"} for one in self.shelf])

    async def _models(self, _: Request) -> Response:
        models = []
        for one in self.shelf:
            bundle = one.predictor.bundle
            moved, threshold = one.predictor.moved_threshold, bundle.threshold
            models.append(
                {
                    "name": one.name,
                    "version": one.version,
                    "task": bundle.task,
                    "classes": list(bundle.classes),
                    "threshold": moved if moved is not None else threshold and threshold.value,
                }
            )
        return JSONResponse(models)

    async def _metadata(self, request: Request) -> Response:
        served = self._served(request)
        predictor = served.predictor
        about = model_metadata(predictor.bundle, name=served.name, version=served.version, boxes=predictor.boxes)
        return JSONResponse(about)

    async def _ready(self, request: Request) -> Response:
        self._served(request)
        return Response(status_code=200)

    async def _infer(self, request: Request) -> Response:
        served = self._served(request)
        binary_at = request.headers.get(BINARY_HEADER)
        with self.in_flight.reserve(self._announced(request)):
            body = await self._body(request)
            head = json_part(body, binary_at)
            with self.in_flight.reserve(json_bytes(head)):
                parse = partial(parse_request, bundle=served.predictor.bundle, max_pixels=self.config.max_pixels)
                if len(head) <= _SHORT_JSON:
                    asked = parse(body, binary_at)
                else:
                    asked = await to_thread.run_sync(parse, body, binary_at, limiter=self._decoders)
            if (count := len(asked.images_NHW3)) > self.config.max_waiting:
                raise RequestError(413, f"{count} images; at most {self.config.max_waiting} are taken at once")
            outputs, served = await self._decide(request, asked.images_NHW3, asked.threshold)
        return await self._answer(asked, outputs, served)

    async def _answer(self, asked: InferRequest, outputs: Outputs, served: Served) -> Response:
        """Written, and held until it is sent: a client may take its time."""
        numbers = sum(outputs[name].size for name, is_binary in asked.outputs.items() if not is_binary)
        binary = sum(outputs[name].nbytes for name, is_binary in asked.outputs.items() if is_binary)
        release = self.in_flight.hold(_BYTES_PER_JSON_NUMBER * numbers + _BYTES_PER_BINARY_BYTE * binary)
        try:
            told = partial(answer, asked, outputs, name=served.name, version=served.version)
            is_quick = numbers <= _FEW_NUMBERS
            content, headers = told() if is_quick else await to_thread.run_sync(told, limiter=self._decoders)
        except BaseException:
            release()
            raise
        return HeldResponse(content, headers=headers, release=release)

    async def _predict(self, request: Request) -> Response:
        served, spec = self._served(request), self._served(request).predictor.bundle.decode
        threshold = _number(request.query_params.get("threshold"))
        _require_movable(served, threshold)
        with self.in_flight.reserve(self._announced(request)):
            body = await self._body(request)
            limited = replace(spec, max_pixels=min(spec.max_pixels, self.config.max_pixels))
            header = await to_thread.run_sync(partial(peek, body, spec=limited), limiter=self._decoders)
            has_overlay = request.query_params.get("overlay", "0") not in ("0", "false", "")
            per_pixel = _bytes_per_pixel(header) + has_overlay * _BYTES_PER_OVERLAY_PIXEL
            with self.in_flight.reserve(per_pixel * header.width_px * header.height_px):
                image = await to_thread.run_sync(partial(decode, body, spec=spec), limiter=self._decoders)
                outputs, served = await self._decide(request, image[None], threshold)
                [found] = served.predictor.unpack(["image"], outputs)
                told = {**found.to_json(), "model": served.name, "version": served.version}
                if has_overlay:
                    told["overlay_png"] = await to_thread.run_sync(layer_png, found, limiter=self._decoders)
                content = json.dumps(told).encode()
        headers = {"content-type": "application/json"}
        return HeldResponse(content, headers=headers, release=self.in_flight.hold(2 * len(content)))

    async def _decide(
        self, request: Request, images_NHW3: NDArray[np.uint8], threshold: float | None
    ) -> tuple[Outputs, Served]:
        """The outputs, and who gave them: a bundle that is replaced meanwhile hands over to the new one."""
        while True:
            served = self._served(request)
            if served.predictor.bundle.tiling is not None and len(images_NHW3) > 1:
                raise RequestError(400, f"'{served.name}' works in tiles and takes one image a request")
            _require_movable(served, threshold)
            try:
                waiting = served.batcher.submit(images_NHW3, threshold)
            except ClosedError:
                await asyncio.sleep(0)
                continue
            return await asyncio.wait_for(asyncio.wrap_future(waiting), self.config.decide_timeout_s), served

    def _announced(self, request: Request) -> int:
        """Bytes to reserve for a body; one that does not say its length may be as long as any."""
        length = request.headers.get("content-length")
        if length is None:
            return self.config.max_body_bytes
        if not length.isdigit() or int(length) > self.config.max_body_bytes:
            raise RequestError(413, f"the body has {length} bytes; at most {self.config.max_body_bytes} are taken")
        return int(length)

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        try:
            async with asyncio.timeout(self.config.body_timeout_s):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > self.config.max_body_bytes:
                        raise RequestError(413, f"the body is longer than {self.config.max_body_bytes} bytes")
        except TimeoutError:
            raise RequestError(408, "the body did not arrive in time") from None
        return bytes(body)

    def _waiting(self) -> float:
        return sum(one.batcher.waiting for one in self.shelf)


def _bytes_per_pixel(header: ImageHeader) -> int:
    return _BYTES_PER_16BIT_PIXEL if header.bit_depth > 8 else _BYTES_PER_PIXEL


def _require_movable(served: Served, threshold: float | None) -> None:
    if threshold is not None and served.predictor.bundle.fixed is not None:
        raise RequestError(400, f"threshold: '{served.name}': {served.predictor.bundle.fixed}")


def _number(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) <= _LARGEST:  # the graph takes float32
        raise RequestError(400, f"threshold: {text!r} found; a finite number is needed")
    return value
