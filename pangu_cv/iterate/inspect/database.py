"""FiftyOne and its MongoDB, or a clear word about what keeps them from running; telemetry off, nothing looked up."""

import os
from pathlib import Path
from typing import Any

from pangu_cv.errors import MissingExtraError, RuntimeLimitError

_WAIT_MS = 5000
_WAY_OUT = (
    "Either install a MongoDB from the package index: pip install 'pangu-cv[inspect-db]' (Linux on x86_64), or name "
    "one that runs: FIFTYONE_DATABASE_URI=mongodb://HOST:PORT"
)


def open_fiftyone() -> Any:
    """The module ``fiftyone``, connected. Raises MissingExtraError, or RuntimeLimitError where MongoDB is not there."""
    os.environ["FIFTYONE_DO_NOT_TRACK"] = "true"
    os.environ.setdefault("FIFTYONE_SHOW_PROGRESS_BARS", "false")
    os.environ.setdefault("FIFTYONE_LOGGING_LEVEL", "ERROR")
    try:
        import fiftyone
    except ImportError as error:
        if (error.name or "").split(".")[0] in ("fiftyone", ""):
            raise MissingExtraError("inspect", "inspect", "fiftyone") from None
        raise RuntimeLimitError(
            f"fiftyone cannot be loaded ({error}); install it again: pip install 'pangu-cv[inspect]'"
        ) from None
    if fiftyone.config.database_uri:
        _require_answer(fiftyone.config.database_uri)
    _connect(fiftyone)
    return fiftyone


def _require_answer(uri: str) -> None:
    """Ask the named database first: FiftyOne itself would wait half a minute and then show a traceback."""
    import pymongo
    from pymongo.errors import PyMongoError

    try:
        with pymongo.MongoClient(uri, serverSelectionTimeoutMS=_WAIT_MS) as client:  # type: ignore[var-annotated]
            client.admin.command("ping")
    except (PyMongoError, ValueError) as error:
        raise RuntimeLimitError(
            f"no MongoDB answers at {_without_password(uri)} within {_WAIT_MS // 1000} s ({_short(error)}). Start it, "
            "correct FIFTYONE_DATABASE_URI, or unset it, so that FiftyOne starts its own"
        ) from None


def _connect(fiftyone: Any) -> None:
    try:
        fiftyone.list_datasets()
    except Exception as error:  # a missing mongod, no port, another version, no right to write: each its own class
        folder = Path(fiftyone.config.database_dir)
        told = _last_line(folder / "log" / "mongo.log")
        raise RuntimeLimitError(
            f"FiftyOne's MongoDB does not start ({type(error).__name__}: {_short(error)}). Its data are in '{folder}'"
            f"{f', its log ends: {told}' if told else ''}. {_WAY_OUT}"
        ) from None


def _last_line(log: Path) -> str:
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 4096))
            lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _without_password(uri: str) -> str:
    head, at, tail = uri.rpartition("@")
    return f"{head.split('//')[0]}//…@{tail}" if at else uri
