"""A graph in a file as something that decides, before there is a bundle around it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from pangu_runtime.bundle import CONTRACT, Task
from pangu_runtime.tiles import Tiling, run_tiled

Pixels = NDArray[np.uint8]
Outputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Kind:
    """What a graph must be told by besides its file."""

    task: Task
    tiling: Tiling | None = None


class GraphDecider:
    """A ``Decider`` of one ONNX file, or of one in memory."""

    def __init__(self, model: Path | bytes, kind: Kind, *, profile: Path | None = None) -> None:
        self.kind = kind
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Threads that wait busily after a call take time from the graph whose turn is next (docs/LOG.md).
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, str(profile)
        source = model if isinstance(model, bytes) else str(model)
        self.session = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(self, images_NHW3: Pixels) -> Outputs:
        """Outputs by name."""
        tiling = self.kind.tiling
        return self.call(images_NHW3) if tiling is None else run_tiled(self.call, images_NHW3, tiling)

    def call(self, images_NHW3: Pixels) -> Outputs:
        """The same without tiles."""
        names = list(CONTRACT[self.kind.task])
        return dict(zip(names, self.session.run(names, {"image": images_NHW3}), strict=True))
