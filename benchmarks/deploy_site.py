"""The static page of a bundle, served from this machine; counts the bytes that leave."""

import functools
import http.server
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.isolate import NotRunError
from benchmarks.machine import ROOT
from pangu_runtime.bundle import open_bundle
from pangu_runtime.web.site import write_site

PACKAGES = ROOT / "export" / "end" / "node_modules"
SCRIPTS = ("bundle.mjs", "tiles.mjs", "decide.mjs")
WEB = ROOT / "export" / "pangu_runtime" / "web"


class Site:
    """Where the page is, and the bytes of files sent so far."""

    def __init__(self, url: str) -> None:
        self.url, self.sent_bytes = url, 0
        self._lock = threading.Lock()

    def count(self, sent: int) -> None:
        """From any thread."""
        with self._lock:
            self.sent_bytes += sent


@contextmanager
def site_of(bundle: Path, folder: Path) -> Iterator[Site]:
    """Write the page into ``folder`` and serve it; raises NotRunError without the engine."""
    if not (PACKAGES / "onnxruntime-web" / "dist").is_dir():
        raise NotRunError("onnxruntime-web is not here: npm install in export/end")
    folder.mkdir()
    write_site(open_bundle(bundle), PACKAGES / "onnxruntime-web", folder)
    site: Site

    class Handler(http.server.SimpleHTTPRequestHandler):
        extensions_map: ClassVar = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

        def copyfile(self, source: Any, outputfile: Any) -> None:
            super().copyfile(source, outputfile)
            site.count(source.tell())

        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        site = Site(f"http://127.0.0.1:{server.server_address[1]}/")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield site
        finally:
            server.shutdown()
            thread.join()


def node_script(folder: Path) -> Path:
    """``decide.mjs`` beside its packages, as a user sets it up; raises NotRunError without Node or the packages."""
    if shutil.which("node") is None or not all((PACKAGES / name).is_dir() for name in ("onnxruntime-web", "sharp")):
        raise NotRunError("needs node, and onnxruntime-web and sharp: npm install in export/end")
    for name in SCRIPTS:
        shutil.copyfile(WEB / name, folder / name)
    (folder / "node_modules").symlink_to(PACKAGES)
    return folder / SCRIPTS[-1]
