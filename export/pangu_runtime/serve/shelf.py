"""The bundles a server answers for; one that is replaced on disk takes over once it has proved itself."""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pangu_runtime.bundle import fingerprint
from pangu_runtime.errors import BundleError, PanguError
from pangu_runtime.golden import replay
from pangu_runtime.predictor import BATCH_PIXELS, Predictor
from pangu_runtime.serve.batcher import Batcher
from pangu_runtime.serve.config import ServeConfig

log = logging.getLogger("pangu_runtime.serve")


def name_of(folder: Path) -> str:
    """What a bundle is served by: the name of its folder, or of the link to it, which stays where it points changes."""
    return Path(os.path.normpath(folder.absolute())).name


@dataclass(frozen=True)
class Served:
    """A bundle in use."""

    name: str
    version: str
    """The first digits of its fingerprint."""
    predictor: Predictor
    batcher: Batcher


class Shelf:
    """Names and the bundles behind them; safe to use from many threads."""

    def __init__(
        self,
        folders: Sequence[Path],
        config: ServeConfig,
        *,
        on_batch: Callable[[str, int, float], None] = lambda name, images, seconds: None,
    ) -> None:
        """Raises PanguError for a bundle that cannot be used, or two of one name."""
        self._config, self._on_batch = config, on_batch
        self._folders = {name_of(folder): folder for folder in folders}
        if len(self._folders) < len(folders):
            raise BundleError("two bundles have the same folder name, which is the name they are served by; rename one")
        self._served = {name: self._load(name) for name in self._folders}
        self._refused: dict[str, tuple[str | None, int]] = {}
        self._stop = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="reload", daemon=True)
        if config.reload_s:
            self._watcher.start()

    def __getitem__(self, name: str) -> Served:
        return self._served[name]

    def __iter__(self) -> Iterator[Served]:
        return iter(tuple(self._served.values()))

    @property
    def refused(self) -> dict[str, str | None]:
        """Versions that lie on disk and could not be used, by name; the ones before them still answer."""
        return {name: version for name, (version, _) in self._refused.items()}

    def close(self) -> None:
        """Finish what waits."""
        self._stop.set()
        for served in self:
            served.batcher.close()

    def reload(self) -> None:
        """Take over every bundle that was replaced and passes its golden replay."""
        for name, folder in self._folders.items():
            old, version = self._served[name], _version(folder)
            if version is None:  # it is being replaced at this moment
                continue
            if version == old.version:
                self._refused.pop(name, None)  # what could not be used was taken back
                continue
            state = (version, _newest_ns(folder))  # a copy that is still going on is looked at again
            if state == self._refused.get(name):
                continue
            try:
                fresh = self._load(name)
            except Exception as error:  # a bundle nobody foresaw must not end the watching
                is_foreseen = isinstance(error, PanguError | OSError)
                log.error("%s: keeping version %s (%s)", name, old.version, error, exc_info=not is_foreseen)
                self._refused[name] = state
                continue
            self._served[name] = fresh
            self._refused.pop(name, None)
            log.warning("%s: version %s takes over from %s", name, fresh.version, old.version)
            old.batcher.close()

    def _watch(self) -> None:
        while not self._stop.wait(self._config.reload_s):
            self.reload()

    def _load(self, name: str) -> Served:
        folder, config = self._folders[name], self._config
        predictor = Predictor(folder, threads=config.threads, precision=config.precision)
        version = _version(folder)
        replay(predictor)
        batcher = Batcher(
            lambda images_NHW3, threshold: predictor.run(images_NHW3, threshold=threshold),
            max_batch=1 if predictor.bundle.tiling is not None else config.max_batch,
            max_delay_s=config.max_delay_s,
            max_waiting=config.max_waiting,
            max_pixels=BATCH_PIXELS,
            on_batch=lambda images, seconds: self._on_batch(name, images, seconds),
        )
        return Served(name, version or "", predictor, batcher)


def _version(folder: Path) -> str | None:
    try:
        return fingerprint(folder)[:12]
    except OSError:
        return None


def _newest_ns(folder: Path) -> int:
    """When anything in it changed last."""
    changed = 0
    for path in folder.rglob("*"):
        try:
            changed = max(changed, path.stat().st_mtime_ns, path.stat().st_ctime_ns)
        except OSError:
            continue
    return changed
