"""What is measured: the recipes on the tables and folders of the shared images."""

import json
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.latency import spread
from pangu_cv import recipes
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.finetune.anomaly import NormalSplit, split_of
from pangu_cv.finetune.classify import Draw, draws_of
from pangu_cv.finetune.recipe import FinetuneRecipe
from pangu_cv.models.memory_bank import MemoryBankConfig, bytes_per_centre
from pangu_cv.tasks.anomaly import NORMAL, AnomalyConfig, AnomalyModel
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_cv.tasks.normal_images import Learned, learn, named
from pangu_cv.tasks.normality import Normality
from pangu_cv.tasks.saved import Provenance

TABLES = ("neu_det", "xsdd", "magnetic_tile_classes", "powerline_ir", "powerline_vl", "rsscn7")
ANOMALY_SETS = ("magnetic_tile", "cookies_ad")


def classify_recipe(data: Path, table: str, *, backbone: str | None = None) -> FinetuneRecipe:
    """The recipe of the repository on one table, optionally with another backbone."""
    overrides = [_set("data.path", str(data / "splits" / f"{table}.csv")), _set("data.root", str(data))]
    if backbone is not None:
        overrides.append(_set("task.backbone.name", backbone))
    return FinetuneRecipe.load(recipes.find("finetune", "classify"), overrides)


def anomaly_recipe(data: Path, name: str) -> FinetuneRecipe:
    """The recipe of the repository on one folder."""
    return FinetuneRecipe.load(recipes.find("finetune", "anomaly"), [_set("data.path", str(data / name))])


def dense_recipe(data: Path, task: str, name: str, *settings: str) -> FinetuneRecipe:
    """The recipe of the repository for boxes or masks on one folder."""
    return FinetuneRecipe.load(recipes.find("finetune", task), [_set("data.path", str(data / name)), *settings])


def _set(key: str, value: str) -> str:
    return f"{key}={json.dumps(value)}"


def classify_task(recipe: FinetuneRecipe) -> ClassifyConfig:
    """The recipe's task, known to be a classifier."""
    assert isinstance(recipe.task, ClassifyConfig)
    return recipe.task


def anomaly_task(recipe: FinetuneRecipe) -> AnomalyConfig:
    """The recipe's task, known to be an anomaly detector."""
    assert isinstance(recipe.task, AnomalyConfig)
    return recipe.task


def classify_draws(recipe: FinetuneRecipe, *, shots: int, seeds: range, is_quick: bool) -> tuple[Dataset, list[Draw]]:
    """The table and its draws; a quick run measures on few test images."""
    dataset = recipe.data.read()
    draws = draws_of(dataset, shots=shots, seeds=seeds)
    if is_quick:
        draws = [Draw(d.seed, d.support, tuple(spread(d.test, 40))) for d in draws]
    return dataset, draws


def anomaly_split(recipe: FinetuneRecipe, *, normals: int | None, is_quick: bool) -> NormalSplit:
    """All or some normals to learn from, and the test images."""
    shots = 20 if is_quick and normals is None else normals
    dataset = recipe.data.read()
    available = sum(s.label == NORMAL and s.split == "train" for s in dataset)
    split = split_of(dataset, shots=None if shots is None or shots >= available else shots, seed=0)
    return NormalSplit(split.normals, tuple(spread(split.test, 40))) if is_quick else split


def untouched(data: Path, name: str, test: tuple[Sample, ...]) -> tuple[Sample, ...]:
    """Test images that no default was chosen on; empty where the set has no such part."""
    table = data / "splits" / f"{name}_classes.csv"
    if not table.is_file():
        return ()
    kept = {s.path.resolve() for s in read_dataset(table, root=data).split("test")}
    return tuple(s for s in test if s.path.resolve() in kept)


@dataclass(frozen=True)
class Fitted:
    """A calibrated detector and the seconds from image files to it."""

    learned: Learned
    seconds: float


def build_detector(task: AnomalyConfig, *, max_mb: float | None, normals: int) -> AnomalyModel:
    """A model with a bank of at most ``max_mb``, or with room for every patch (None)."""
    model = task.build()
    if max_mb is None:
        patches = normals * model.grid_hw[0] * model.grid_hw[1]
        max_mb = (patches + 1) * bytes_per_centre(model.features) / 1e6
    model.config = task.model_copy(update={"bank": MemoryBankConfig(max_mb=max_mb)})
    return model


def fit_detector(model: AnomalyModel, split: NormalSplit, recipe: FinetuneRecipe) -> Fitted:
    """Learn and calibrate from the files, as ``finetune anomaly`` does."""
    start = time.perf_counter()
    normality = Normality.empty(model)
    images = named(split.normals, normality, root=recipe.data.path)
    learned = learn(model, normality, images, decode_spec=recipe.data.decode_spec)
    return Fitted(learned, time.perf_counter() - start)


def provenance(recipe: FinetuneRecipe) -> Provenance:
    """What a checkpoint made here says of itself."""
    return Provenance(decode=recipe.data.decode_spec, recipe_hash="benchmark", data_hash="benchmark")
