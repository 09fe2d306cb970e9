"""Every task of few labels exported and certified on all its test images, decision by decision.

What is asked is whether the exported graph decides as the trained model, not how well: models are trained briefly, and
the detectors' threshold is low, so that there are many boxes to compare.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.few_shot_classification import BACKBONE
from benchmarks.latency import spread
from pangu_cv import recipes
from pangu_cv.deploy import export
from pangu_cv.errors import CertificateError
from pangu_cv.evaluate import test_samples
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_runtime.compare import Limits

_VIT = (f"task.backbone.name={BACKBONE}",)


@dataclass(frozen=True)
class Subject:
    """A recipe on a set with settings of its own; ``table`` names a classification table instead of a folder."""

    recipe: str
    name: str
    settings: tuple[str, ...] = ()


SUBJECTS = {
    "classify, linear head": Subject("classify_adapt", "xsdd", ("adapt={kind: linear}",)),
    "classify, partial": Subject("classify_adapt", "neu_det", (*_VIT, "adapt={kind: partial, blocks: 2}")),
    "classify, prompts": Subject("classify_adapt", "rsscn7", (*_VIT, "adapt={kind: prompt}")),
    "detect": Subject("detect", "neu_det", ("task.preprocess.image_px=256", "task.threshold=0.1")),
    "detect, tiles": Subject(
        "detect", "deeppcb", ("task.preprocess.image_px=320", "task.tile={px: 320}", "task.threshold=0.1")
    ),
    "segment": Subject("segment", "crackforest"),
    "segment, tiles": Subject("segment", "crack500_subset", ("task.tile={px: 384}",)),
}
_STEPS = 200
_MOST = 200  # test images, evenly spread


def measure(*, data: str, is_quick: bool, subject: str) -> dict[str, Any]:
    """The certificate's worst differences, and the limits it is held to."""
    chosen = SUBJECTS[subject]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = _path(Path(data), chosen)
        root = [f"data.root={data}"] if path.suffix == ".csv" else []
        settings = [f"data.path={path}", *root, f"output={folder / 'run'}", *chosen.settings]
        settings += [f"train.steps={2 if is_quick else _STEPS}", "few_shot.shots=5"]
        recipe = FinetuneRecipe.load(recipes.find("finetune", chosen.recipe), settings)
        result = finetune(recipe)
        images = [sample.path for sample in test_samples(recipe.data.read())]
        images = spread(images, 6 if is_quick else _MOST)
        about = {"subject": subject, "set": chosen.name, "images": len(images), "limits": Limits().to_json()}
        try:
            made = export(result.model, folder / "bundle", images)
        except CertificateError as error:
            return about | {"holds": False, "told": str(error)}
        return about | {"holds": True, "worst": made.certificate.difference.to_json()}


def _path(data: Path, subject: Subject) -> Path:
    return data / "splits" / f"{subject.name}.csv" if subject.recipe.startswith("classify") else data / subject.name
