"""The loop at the line: what arrives is decided, written down once, shown where it should be, and taken away.

The order of a decision's traces is what makes it survive: pictures first (made again they are the same), then its line
in the journal, then the image leaves the inbox. A crash in between repeats the first and skips what has its line.
"""

import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from pangu_runtime.edge.begun import Begun
from pangu_runtime.edge.doubt import certainty
from pangu_runtime.edge.inbox import Arrived, Inbox
from pangu_runtime.edge.journal import Journal
from pangu_runtime.edge.outbox import After, Outbox
from pangu_runtime.edge.spool import Spool
from pangu_runtime.errors import DataError, ImageError, PanguError
from pangu_runtime.overlay import annotated_jpeg
from pangu_runtime.predictor import AnomalyPrediction, Predictor

log = logging.getLogger("pangu_runtime.edge")

Annotate = Literal["all", "flagged", "none"]
_RETRY_S = 5.0
_ROUNDS = 3  # with ``once``, that may pass without a decision before what is left is left
_NAME_BYTES = 80


@dataclass(frozen=True)
class WatchConfig:
    """What a watcher does with images; sizes in bytes, times in seconds."""

    after: After = "move"
    """What becomes of a decided image: moved to ``done`` (or ``unreadable``), kept where it is, or deleted.

    Kept images are not read again: one that replaces another under its name, size and time is taken for it.
    """
    annotate: Annotate = "flagged"
    """Which images are drawn with their decision: all, those flagged (an anomaly, a box, a class present), none."""
    doubt: float = 0.1
    """Images whose certainty is below this are kept in ``doubtful``, for a person to look at."""
    settle_s: float = 0.5
    """A file is complete when it has not changed for so long."""
    poll_s: float = 0.5
    """Between looks at an empty inbox."""
    max_annotated_bytes: int = 2**30
    """Of pictures with decisions; the oldest go."""
    max_doubtful_bytes: int = 2**30
    """Of doubtful images; the oldest go."""


