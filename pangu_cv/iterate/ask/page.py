"""Questions on a phone: a page for one thumb, served by this machine, for who has the link.

The link holds a secret token; every other path is 404. Nothing is fetched from elsewhere. Several phones get different
images, and an answer that is sent again after a lost connection is one answer.
"""

import hmac
import io
import json
import secrets
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from pangu_cv.errors import DataError, ImageError, PanguError
from pangu_cv.iterate.ask import Asked, Session
from pangu_cv.report.text import readable
from pangu_runtime.decode import DecodeSpec, decode

_MOST_BYTES = 4096
_SIDE_PX = 1600  # a phone's screen, with something to zoom into
_NAME = 60
_POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


class _Refused(Exception):
    """A status and a word for the page."""

    def __init__(self, status: int, told: str) -> None:
        super().__init__(told)
        self.status = status


@contextmanager
def page(session: Session, *, port: int, address: str, token: str | None = None) -> Iterator[str]:
    """Serve in the background; gives the link. Raises PanguError where the port is taken."""
    secret = token or secrets.token_urlsafe(16)
    handler = type("Handler", (_Handler,), {"session": session, "token": secret})
    try:
        server = ThreadingHTTPServer((address, port), handler)
    except (OSError, OverflowError) as error:
        raise PanguError(
            f"{address}:{port} cannot be listened on ({error}); choose another --port or --address"
        ) from None
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://{_host(address)}:{server.server_address[1]}/{secret}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask_on_page(session: Session, *, port: int, address: str) -> None:
    """Serve until Ctrl-C."""
    with page(session, port=port, address=address) as link:
        print(f"Open on the phone   {link}   (ends with Ctrl-C; every answer is kept at once)", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print()


class _Handler(BaseHTTPRequestHandler):
    session: Session
    token: str
    timeout = 30
    server_version, sys_version = "pangu-cv", ""

    def do_GET(self) -> None:
        """The page, the next question, or a question's picture."""
        self._guard(self._get)

    def do_POST(self) -> None:
        """An answer, or taking the last one back; both reply with the next question."""
        self._guard(self._post)

    def _get(self, path: str, query: dict[str, list[str]]) -> None:
        if path == "":
            text = resources.files("pangu_cv.iterate.ask").joinpath("page.html").read_bytes()
            self._reply(200, text, "text/html; charset=utf-8")
        elif path == "next":
            self._state(_by(query.get("by", [""])[0]))
        elif path.startswith("image/"):
            asked = self._asked(path.removeprefix("image/"))
            try:
                subject = self.session.subject
                self._reply(200, _picture(subject.images[asked.row], subject.decode_spec), "image/jpeg")
            except ImageError as error:
                raise _Refused(410, f"the picture cannot be read: {error.reason}") from None
        else:
            raise _Refused(404, "there is no such page")

    def _post(self, path: str, query: dict[str, list[str]]) -> None:
        body = self._body()
        if path == "undo":
            by = _by(body.get("by"))
            self.session.undo(by)
            self._state(by)
        elif path == "answer":
            asked, said, seconds = self._asked(body.get("id")), body.get("said"), body.get("seconds")
            if said not in ("yes", "no", "unsure", "label") or not isinstance(seconds, int | float):
                raise _Refused(400, "is no answer")
            self.session.take(asked, said, seconds=float(seconds), klass=body.get("klass"))
            self._state(asked.by)
        else:
            raise _Refused(404, "there is no such page")

    def _guard(self, work: Any) -> None:
        try:
            parts = urlsplit(self.path)
            _, token, *rest = (*parts.path.split("/", 2), "")
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                raise _Refused(404, "there is no such page; open the whole link")
            work(rest[0], parse_qs(parts.query))
        except _Refused as refused:
            self._json(refused.status, {"error": str(refused)})
        except (DataError, ValueError) as error:
            self._json(400, {"error": readable(error)})
        except (BrokenPipeError, ConnectionError, TimeoutError):
            self.close_connection = True

    def _asked(self, id_: object) -> Asked:
        asked = self.session.shown(id_) if isinstance(id_, str) else None
        if asked is None:
            raise _Refused(410, "that question is of an earlier session; load the page again")
        return asked

    def _body(self) -> dict[str, Any]:
        length = self.headers.get("content-length", "")
        if not length.isdigit() or int(length) > _MOST_BYTES:
            raise _Refused(413, "an answer is small")
        try:
            found = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise _Refused(400, "is no JSON") from None
        if not isinstance(found, dict):
            raise _Refused(400, "is no answer")
        return found

    def _state(self, by: str) -> None:
        session = self.session
        asked = session.next(by)
        question = asked and {
            "id": asked.id,
            "klass": asked.klass,
            "disputed": asked.is_disputed,
            "again": asked.kind == "second look",
            "image": readable(session.subject.name(asked.row)),
        }
        self._json(
            200,
            {
                "question": question,
                "classes": list(session.subject.classes),
                "labelled": int((session.label_N >= 0).sum()),
                "images": len(session.label_N),
                "seconds": session.known.seconds,
                "stopped": session.stopped,
            },
        )

    def _json(self, status: int, value: dict[str, Any]) -> None:
        self._reply(status, json.dumps(value).encode(), "application/json")

    def _reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("content-type", kind),
            ("content-length", str(len(content))),
            ("cache-control", "no-store"),
            ("content-security-policy", _POLICY),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the token would be in it."""


def _by(name: object) -> str:
    found = " ".join(readable(name).split())[:_NAME] if isinstance(name, str) else ""
    if not found:
        raise _Refused(400, "who is it? a name is needed")
    return found


@lru_cache(maxsize=16)
def _picture(path: Path, spec: DecodeSpec) -> bytes:
    image = Image.fromarray(decode(path, spec=spec))
    image.thumbnail((_SIDE_PX, _SIDE_PX), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    return stream.getvalue()


def _host(address: str) -> str:
    """What to type on a phone; of 0.0.0.0 the address by which this machine reaches others."""
    if address not in ("0.0.0.0", "::", ""):
        return f"[{address}]" if ":" in address else address
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # nothing is sent
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()
