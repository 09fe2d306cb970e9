"""A run folder: the resolved recipe, metrics.json, the report, and what the stage makes."""

import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pangu_cv.settings import Settings
from pangu_cv.staging import write_json, write_text

PACKAGES = ("pangu-cv", "torch", "timm", "onnx", "onnxruntime", "numpy", "pillow")


@dataclass(frozen=True)
class Run:
    """One folder; files appear in it whole or not at all."""

    folder: Path

    @classmethod
    def start(cls, folder: Path | None, *, name: str, recipe: Settings | None = None) -> "Run":
        """Use ``folder``, or make ``runs/<name>-<date>-<time>``; write the resolved recipe first."""
        if folder is None:
            stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
            folder = next(
                f for n in range(1000) if not (f := Path("runs") / f"{name}-{stamp}{f'-{n}' * bool(n)}").exists()
            )
        folder.mkdir(parents=True, exist_ok=True)
        if recipe is not None:
            write_text(folder / "recipe.yaml", recipe.to_yaml())
        return cls(folder)

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"

    @property
    def model(self) -> Path:
        """The checkpoint folder."""
        return self.folder / "model"

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write ``metrics.json`` with the machine and versions beside the figures."""
        write_json(self.folder / "metrics.json", metrics | {"environment": environment()})


def environment(packages: Sequence[str] = PACKAGES) -> dict[str, Any]:
    """Python, machine and versions of the packages that figures depend on."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "system": platform.system(),
        "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }
