"""What deployment is measured on: models of few labels on real images, made and exported by the project's own calls.

Made once and kept in ``runs/bench/deploy`` under a digest of the code that makes them.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from benchmarks import subjects
from benchmarks.cells import code_digest
from benchmarks.latency import spread
from benchmarks.machine import ROOT
from pangu_cv.deploy import export
from pangu_cv.evaluate import test_samples
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.staging import staged_folder

VIT_TINY = "vit_tiny_patch16_224.augreg_in21k_ft_in1k"
TABLE = "xsdd"
CODE = (
    "pangu_cv/deploy",
    "pangu_cv/models",
    "pangu_cv/tasks",
    "pangu_cv/finetune/classify.py",
    "pangu_cv/finetune/anomaly.py",
    "pangu_cv/finetune/detect.py",
    "pangu_cv/finetune/segment.py",
    "pangu_cv/finetune/fitting.py",
    "export/pangu_runtime/bundle.py",
    "export/pangu_runtime/golden.py",
    "recipes/finetune/classify.yaml",
    "recipes/finetune/anomaly.yaml",
    "recipes/finetune/detect.yaml",
    "recipes/finetune/segment.yaml",
    "benchmarks/deploy_subjects.py",
)
_CERTIFIED = 40  # images that the certificate holds, evenly spread


@dataclass(frozen=True)
class Subject:
    """A shipped recipe on a set of the shared images; ``backbone`` None is the recipe's own."""

    label: str
    task: str
    name: str
    backbone: str | None = None
    settings: tuple[str, ...] = ()

    def recipe(self, data: Path) -> FinetuneRecipe:
        """Five labels a class, seed 0, a frozen backbone; all normal images; or the few boxes and masks of a recipe."""
        if self.task == "anomaly":
            return subjects.anomaly_recipe(data, self.name)
        if self.task in ("detect", "segment"):
            return subjects.dense_recipe(data, self.task, self.name, *self.settings)
        return subjects.classify_recipe(data, self.name, backbone=self.backbone)


SUBJECTS = {
    "vit_tiny": Subject("ViT-Tiny", "classify", TABLE, VIT_TINY),
    "lite0": Subject("EfficientNet-Lite0", "classify", TABLE),
    "anomaly": Subject("anomaly, EfficientNet-Lite0", "anomaly", "cookies_ad"),
    "detect": Subject("detect, EfficientNet-Lite0", "detect", "neu_det", settings=("task.preprocess.image_px=256",)),
    "segment": Subject("segment, EfficientNet-Lite0", "segment", "crackforest"),
}


@dataclass(frozen=True)
class Prepared:
    """A checkpoint, its bundle, and the images of the test part (those the bundle is certified on first)."""

    checkpoint: Path
    bundle: Path
    certified: tuple[Path, ...]
    test: tuple[Path, ...]


def prepare(model: str, data: Path) -> Prepared:
    """The bundle of a subject, made where it is not there yet; seconds to a minute."""
    subject, folder = SUBJECTS[model], _folder() / model
    recipe = subject.recipe(data)
    test = tuple(sample.path for sample in test_samples(recipe.data.read()))
    certified = tuple(spread(test, _CERTIFIED))
    if not (folder / "bundle" / "bundle.json").is_file():
        with staged_folder(folder) as staging:
            made = finetune(recipe.model_copy(update={"output": staging / "run"}))
            export(made.model, staging / "bundle", certified)
    return Prepared(folder / "run" / "model", folder / "bundle", certified, test)


@cache
def _folder() -> Path:
    return ROOT / "runs" / "bench" / "deploy" / code_digest(CODE)
