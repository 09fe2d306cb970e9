"""Images without labels that teach a classifier beside the few that have one.

Whether they help is asked of the labelled images: the head is fitted with and without the others on folds of them, and
the others are left aside where the answers on what was left out are worse with them.

Shapes: N labelled images, V views, D features, C classes.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.features import Extraction, FeatureStore, Skipped, extract
from pangu_cv.finetune.folds import folds_of
from pangu_cv.finetune.kin import kin_of
from pangu_cv.finetune.recipe import FinetuneRecipe, UnlabelledConfig
from pangu_cv.models.label_propagation import Spread
from pangu_cv.models.ridge_head import RidgeHead
from pangu_cv.models.ridge_propagated import Others, fit_with_others
from pangu_cv.progress import bar
from pangu_cv.report.page import Page
from pangu_cv.report.palette import Tone
from pangu_cv.report.picture import Picture, Row
from pangu_cv.tasks.classify import ClassifyModel
from pangu_runtime.decode import DecodeSpec, decode

_FOLDS = 5
_SHOWN = 3
_MORE_THAN_CHANCE = 1 + 1e-9
_FOLDS_SAID = "images without labels taught too, so folds of the labelled ones were left out together"


@dataclass(frozen=True)
class Taught:
    """What images without labels did to a head.

    ``alone`` and ``together`` are shares of labelled images that were right when they were left out, without the others
    and with them; None where none could be, as with one image of each class. ``helped`` says whether the head learnt
    from the others.
    """

    paths: tuple[Path, ...]
    spread: Spread
    alone: float | None
    together: float | None
    helped: bool
    skipped: tuple[Skipped, ...] = ()

    @property
    def is_counted_U(self) -> Tensor:
        """Which of them the head was fitted to."""
        return self.spread.certainty_U > 0

    @property
    def told(self) -> str:
        """In a sentence."""
        did = f"{int(self.is_counted_U.sum())} taught too" if self.helped else "left aside"
        if self.alone is None or self.together is None:
            return f"{len(self.paths)}, {did}; whether they help cannot be checked on so few labels"
        return f"{len(self.paths)}, {did}: of labels left out {self.together:.0%} right, {self.alone:.0%} without them"

    def as_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """For ``metrics.json``."""
        taken = Counter(self.spread.probability_UC.argmax(1)[self.is_counted_U].tolist())
        return {
            "images": len(self.paths),
            "counted": int(self.is_counted_U.sum()),
            "taken_for": {name: taken[at] for at, name in enumerate(classes)},
            "left_out_right_alone": self.alone,
            "left_out_right_together": self.together,
            "helped": self.helped,
            "told": self.told,
        }


def require_learns_from_others(recipe: FinetuneRecipe) -> None:
    """Raises SettingsError where the recipe names images without labels, and a task or way that cannot use them."""
    if recipe.unlabelled is not None and (recipe.task.kind != "classify" or recipe.adapt.kind == "linear"):
        raise SettingsError(
            f"unlabelled: teaches the closed form of task.kind=classify; found task.kind={recipe.task.kind}, "
            f"adapt.kind={recipe.adapt.kind}. Leave it out, or take adapt.kind=frozen"
        )


def features_of_others(model: ClassifyModel, pool: Sequence[Path], store: FeatureStore, spec: DecodeSpec) -> Extraction:
    """Features of images without labels in the first of the fit views; ``store`` is of this state of the backbone."""
    with bar("features of the images without labels") as progress:
        return extract(pool, model, views=model.config.fit_views[:1], store=store, decode_spec=spec, progress=progress)


def teach(
    model: ClassifyModel,
    features_NVD: Tensor,
    samples: Sequence[Sample],
    labels_N: Tensor,
    seen: Extraction,
    config: UnlabelledConfig,
    *,
    seed: int,
) -> Taught:
    """Fit the model's head, which has been fitted to the labelled images, to those in ``seen`` as well, if that helps.

    Its temperature and threshold come from folds that were left out and whose labels did not spread. Raises DataError
    where nothing was readable.
    """
    if not seen.index:
        raise DataError("unlabelled: none of the images can be read")
    others = Others(torch.from_numpy(seen.features_NVD[:, 0]), config.neighbours, config.weight)
    kin = kin_of(samples)
    held_N, answers = _left_out(model, features_NVD, labels_N, kin, others, seed=seed)
    alone, together = (_right(answers_NC[held_N], labels_N[held_N]) for answers_NC in answers)
    helped = alone is None or together is None or together >= alone
    head = model.head if helped else copy.deepcopy(model.head)
    spread = fit_with_others(head, features_NVD, labels_N, others)
    if helped:
        _certify(model, answers[1], held_N, labels_N, kin)
    return Taught(tuple(seen.index), spread, alone, together, helped, seen.skipped)


def _certify(model: ClassifyModel, left_out_NC: Tensor, held_N: Tensor, labels_N: Tensor, kin: Sequence[str]) -> None:
    """Temperature and threshold; without any fold the temperature stays that of the labelled images alone."""
    if not bool(held_N.any()):
        return
    model.head.calibrate(left_out_NC[held_N], labels_N[held_N], list(compress(kin, held_N.tolist())))
    model.certify(left_out_NC / model.head.temperature.double(), labels_N, kin)
    if model.calibration is not None:
        model.install(replace(model.calibration, caveat=_FOLDS_SAID))


def _left_out(
    model: ClassifyModel,
    features_NVD: Tensor,
    labels_N: Tensor,
    kin: Sequence[str],
    others: Others,
    *,
    seed: int,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Which images were in a fold, and what they get from heads without it, alone and with the others: float64[N,C]."""
    held_N = torch.zeros(len(labels_N), dtype=torch.bool)
    alone_NC = torch.zeros(len(labels_N), len(model.classes), dtype=torch.float64)
    together_NC = torch.zeros_like(alone_NC)
    head = copy.deepcopy(model.head)
    labels = [str(label) for label in labels_N.tolist()]
    numbered = [Sample(Path(str(at)), label=label, group=kin[at]) for at, label in enumerate(labels)]
    for fold in folds_of(numbered, _FOLDS, seed=seed):
        out = torch.tensor(sorted(int(sample.path.name) for sample in fold))
        learnt_N = torch.ones(len(labels_N), dtype=torch.bool)
        learnt_N[out] = False
        head.fit(features_NVD[learnt_N], labels_N[learnt_N])
        alone_NC[out] = _mapped(model, head, features_NVD[out])
        fit_with_others(head, features_NVD[learnt_N], labels_N[learnt_N], others)
        together_NC[out] = _mapped(model, head, features_NVD[out])
        held_N[out] = True
    return held_N, (alone_NC, together_NC)


