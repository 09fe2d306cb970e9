"""Images without labels that teach a classifier beside the few that have one.

Which they are, what they are taken for, and whether they help: the head is fitted with and without them on folds of the
labelled images, and they are left aside where the answers on what was left out are worse with them.

Shapes: N labelled images, V views, D features, C classes.
"""

import copy
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pangu_cv.data.readers import pictures_below, read_images
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError, ImageError, SettingsError
from pangu_cv.features import Extraction, FeatureStore, Skipped, content_digest, extract
from pangu_cv.finetune.auto import folds_of
from pangu_cv.finetune.classify import Draw
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


@dataclass(frozen=True)
class Taught:
    """What images without labels did to a head.

    ``alone`` and ``together`` are shares of labelled images that were right when they were left out, without the others
    and with them; ``helped`` says whether the head learnt from them.
    """

    paths: tuple[Path, ...]
    spread: Spread
    alone: float
    together: float
    helped: bool
    skipped: tuple[Skipped, ...] = ()

    def as_json(self, classes: Sequence[str]) -> dict[str, Any]:
        """For ``metrics.json``."""
        taken = Counter(self.spread.probability_UC.argmax(1).tolist())
        return {
            "images": len(self.paths),
            "counted": int((self.spread.certainty_U > 0).sum()),
            "taken_for": {name: taken[at] for at, name in enumerate(classes)},
            "left_out_right_alone": round(self.alone, 4),
            "left_out_right_together": round(self.together, 4),
            "helped": self.helped,
        }


def with_pools(draws: Sequence[Draw], recipe: FinetuneRecipe, dataset: Dataset) -> list[Draw]:
    """The draws with images that may teach them, where the recipe asks for it: none that is measured on, by content.

    Raises DataError where there is none.
    """
    config = recipe.unlabelled
    if config is None:
        return list(draws)
    if config.path is None:
        found = [s.path for s in dataset if s.split in ("train", None)]
        where = f"unlabelled: '{recipe.data.path}' has no training image beside those drawn and those measured on"
    else:
        found = _all_but_test(config.path)
        where = f"unlabelled.path: every image of '{config.path}' is drawn or measured on already"
    return [replace(draw, pool=_pool(draw, found, config.most, where)) for draw in draws]


def _all_but_test(path: Path) -> list[Path]:
    """Folders without parts are heaps of images here, whatever their subfolders mean."""
    given = read_images(path)
    if given.layout == "class_folders" and not any(s.split for s in given):
        return list(pictures_below(path))
    return [s.path for s in given if s.split != "test"]


def _pool(draw: Draw, found: Sequence[Path], most: int, where: str) -> tuple[Path, ...]:
    named = {s.path.absolute() for s in (*draw.support, *draw.test)}
    left = [path for path in found if path.absolute() not in named]
    measured = {_digest(s.path) for s in draw.test}
    kept = tuple(path for path in _evenly(left, most) if _digest(path) not in measured)
    if not kept:
        raise DataError(f"{where}; name a folder of more images (unlabelled.path=FOLDER)")
    return kept


def require_learns_from_others(recipe: FinetuneRecipe) -> None:
    """Raises SettingsError where the recipe names images without labels, and a task or way that cannot use them."""
    if recipe.unlabelled is not None and (recipe.task.kind != "classify" or recipe.adapt.kind == "linear"):
        raise SettingsError(
            f"unlabelled: teaches the closed form of task.kind=classify; found task.kind={recipe.task.kind}, "
            f"adapt.kind={recipe.adapt.kind}. Leave it out, or take adapt.kind=frozen"
        )


