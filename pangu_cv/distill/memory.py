"""What the teacher says of every variant, said once and kept on disk in half precision; a killed run goes on.

Shapes: R rows (variants of images), B of them, D channels, h×w a grid.
"""

import errno
import json
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pangu_cv.distill.decisions import Said, say
from pangu_cv.distill.views import Views
from pangu_cv.errors import DataError
from pangu_cv.models.backbone import BackboneFeatures
from pangu_cv.models.training import TrainConfig, suits_bf16
from pangu_cv.progress import bar
from pangu_cv.staging import write_json
from pangu_cv.tasks import TaskModel

_BATCH = 8
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Taught:
    """Of some rows: the pooled vector, the grids of the levels that are read, and what the head says."""

    vector_BD: Tensor
    grids_BDhw: tuple[Tensor, ...]
    said: Said


class Memory:
    """Arrays in a folder, a file per part, filled row by row."""

    def __init__(self, folder: Path, shapes: Sequence[tuple[int, ...]], *, rows: int, key: str, grids: int) -> None:
        self.folder, self.grids = folder, grids
        header = folder / "memory.json"
        known = json.loads(header.read_text(encoding="utf-8")) if header.is_file() else None
        wanted = {"key": key, "rows": rows, "shapes": [list(shape) for shape in shapes]}
        mode = "r+" if known == wanted else "w+"
        if mode == "w+":
            shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
        self._needed_gb = rows * (1 + 2 * sum(math.prod(shape) for shape in shapes)) / 1e9
        self.parts = [self._open(f"part{n}.npy", (rows, *shape), np.float16, mode) for n, shape in enumerate(shapes)]
        self.is_there: NDArray[np.bool_] = self._open("done.npy", (rows,), np.bool_, mode)
        write_json(header, wanted)

    def _open(self, name: str, shape: tuple[int, ...], dtype: type, mode: str) -> NDArray[Any]:
        made = np.lib.format.open_memmap(self.folder / name, mode=mode, dtype=dtype, shape=shape)  # type: ignore[arg-type]
        if mode == "w+":
            self._reserve(self.folder / name)
        return made

    def _reserve(self, path: Path) -> None:
        """Take the file's place on the disk now: where it is missed later, the process dies without a word.

        Raises DataError where it is not there.
        """
        size = path.stat().st_size
        try:
            if hasattr(os, "posix_fallocate"):
                with path.open("r+b") as stream:
                    os.posix_fallocate(stream.fileno(), 0, size)
            elif shutil.disk_usage(self.folder).free < size:
                raise OSError(errno.ENOSPC, "No space left on device")
        except OSError as error:
            if error.errno not in _NO_ROOM:  # a file system that reserves nothing
                return
            shutil.rmtree(self.folder, ignore_errors=True)
            raise DataError(
                f"{self.folder}: what the teacher says of the images takes {self._needed_gb:.3g} GB here, and there is "
                f"no room for it ({error.strerror}); name an output on another disk, or fewer images or variants "
                "(data.most, variants)"
            ) from None

    def put(self, rows: Sequence[int], parts: Sequence[Tensor]) -> None:
        """Keep what was said of some rows; beyond what half precision holds values are cut."""
        for kept, part in zip(self.parts, parts, strict=True):
            kept[list(rows)] = part.float().clamp(-65000, 65000).cpu().numpy()
        self.is_there[list(rows)] = True

    def at(self, rows: Sequence[int]) -> Taught:
        """What was said of some rows, float32."""
        vector, *rest = (torch.from_numpy(np.asarray(part[list(rows)], np.float32)) for part in self.parts)
        return Taught(vector, tuple(rest[: self.grids]), tuple(rest[self.grids :]))


@torch.no_grad()
def remember(teacher: TaskModel, views: Views, folder: Path, *, key: str) -> Memory:
    """Have the teacher say everything that has not been said yet."""
    is_bf16 = suits_bf16(teacher.backbone, TrainConfig(), on_gpu=False)

    def said_of(rows: Sequence[int]) -> list[Tensor]:
        prepared = views.prepared(rows, teacher.preprocess)
        with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            found = teacher.backbone(prepared)
        features = as_float(found)
        return [features.vector_BD, *features.grids_BDhw, *say(teacher, features, prepared)]

    first = said_of([0])
    shapes = [tuple(part.shape[1:]) for part in first]
    grids = len(teacher.backbone.indices)
    memory = Memory(folder, shapes, rows=views.rows, key=key, grids=grids)
    todo = np.flatnonzero(~memory.is_there).tolist()
    with bar("the teacher looks") as progress:
        for start in range(0, len(todo), _BATCH):
            rows = todo[start : start + _BATCH]
            memory.put(rows, said_of(rows))
            progress(start + len(rows), len(todo))
    return memory


def as_float(features: BackboneFeatures) -> BackboneFeatures:
    """Out of half precision."""
    return BackboneFeatures(features.vector_BD.float(), tuple(grid.float() for grid in features.grids_BDhw))