def _mapped(model: ClassifyModel, head: RidgeHead, features_NVD: Tensor) -> Tensor:
    views = [head.mapped(features_NVD[:, view : view + 1]) for view in range(features_NVD.shape[1])]
    return model.at_decision(torch.stack(views, 1).double())


def _right(answers_NC: Tensor, labels_N: Tensor) -> float | None:
    return float((answers_NC.argmax(1) == labels_N).double().mean()) if len(labels_N) else None


def taught_by_others(page: Page, taught: Taught, classes: Sequence[str], spec: DecodeSpec) -> None:
    """Append whether the images without labels helped, and what they were taken for: the surest and the least sure."""
    page.section(
        "Images without labels",
        "What each is taken for comes from its neighbours. It counts as they are sure, and not where the labelled "
        "images alone say otherwise (0.00).",
    )
    tone: Tone = "neutral" if taught.alone is None else "good" if taught.helped else "warn"
    page.verdict(f"{taught.told}.", tone)
    taken_U, sure_U = taught.spread.probability_UC.argmax(1), taught.spread.certainty_U
    is_reached_U = taught.spread.probability_UC.amax(1) > _MORE_THAN_CHANCE / len(classes)
    rows = []
    for at, name in enumerate(classes):
        mine = ((taken_U == at) & is_reached_U).nonzero().flatten()
        order = mine[sure_U[mine].argsort(descending=True)].tolist()
        shown = [(place, "surest") for place in order[:_SHOWN]]
        shown += [(place, "least sure") for place in order[_SHOWN:][-_SHOWN:]]
        pictures = [
            Picture(decode(taught.paths[place], spec=spec), f"{word}, {float(sure_U[place]):.2f}")
            for place, word in shown
        ]
        if pictures:
            counted = int((sure_U[mine] > 0).sum())
            rows.append(Row(tuple(pictures), f"{name}: {counted} of {len(order)} counted"))
    page.pairs(rows)
