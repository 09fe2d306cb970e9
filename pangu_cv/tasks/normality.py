"""What normal looks like: the bank, and the evidence its threshold rests on; images come and go without the others.

For every image the few patches hardest to explain by the others (its witnesses) are kept, so that its left-out score
can be computed again after the bank has changed. That is exact while those patches stay the hardest (ours).

Shapes: P patches, K witnesses, D features.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from pangu_cv.errors import DataError
from pangu_cv.models.memory_bank import MemoryBank, Removal
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.conformal import ConformalThreshold, conformal_threshold

CALIBRATION_IMAGES = 1000  # more normals are learned from but not kept as witnesses: 1000 certify 0.1 %


@dataclass
class Normality:
    """A memory bank, the witnesses of its images and the digests of their files; ``top_k`` distances make a score.

    ``unit`` is the distance that counts as 1.0: the median score of left-out images.
    """

    bank: MemoryBank
    top_k: int
    witnesses: dict[str, Tensor]
    digests: dict[str, str]
    unit: float = 1.0

    @classmethod
    def empty(cls, model: AnomalyModel) -> Self:
        """Nothing learned yet."""
        return cls(model.config.bank.build(model.features), model.top_k, {}, {})

    def learn(self, name: str, patches_PD: Tensor, *, digest: str = "") -> None:
        """Add an image (``digest`` of its file) to the bank; call ``witness`` once all images of a round are in."""
        self.bank.add(name, patches_PD)
        self.digests[name] = digest

    def witness(self, name: str, patches_PD: Tensor) -> None:
        """Keep the patches of a learned image that the other images explain worst."""
        if len(self.witnesses) < CALIBRATION_IMAGES:
            distances = self.bank.distances(patches_PD, without=name)
            hardest = distances.topk(min(2 * self.top_k, len(distances))).indices
            self.witnesses[name] = patches_PD[hardest].clone()

    def forget(self, name: str) -> Removal:
        """Take an image away, its patches and its evidence."""
        self.witnesses.pop(name, None)
        self.digests.pop(name, None)
        return self.bank.remove(name)

    def left_out_scores(self) -> dict[str, float]:
        """Score of every witnessed image against the others, in distance."""
        scores = {}
        for name, patches_KD in self.witnesses.items():
            distances = self.bank.distances(patches_KD, without=name)
            scores[name] = float(distances.topk(min(self.top_k, len(distances))).values.mean())
        return scores

    def calibrate(self, model: AnomalyModel) -> ConformalThreshold:
        """Set the model's bank, unit and threshold from what is known now.

        Raises DataError with fewer than 2 normal images: one has no other to be compared with.
        """
        scores = sorted(self.left_out_scores().values())
        if len(scores) < 2:
            raise DataError(f"anomaly needs at least 2 normal images, found {len(scores)}")
        unit = max(scores[len(scores) // 2], 1e-6)
        threshold = conformal_threshold([score / unit for score in scores], rate=model.config.false_alarm_rate)
        self.unit = unit
        self.install(model, threshold)
        return threshold

    def install(self, model: AnomalyModel, threshold: ConformalThreshold) -> None:
        """Put bank, unit and threshold into the model."""
        model.set_bank(self.bank.vectors_MD)
        model.unit.fill_(self.unit)
        model.threshold.fill_(threshold.value)
        model.calibration = threshold

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values to save."""
        tensors = {f"bank.{key}": value for key, value in self.bank.state().items()}
        if self.witnesses:
            tensors["witnesses"] = torch.stack(list(self.witnesses.values()))
        plain = {
            "images": self.bank.images,
            "capacity": self.bank.capacity,
            "top_k": self.top_k,
            "witnessed": list(self.witnesses),
            "digests": self.digests,
            "unit": self.unit,
        }
        return tensors, plain

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> Self:
        """The memory ``state`` was taken of."""
        bank_state = {key.removeprefix("bank."): value for key, value in tensors.items() if key.startswith("bank.")}
        bank = MemoryBank.restore(bank_state, images=list(plain["images"]), capacity=int(plain["capacity"]))
        names = list(plain["witnessed"])
        witnesses = dict(zip(names, tensors["witnesses"], strict=True)) if names else {}
        return cls(bank, int(plain["top_k"]), witnesses, dict(plain["digests"]), unit=float(plain["unit"]))