def features_of_others(model: ClassifyModel, pool: Sequence[Path], store: FeatureStore, spec: DecodeSpec) -> Extraction:
    """Features of images without labels, as they are; ``store`` is of this state of the backbone."""
    with bar("features of the images without labels") as progress:
        return extract(pool, model, views=("identity",), store=store, decode_spec=spec, progress=progress)


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
    where nothing was readable, SettingsError where a threshold is asked for that the folds cannot give.
    """
    if not seen.index:
        raise DataError("unlabelled: none of the images can be read")
    others = Others(torch.from_numpy(seen.features_NVD[:, 0]), config.neighbours, config.weight)
    held_N, answers = _left_out(model, features_NVD, samples, labels_N, others, seed=seed)
    alone, together = (_right(answers_NC[held_N], labels_N[held_N]) for answers_NC in answers)
    helped = together >= alone
    head = model.head if helped else copy.deepcopy(model.head)
    spread = fit_with_others(head, features_NVD, labels_N, others)
    if helped and bool(held_N.any()):
        if model.config.unknown_rate is not None and not bool(held_N.all()):
            raise SettingsError(
                "task.unknown_rate: with unlabelled, every class needs labelled images of 2 groups; label "
                "more, or leave unlabelled or unknown_rate out"
            )
        model.head.calibrate(answers[1][held_N], labels_N[held_N])
        model.certify(answers[1] / model.head.temperature.double(), labels_N)
    return Taught(tuple(seen.index), spread, alone, together, helped, seen.skipped)


def _left_out(
    model: ClassifyModel,
    features_NVD: Tensor,
    samples: Sequence[Sample],
    labels_N: Tensor,
    others: Others,
    *,
    seed: int,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Which images were in a fold, and what they get from heads without it, alone and with the others: float64[N,C]."""
    place = {sample: at for at, sample in enumerate(samples)}
    held_N = torch.zeros(len(labels_N), dtype=torch.bool)
    alone_NC = torch.zeros(len(labels_N), len(model.classes), dtype=torch.float64)
    together_NC = torch.zeros_like(alone_NC)
    head = copy.deepcopy(model.head)
    for fold in folds_of(samples, _FOLDS, seed=seed):
        out = torch.tensor([place[sample] for sample in fold])
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


def _right(answers_NC: Tensor, labels_N: Tensor) -> float:
    return float((answers_NC.argmax(1) == labels_N).double().mean()) if len(labels_N) else 0.0


def taught_by_others(page: Page, taught: Taught, classes: Sequence[str], spec: DecodeSpec) -> None:
    """Append whether the images without labels helped, and what they were taken for: the surest and the least sure."""
    tone: Tone = "good" if taught.helped else "warn"
    figures = (
        f"{taught.together:.0%} of the labelled images are right when they are left out, {taught.alone:.0%} without"
    )
    page.section(
        "Images without labels",
        "What each is taken for comes from its neighbours. It counts as they are sure, and not where the labelled "
        "images alone say otherwise (0.00).",
    )
    page.verdict(f"{len(taught.paths)} of them {'taught' if taught.helped else 'were left aside'}: {figures}.", tone)
    taken_U, sure_U = taught.spread.probability_UC.argmax(1), taught.spread.certainty_U
    rows = []
    for at, name in enumerate(classes):
        mine = (taken_U == at).nonzero().flatten()
        order = mine[sure_U[mine].argsort(descending=True)].tolist()
        shown = [(place, "surest") for place in order[:_SHOWN]]
        shown += [(place, "least sure") for place in order[_SHOWN:][-_SHOWN:]]
        pictures = [
            Picture(decode(taught.paths[place], spec=spec), f"{word}, {float(sure_U[place]):.2f}")
            for place, word in shown
        ]
        if pictures:
            rows.append(Row(tuple(pictures), f"{name}: {len(order)} images"))
    page.pairs(rows)


def _digest(path: Path) -> str:
    try:
        return content_digest(path)
    except ImageError:  # named where it is decoded
        return str(path)


def _evenly(paths: Sequence[Path], most: int) -> list[Path]:
    return [paths[at * len(paths) // most] for at in range(most)] if len(paths) > most else list(paths)
