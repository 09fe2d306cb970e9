"""Teaching a student: variants in, the teacher's kept words beside them, losses down.

Shapes: S pixels a side, B images of a step.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pangu_cv.distill.memory import Memory, as_float
from pangu_cv.distill.pupil import LossConfig, Pupil, Scale
from pangu_cv.distill.student import fit_head
from pangu_cv.distill.views import Views
from pangu_cv.models.adapt import Group
from pangu_cv.models.gpu import usable_gpu
from pangu_cv.models.kept import Kept
from pangu_cv.models.training import History, TrainConfig, suits_bf16, train
from pangu_cv.tasks import TaskModel

_KEPT_BYTES = 2 * 2**30
_STARTED_FROM = 256  # images that head and maps are first fitted to
_BATCH = 32


@dataclass
class Lesson:
    """Images with what the teacher said of them; the last ``held_out`` images are never learnt from."""

    views: Views
    memory: Memory
    teacher: TaskModel
    held_out: int
    loss: LossConfig
    train: TrainConfig
    seed: int = 0
    _inputs: dict[tuple[int, int], Tensor] = field(default_factory=dict)

    @property
    def learnt(self) -> int:
        """Images that are learnt from."""
        return len(self.views.paths) - self.held_out

    def rows(self, images: Sequence[int], number: int = 0) -> list[int]:
        """Rows of one variant of some images."""
        return [image * self.views.variants + number for image in images]

    def inputs(self, rows: Sequence[int], model: TaskModel) -> Tensor:
        """float32[B,3,S,S]: kept in half precision as long as there is room, since variants come again and again."""
        side, std = model.config.preprocess.image_px, tuple(model.backbone.std)
        return self._kept(rows, side, (tuple(model.backbone.mean), std))

    def inputs_of_side(self, rows: Sequence[int], side: int) -> Tensor:
        """The same for the teacher's own network at another side."""
        return self._kept(rows, side, (tuple(self.teacher.backbone.mean), tuple(self.teacher.backbone.std)))

    def _kept(self, rows: Sequence[int], side: int, scale: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
        own: Any = self.teacher.config
        preprocess = own.preprocess.model_copy(update={"image_px": side}).build(mean=scale[0], std=scale[1])
        found = []
        for row in rows:
            kept = self._inputs.get((side, row))
            if kept is None:
                kept = self.views.prepared([row], preprocess).half()
                if len(self._inputs) * kept.nbytes < _KEPT_BYTES:
                    self._inputs[side, row] = kept
            found.append(kept)
        return torch.cat(found).float()

    def forget_inputs(self, *, but: int) -> None:
        """Let go of the variants of other sides."""
        self._inputs = {key: kept for key, kept in self._inputs.items() if key[0] == but}

    def begin(self, model: TaskModel, *, images: int = _STARTED_FROM) -> Pupil:
        """A pupil whose head and maps fit what its network says now of some images."""
        count = min(self.learnt, images)
        rows = self.rows(np.linspace(0, self.learnt - 1, count).round().astype(int).tolist())
        prepared = self.inputs(rows, model)
        taught = self.memory.at(rows)
        is_bf16 = suits_bf16(model.backbone, self.train, on_gpu=False)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
            parts = [as_float(model.backbone(chunk)) for chunk in torch.split(prepared, _BATCH)]
        features = type(parts[0])(
            torch.cat([part.vector_BD for part in parts]),
            tuple(torch.cat(grids) for grids in zip(*(part.grids_BDhw for part in parts), strict=True)),
        )
        fit_head(model, self.teacher, features, taught, prepared)
        pupil = Pupil(model, Scale.of(taught), self.loss)
        pupil.start(features, taught)
        return pupil

    def teach(self, pupil: Pupil, *, seconds: float | None, resume: Kept | None = None) -> History:
        """Train it; ends after ``seconds`` at the latest."""
        config = self.train.model_copy(update={"max_seconds": seconds, "workers": 0})
        parameters = tuple(pupil.backbone.parameters())
        for parameter in (*pupil.parameters(),):
            parameter.requires_grad_(True)
        is_bf16 = suits_bf16(pupil.backbone, config, on_gpu=usable_gpu())
        variants = self.views.variants

        def make(place: int, seed: int) -> int:
            return place * variants + seed % variants

        def losses_of(rows: list[int]) -> dict[str, Tensor]:
            device = next(pupil.backbone.parameters()).device
            prepared = self.inputs(rows, pupil.model).to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=is_bf16):
                features = pupil.see(prepared)
            pupil.scale = _scale_to(pupil.scale, device)
            return pupil.losses(features, prepared, _to(self.memory.at(rows), device))

        history = train(
            pupil,
            [Group(parameters, 1.0)],
            make,
            losses_of,
            count=self.learnt,
            config=config,
            seed=self.seed,
            resume=resume,
        )
        pupil.scale = _scale_to(pupil.scale, torch.device("cpu"))
        return history

    @torch.no_grad()
    def judge(self, pupil: Pupil, *, images: int | None = None) -> dict[str, float]:
        """Mean losses on the images that were held out (or so many of them), as they are."""
        pupil.eval()
        is_bf16 = suits_bf16(pupil.backbone, self.train, on_gpu=False)
        held = list(range(self.learnt, len(self.views.paths)))[:images]
        sums: dict[str, float] = {}
        for start in range(0, len(held), _BATCH):
            rows = self.rows(held[start : start + _BATCH])
            prepared = self.inputs(rows, pupil.model)
            with torch.autocast("cpu", torch.bfloat16, enabled=is_bf16):
                features = pupil.see(prepared)
            found = pupil.losses(features, prepared, self.memory.at(rows))
            for name, loss in found.items():
                sums[name] = sums.get(name, 0.0) + float(loss) * len(rows) / len(held)
        return sums | {"total": sum(sums.values())}


def _to(taught: Any, device: torch.device) -> Any:
    return type(taught)(
        taught.vector_BD.to(device),
        tuple(grid.to(device) for grid in taught.grids_BDhw),
        tuple(part.to(device) for part in taught.said),
    )


def _scale_to(scale: Scale, device: torch.device) -> Scale:
    return Scale(tuple(m.to(device) for m in scale.mean), tuple(d.to(device) for d in scale.deviation))