class Watcher:
    """One bundle, one inbox, one output folder."""

    def __init__(self, predictor: Predictor, inbox: Path, out: Path, config: WatchConfig) -> None:
        """Raises DataError where the inbox is not there, holds the output, or lets no image leave that is to."""
        if not inbox.is_dir():
            raise DataError(f"{inbox}: is not a folder; images are to arrive there")
        if out.resolve().is_relative_to(inbox.resolve()):
            raise DataError(f"{out}: lies in the inbox, where its own pictures would arrive; choose another --out")
        if config.after != "keep" and not os.access(inbox, os.W_OK | os.X_OK):
            raise DataError(f"{inbox}: may not be written, so that no image can leave it; allow it, or --after keep")
        self.predictor, self.config, self.out = predictor, config, out
        self.inbox = Inbox(inbox, settle_s=config.settle_s)
        self.journal = Journal(out)
        self._begun = Begun(out / "begun", decided=self.journal)
        self._outbox = Outbox(out, after=config.after)
        self._annotated = Spool(out / "annotated", max_bytes=config.max_annotated_bytes)
        self._doubtful = Spool(out / "doubtful", max_bytes=config.max_doubtful_bytes)
        self.stop = threading.Event()

    def run(self, *, once: bool = False) -> int:
        """Until ``stop`` is set, or with ``once`` until the inbox is empty; how many images were decided.

        With ``once`` what is still being written is waited for; what cannot be decided, since the disk is full or gone,
        is left after a few rounds.
        """
        decided = idle = 0
        while not self.stop.is_set():
            found = self._round()
            decided, idle = decided + found, 0 if found or self.inbox.is_settling else idle + 1
            if not found:
                if once and (idle == _ROUNDS or not self._has_more()):
                    break
                self.stop.wait(self.config.poll_s)
        return decided

    def _round(self) -> int:
        """Decide what is waiting; where the inbox cannot be read, nothing."""
        found = 0
        try:
            for image in self._waiting():
                if self.stop.is_set():
                    break
                found += self._patiently(image)
        except OSError as error:
            log.error("%s: %s; waiting", self.inbox.folder, error)
            self.stop.wait(_RETRY_S)
        return found

    def _has_more(self) -> bool:
        try:
            return any(True for _ in islice(self._waiting(), 1)) or self.inbox.is_settling
        except OSError:
            return True

    def close(self) -> None:
        """Let go of the output folder."""
        self._begun.close()
        self.journal.close()

    def _waiting(self) -> Iterator[Arrived]:
        for image in self.inbox.arrived(unless=self._stays):
            if image.key not in self.journal:
                yield image
            elif self.config.after != "keep":  # its line was written, and then the power went
                other = self._other(image)
                if other is not None:
                    yield other
                else:
                    self._outbox.take(image, is_decided=not self.journal.has_error(image.key))

    def _stays(self, image: Arrived) -> bool:
        """Whether the image has its line and is left: for good, or until its leaving is tried again."""
        return image.key in self.journal if self.config.after == "keep" else self._outbox.is_resting(image)

    def _other(self, image: Arrived) -> Arrived | None:
        """The image, where it is not decided and only has name, size and time of one that was."""
        decided = self.journal.sha256(image.key)
        if decided is None:
            return None
        try:
            with image.path.open("rb") as stream:
                sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        except OSError:
            return None
        if sha256 == decided:
            return None
        other = replace(image, sha256=sha256)
        return None if other.key in self.journal else other

    def _patiently(self, image: Arrived) -> int:
        """Decide; where the disk is full or gone the image waits, and the next look tries again."""
        try:
            return self._decide(image)
        except OSError as error:
            log.error("%s: %s; waiting", image.name, error)
            self.stop.wait(_RETRY_S)
            return 0

    def _decide(self, image: Arrived) -> int:
        start = time.perf_counter()
        record: dict[str, Any] = {"key": image.key, "image": image.name}
        try:
            content = self._content(image)
            if content is None:
                return 0
            record["sha256"] = hashlib.sha256(content).hexdigest()
            self._begun.begin(image.key)
            record |= self._decision(image, content, record["sha256"])
        except FileNotFoundError:  # taken away by others before its turn
            return 0
        except OSError:  # the disk's, not the image's
            raise
        except Exception as error:  # memory, the graph: the next start would come to the same image and end there too
            record |= _failure(image.name, error)
        record |= {"at": time.time(), "seconds": round(time.perf_counter() - start, 4)}
        self.journal.add([record])
        self._begun.end(image.key)
        self._outbox.take(image, is_decided="error" not in record)
        return 1

    def _content(self, image: Arrived) -> bytes | None:
        """None where the file grows again, or a camera has put another in its place: the next look finds that one."""
        most = self.predictor.bundle.decode.max_bytes
        if image.size > most:  # not even read: memory has a bound
            raise ImageError(image.name, "too_large", f"has {image.size} bytes; at most {most} are read")
        try:
            with image.path.open("rb") as stream:
                content = stream.read()
                is_whole = len(content) == image.size and image.is_still(os.fstat(stream.fileno()))
                return content if is_whole else None
        except PermissionError as error:  # waiting for it would stop the line
            raise ImageError(image.name, "missing", f"cannot be read: {error.strerror}") from None

    def _decision(self, image: Arrived, content: bytes, sha256: str) -> dict[str, Any]:
        pixels = self.predictor.decode(content)
        found = self.predictor.predict_image(pixels, source=image.name)
        told, sure = found.to_json(), certainty(found)
        is_flagged = found.is_anomalous if isinstance(found, AnomalyPrediction) else _shows_something(told)
        stem = Path(image.name).stem.encode()[:_NAME_BYTES].decode(errors="ignore")  # file systems count bytes
        name = f"{sha256[:16]}_{stem}"
        if self.config.annotate == "all" or (self.config.annotate == "flagged" and is_flagged):
            told["picture"] = self._annotated.put(f"{name}.jpg", annotated_jpeg(pixels, found)).name
        if sure < self.config.doubt:
            self._doubtful.put(f"{name}.json", json.dumps(told).encode())
            told["doubtful"] = self._doubtful.put(f"{name}{image.path.suffix}", content).name
        return {**told, "certainty": round(sure, 4)}


def _failure(name: str, error: Exception) -> dict[str, str]:
    if isinstance(error, ImageError):
        return {"error": error.reason, "message": str(error)}
    log.error("%s: cannot be decided", name, exc_info=error)
    reason = str(error) if isinstance(error, PanguError) else f"{type(error).__name__}: {error}"
    return {"error": "failed", "message": f"{name}: {reason}"}


def _shows_something(told: dict[str, Any]) -> bool:
    """Whether a decision names something: boxes, pixels, labels; a class always does."""
    for key in ("boxes", "labels"):
        if key in told:
            return bool(told[key])
    return any(told["pixels"].values()) if "pixels" in told else True
