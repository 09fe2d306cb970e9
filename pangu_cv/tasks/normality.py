"""What normal looks like: the bank, and the evidence its threshold rests on; images come and go without the others.

For every image the few patches hardest to explain by the others (its witnesses) are kept, so that its left-out score
can be computed again after the bank has changed. That is exact while those patches stay the hardest (ours).

Images that belong together (of one group, or copies of one file) would explain each other, which no new image can count
on: they are left out together, and count as one piece of evidence.

Of more images than are kept as witnesses those stay whose groups have the smallest digests: a random draw that does not
depend on the order in which images came. What it has once turned away stays out, and newer images of larger digests
with it: else those learned after others were forgotten would speak for all.

Shapes: P patches, K witnesses, D features.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal, Self

import torch
from torch import Tensor

from pangu_cv.errors import DataError
from pangu_cv.features import digest as digest_of
from pangu_cv.models.memory_bank import MemoryBank, Removal
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.conformal import ConformalThreshold, conformal_threshold
from pangu_cv.tasks.known_defects import KnownDefects

_HARDEST_ONLY = "known defects were weighed against the hardest patches of each normal image only"
CALIBRATION_IMAGES = 1000  # more normals are learned from but not kept as witnesses: 1000 certify 0.1 %


@lru_cache(4 * CALIBRATION_IMAGES)
def _order(group: str) -> str:
    """A digest of the name: sorting a full set of witnesses for each image that joins them asks for it often."""
    return digest_of(group)


@dataclass
class Normality:
    """A memory bank, the witnesses of its images and the digests of their files; ``top_k`` distances make a score.

    ``unit`` is the distance that counts as 1.0: the median score of left-out images. ``groups`` say which images belong
    together; one without stands for itself. Groups of digests from ``turned_away`` on are no witnesses any more.
    """

    bank: MemoryBank
    top_k: int
    witnesses: dict[str, Tensor]
    digests: dict[str, str]
    unit: float = 1.0
    defects: KnownDefects | None = None
    groups: dict[str, str] = field(default_factory=dict)
    turned_away: str | None = None
    _kin_of_group: dict[str, list[str]] | None = field(default=None, repr=False, compare=False)

    @classmethod
    def empty(cls, model: AnomalyModel) -> Self:
        """Nothing learned yet."""
        return cls(model.config.bank.build(model.features), model.top_k, {}, {})

    def learn(self, name: str, patches_PD: Tensor, *, digest: str = "", group: str = "") -> None:
        """Add an image (``digest`` of its file) to the bank; call ``witness`` once all images of a round are in."""
        self.bank.add(name, patches_PD)
        self.digests[name] = digest
        if group:
            self.groups[name] = group
        self._kin_of_group = None

    def witness(self, name: str, patches_PD: Tensor) -> None:
        """Keep the patches of a learned image that the other images explain worst, where it is among the witnesses."""
        if self.turned_away is not None and self._place(name)[0] >= self.turned_away:
            return
        distances = self.bank.distances(patches_PD, without=self._kin()[self._group(name)])
        hardest = distances.topk(min(2 * self.top_k, len(distances))).indices
        self.witnesses[name] = patches_PD[hardest].clone()
        if len(self.witnesses) > CALIBRATION_IMAGES:
            self._turn_one_away()

    def _turn_one_away(self) -> None:
        """A second image of a group goes first, since it counts for nothing; else the group of the largest digest."""
        names = sorted(self.witnesses, key=self._place)
        counted = set(self._first_of_group(names).values())
        others = [name for name in names if name not in counted]
        gone = (others or names)[-1]
        del self.witnesses[gone]
        if not others:
            self.turned_away = self._place(gone)[0]

    def _place(self, name: str) -> tuple[str, str, str]:
        """Where an image stands in the draw of witnesses: digest of its group, of its file, its name."""
        return _order(self._group(name)), self.digests.get(name, ""), name

    def forget(self, name: str) -> Removal:
        """Take an image away, its patches and its evidence; a known defect's patches too."""
        if self.defects is not None and name in self.defects.names:
            left = {other: patches for other, patches in self.defects.images.items() if other != name}
            removal = Removal(self.defects.owners.count(self.defects.names.index(name)), 0)
            self.defects = KnownDefects.of(left, boost=self.defects.boost)
            return removal
        self.witnesses.pop(name, None)
        self.digests.pop(name, None)
        self.groups.pop(name, None)
        self._kin_of_group = None
        return self.bank.remove(name)

    def left_out_scores(self, *, near_defects: Literal["raised", "as they are"] = "raised") -> dict[str, float]:
        """Score of every witnessed image against the others, in distance."""
        scores = {}
        for name, (patches_KD, distances) in self.evidence().items():
            if self.defects is not None and near_defects == "raised":
                distances = self.defects.raised(distances, patches_KD)
            scores[name] = float(distances.topk(min(self.top_k, len(distances))).values.mean())
        return scores

    def evidence(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The witnesses of every image, and their distances to the other images."""
        kin = self._kin()
        return {
            name: (patches_KD, self.bank.distances(patches_KD, without=kin[self._group(name)]))
            for name, patches_KD in self.witnesses.items()
        }

    def _group(self, name: str) -> str:
        return self.groups.get(name) or self.digests.get(name) or name

    def _kin(self) -> dict[str, list[str]]:
        """Names of the bank's images, by group."""
        if self._kin_of_group is None:
            self._kin_of_group = {}
            for name in filter(None, self.bank.images):
                self._kin_of_group.setdefault(self._group(name), []).append(name)
        return self._kin_of_group

    def _once_a_group(self, scores: Mapping[str, float]) -> list[float]:
        """Scores of which any may be the highest as likely as any other: of each group that of one image."""
        return [scores[name] for name in self._first_of_group(sorted(scores, key=self._place)).values()]

    def _first_of_group(self, names: Iterable[str]) -> dict[str, str]:
        first: dict[str, str] = {}
        for name in names:
            first.setdefault(self._group(name), name)
        return first

    def calibrate(self, model: AnomalyModel) -> ConformalThreshold:
        """Set the model's bank, unit and threshold from what is known now.

        Raises DataError with fewer than 2 normal images that do not belong together: one has no other to be compared
        with.
        """
        plain = sorted(self._once_a_group(self.left_out_scores(near_defects="as they are")))
        if len(plain) < 2:
            together = f" (the {len(self.witnesses)} are copies, or of one group)" if len(self.witnesses) > 1 else ""
            raise DataError(f"anomaly needs at least 2 normal images, found {len(plain)}{together}")
        unit = max(plain[len(plain) // 2], 1e-6)  # of the bank alone: a known defect moves no other score
        scores = [score / unit for score in self._once_a_group(self.left_out_scores())]
        threshold = conformal_threshold(scores, rate=model.config.false_alarm_rate, most=CALIBRATION_IMAGES)
        self.unit = unit
        if self.defects is not None:
            threshold = replace(threshold, caveat=_HARDEST_ONLY)
        self.install(model, threshold)
        return threshold

    def install(self, model: AnomalyModel, threshold: ConformalThreshold) -> None:
        """Put bank, unit and threshold into the model."""
        model.set_bank(self.bank.vectors_MD)
        model.set_defects(self.defects)
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
            "groups": self.groups,
            "unit": self.unit,
            "turned_away": self.turned_away,
        }
        if self.defects is not None:
            of_defects, plain["defects"] = self.defects.state()
            tensors |= of_defects
        return tensors, plain

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> Self:
        """The memory ``state`` was taken of."""
        bank_state = {key.removeprefix("bank."): value for key, value in tensors.items() if key.startswith("bank.")}
        bank = MemoryBank.restore(bank_state, images=list(plain["images"]), capacity=int(plain["capacity"]))
        names = list(plain["witnessed"])
        witnesses = dict(zip(names, tensors["witnesses"], strict=True)) if names else {}
        defects = KnownDefects.restore(tensors["defects"], plain["defects"]) if "defects" in plain else None
        digests, unit = dict(plain["digests"]), float(plain["unit"])
        return cls(
            bank,
            int(plain["top_k"]),
            witnesses,
            digests,
            unit=unit,
            defects=defects,
            groups=dict(plain["groups"]),
            turned_away=plain["turned_away"],
        )
