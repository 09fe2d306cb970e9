"""``pangu-cv serve``: bundles over HTTP, without torch."""

import math
import os
import sys
from pathlib import Path
from typing import TypeVar

from pangu_cv.errors import SettingsError
from pangu_runtime.bundle import Precision
from pangu_runtime.serve.config import ServeConfig

TOKEN = "PANGU_CV_TOKEN"
Number = TypeVar("Number", int, float)


def serve(
    *bundles: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    max_batch: int = ServeConfig.max_batch,
    max_delay_ms: float = 1e3 * ServeConfig.max_delay_s,
    max_waiting: int = ServeConfig.max_waiting,
    max_body_mb: float = ServeConfig.max_body_bytes / 2**20,
    max_megapixels: float = ServeConfig.max_pixels / 1e6,
    max_memory_mb: float = ServeConfig.max_in_flight_bytes / 2**20,
    body_seconds: float = ServeConfig.body_timeout_s,
    answer_seconds: float = ServeConfig.decide_timeout_s,
    threads: int | None = None,
    precision: Precision | None = None,
    reload_seconds: float = ServeConfig.reload_s,
) -> None:
    """Serve bundles over HTTP: the Open Inference Protocol v2, plain images, and a page to try them on.

    Where PANGU_CV_TOKEN is set, every request but health needs it as a bearer token. A bundle whose folder is replaced
    takes over once it passes its golden replay. Ctrl-C or SIGTERM finishes what is being answered. Runs without torch.

    Parameters
    ----------
    bundles
        Folders that 'pangu-cv export' wrote; each is served by the name of its folder.
    host
        Address to listen on; 0.0.0.0 is every one of this machine (set a token then).
    port
        Port to listen on.
    max_batch
        Most images of one call of a graph.
    max_delay_ms
        Longest that an image waits for others to share a call with.
    max_waiting
        Most images that wait for a model; requests beyond that are refused with 429.
    max_body_mb
        Largest body of a request.
    max_megapixels
        Largest image.
    max_memory_mb
        For bodies and decoded images of all requests together; beyond that they are refused with 429.
    body_seconds
        Longest that a body may take to arrive, then 408; raise it for slow uplinks.
    answer_seconds
        Longest that a decision may take from then on, then 503.
    threads
        Threads of each model; default all cores.
    precision
        Which of their precisions the bundles run in: fp32, fp16 or int8; default: the one each names.
    reload_seconds
        Between looks whether a bundle was replaced; 0 never looks.
    """
    from pangu_runtime.serve.server import listen, server_of
    from pangu_runtime.serve.shelf import name_of

    if not bundles:
        raise SettingsError("no bundle to serve; name one or more folders that 'pangu-cv export' wrote")
    config = ServeConfig(
        max_batch=_at_least(max_batch, 1, "--max-batch"),
        max_delay_s=_at_least(max_delay_ms, 0, "--max-delay-ms") / 1e3,
        max_waiting=_at_least(max_waiting, 1, "--max-waiting"),
        max_body_bytes=int(_at_least(max_body_mb, 0.01, "--max-body-mb") * 2**20),
        max_pixels=int(_at_least(max_megapixels, 0.001, "--max-megapixels") * 1e6),
        max_in_flight_bytes=int(_at_least(max_memory_mb, 1, "--max-memory-mb") * 2**20),
        body_timeout_s=_at_least(body_seconds, 0.1, "--body-seconds"),
        decide_timeout_s=_at_least(answer_seconds, 0.1, "--answer-seconds"),
        reload_s=_at_least(reload_seconds, 0, "--reload-seconds"),
        threads=None if threads is None else _at_least(threads, 1, "--threads"),
        precision=precision,
        token=os.environ.get(TOKEN) or None,
    )
    try:
        listening = listen(host, port)
    except (OSError, OverflowError) as error:
        raise SettingsError(f"--host {host} --port {port}: cannot listen there ({error}); choose others") from None
    server = server_of(bundles, config)
    names = ", ".join(map(name_of, bundles))
    guard = "token needed" if config.token else "no token: anyone who reaches the port may use it"
    print(f"serving {names} on http://{host}:{port}/ ({guard}); Ctrl-C stops", file=sys.stderr)
    server.run(sockets=[listening])


def _at_least(value: Number, least: float, flag: str) -> Number:
    if not (math.isfinite(value) and value >= least):
        raise SettingsError(f"{flag}: {value} found; a number of at least {least:g} is needed")
    return value
