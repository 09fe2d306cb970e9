"""``pangu-cv watch``: a bundle at the line, on a folder or a camera, without torch."""

import signal
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pangu_cv.errors import SettingsError
from pangu_runtime.bundle import Precision
from pangu_runtime.edge.camera import Camera
from pangu_runtime.edge.outbox import After
from pangu_runtime.edge.watch import Annotate, WatchConfig, Watcher
from pangu_runtime.predictor import Predictor

_MOST = 1e9  # seconds or megabytes; what threads can wait for ends not far beyond


def watch(
    bundle: Path,
    inbox: Path,
    *,
    out: Path,
    camera: int | str | None = None,
    every: float = 1.0,
    after: After = WatchConfig.after,
    annotate: Annotate = WatchConfig.annotate,
    doubt: float = WatchConfig.doubt,
    threshold: float | None = None,
    threads: int | None = None,
    precision: Precision | None = None,
    settle_seconds: float = WatchConfig.settle_s,
    poll_seconds: float = WatchConfig.poll_s,
    max_annotated_mb: float = WatchConfig.max_annotated_bytes / 2**20,
    max_doubtful_mb: float = WatchConfig.max_doubtful_bytes / 2**20,
    once: Annotated[bool, Parameter(negative="")] = False,
) -> None:
    """Decide images as they arrive in a folder, each exactly once, through crashes and power loss. Runs without torch.

    Decisions are appended to OUT/results-*.jsonl, one JSON object a line; a line is on disk before the next image is
    begun. Ctrl-C or SIGTERM ends after the image at hand; started again, it goes on.

    Parameters
    ----------
    bundle
        The folder that 'pangu-cv export' wrote.
    inbox
        The folder where images arrive, with its sub-folders.
    out
        Where results, pictures and decided images go; one watcher a folder.
    camera
        A camera's number, or a stream's address: its pictures are put into the inbox (needs OpenCV).
    every
        Seconds between two pictures of the camera, at least 0.001.
    after
        What becomes of a decided image: move (to OUT/done), keep (not with --camera), or delete.
    annotate
        Which images are drawn with their decision into OUT/annotated.
    doubt
        Images decided with less certainty than this (0 to 1) are copied to OUT/doubtful, for a person to look at.
    threshold
        Move the threshold of a bundle; the move is logged and stands in every line.
    threads
        Threads of the runtime; default all cores.
    precision
        Which of the bundle's precisions runs: fp32, fp16 or int8; default: the one it names.
    settle_seconds
        A file is complete when it has not changed for so long; 0 for writers that rename finished files into place.
    poll_seconds
        Between looks at an empty inbox.
    max_annotated_mb
        Of pictures; then the oldest go.
    max_doubtful_mb
        Of doubtful images; then the oldest go.
    once
        End when the inbox is empty.
    """
    if camera is not None and once:
        raise SettingsError("--camera goes on for ever; leave --once out")
    if camera is not None and after == "keep":
        raise SettingsError("--camera fills the inbox, so nothing may stay there; --after move keeps all in OUT/done")
    config = WatchConfig(
        after=after,
        annotate=annotate,
        doubt=_from(0, doubt, "--doubt"),
        settle_s=_from(0, settle_seconds, "--settle-seconds"),
        poll_s=_from(0, poll_seconds, "--poll-seconds"),
        max_annotated_bytes=int(_from(0, max_annotated_mb, "--max-annotated-mb") * 2**20),
        max_doubtful_bytes=int(_from(0, max_doubtful_mb, "--max-doubtful-mb") * 2**20),
    )
    every_s = _from(0.001, every, "--every")
    predictor = Predictor(bundle, threshold=threshold, threads=threads, precision=precision)
    watcher = Watcher(predictor, inbox, out, config)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: watcher.stop.set())
    source = None if camera is None else Camera(camera, inbox, every_s=every_s, stop=watcher.stop)
    print(f"watching {inbox}: {len(watcher.journal)} decided before; Ctrl-C stops", file=sys.stderr)
    try:
        decided = watcher.run(once=once)
    finally:
        watcher.stop.set()
        if source is not None:
            source.close()
        watcher.close()
    print(f"decided {decided}; lines in {out}", file=sys.stderr)


def _from(least: float, value: float, flag: str) -> float:
    if not least <= value <= _MOST:
        raise SettingsError(f"{flag}: {value} found; a number from {least:g} to {_MOST:g} is needed")
    return value
