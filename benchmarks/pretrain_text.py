"""Words and pictures: zero-shot classes and search by caption, after pretraining against a frozen text tower (LiT)."""

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import subjects
from benchmarks.baselines import balanced_accuracy
from benchmarks.pretrain_subjects import BACKBONE, RUNS, run
from pangu_cv import recipes
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Sample
from pangu_cv.data.scenes.write import write_class_folders
from pangu_cv.features import FeatureStore, cache_folder, extract
from pangu_cv.pretrain import PretrainRecipe
from pangu_cv.tasks.image_text import ImageText
from pangu_runtime.decode import DecodeSpec

# What the captions say of a class, in words of our own.
STATES = {
    "good": "an insulator string in good condition without damage",
    "missing_disc": "an insulator string with a missing disc",
    "broken_disc": "an insulator string with a broken disc",
    "burn": "an insulator string with flashover burn marks",
    "nest": "an insulator string below a bird nest",
    "foreign_object": "an insulator string with an object caught on the line",
}
TEMPLATE = "a photo of {label} on a steel surface"


def scenes(*, data: str, is_quick: bool, seed: int, steps: int) -> dict[str, Any]:
    """Learnt from captions of power-line scenes: their classes, their captions, and two steel sets it never saw."""
    table = _scenes_table(8 if is_quick else 120, 4 if is_quick else 40)
    recipe = _recipe({"path": str(table)}, name=f"text-scenes-{seed}", seed=seed, steps=2 if is_quick else steps)
    model = ImageText.load(run(recipe).folder)
    test = [s for s in read_dataset(table) if s.split == "test"]
    images = _embedded(model, [s.path for s in test])
    captions = model.texts([str(s.caption) for s in test])
    ranks = _ranks(captions @ images.T)
    steel = {name: _zero_shot_table(model, Path(data), name) for name in ("neu_det", "xsdd")}
    return {
        "seed": seed,
        "images": len(test),
        "zero_shot": {"scenes": _zero_shot(model, images, test, STATES)} | steel,
        "caption_recall": {str(k): float(np.mean(ranks < k)) for k in (1, 5, 10)},
        "caption_median_rank": float(np.median(ranks) + 1),
    }


def names(*, data: str, is_quick: bool, table: str, seed: int, steps: int) -> dict[str, Any]:
    """Learnt from the names of the pool's labels of one table: the test images by name alone, without a head."""
    source = {"path": str(Path(data) / "splits" / f"{table}.csv"), "root": data, "labels": 1.0}
    name = f"text-{table}-{seed}"
    recipe = _recipe(source, name=name, seed=seed, steps=2 if is_quick else steps, template=TEMPLATE)
    model = ImageText.load(run(recipe).folder)
    return {"seed": seed, "table": table, "zero_shot": _zero_shot_table(model, Path(data), table)}


def _recipe(source: dict[str, Any], *, name: str, seed: int, steps: int, template: str | None = None) -> PretrainRecipe:
    text = {"tower": "minilm", "template": template}
    changes = {"data": [source], "text": text, "seed": seed, "round_steps": steps, "output": str(RUNS / name)}
    loaded = PretrainRecipe.load(
        recipes.find("pretrain", "joint"),
        ["data=none", f"backbone.name={BACKBONE}", "engine.precision=bf16-mixed", f"optim.steps={steps}"],
    )
    return PretrainRecipe.parse(loaded.model_dump(mode="json") | changes, origin="benchmark")


def _scenes_table(train: int, test: int) -> Path:
    """Scenes with their captions as a CSV table, drawn once."""
    folder = RUNS / f"scenes-{train}-{test}"
    table = folder / "table.csv"
    if not table.is_file():
        shutil.rmtree(folder, ignore_errors=True)
        write_class_folders(folder, images_per_class={"train": train, "test": test}, seed=0)
        with (folder / "captions.csv").open(newline="", encoding="utf-8") as file:
            rows = [(row["file"], *row["file"].split("/")[:2], row["caption"]) for row in csv.DictReader(file)]
        with table.open("w", newline="", encoding="utf-8") as file:
            ordered = [(name, label, part, caption) for name, part, label, caption in rows]
            csv.writer(file).writerows([("file", "label", "split", "caption"), *ordered])
    return table


def _embedded(model: ImageText, paths: Sequence[Path]) -> torch.Tensor:
    store = FeatureStore(cache_folder(), model.fingerprint)
    found = extract(paths, model, views=("identity",), store=store, decode_spec=DecodeSpec())
    return torch.from_numpy(found.features_NVD[[found.index[path] for path in paths], 0])


def _zero_shot_table(model: ImageText, data: Path, table: str) -> dict[str, float]:
    recipe = subjects.classify_recipe(data, table)
    test = [s for s in recipe.data.read() if s.split == "test"]
    labels = sorted({str(s.label) for s in test})
    sentences = {label: TEMPLATE.format(label=label.replace("_", " ")) for label in labels}
    return _zero_shot(model, _embedded(model, [s.path for s in test]), test, sentences)


def _zero_shot(
    model: ImageText, images: torch.Tensor, test: Sequence[Sample], sentences: dict[str, str]
) -> dict[str, float]:
    labels = list(sentences)
    truth = np.array([labels.index(str(s.label)) for s in test])
    with torch.no_grad():
        predicted = model.classify(images, model.texts(list(sentences.values()))).argmax(1).numpy()
    return {"balanced_accuracy": balanced_accuracy(predicted, truth), "chance": 1 / len(labels)}


def _ranks(similarity_CI: torch.Tensor) -> "np.ndarray[Any, np.dtype[np.int64]]":
    """For each caption the number of images that fit better than its own."""
    own = similarity_CI.diagonal()[:, None]
    return (similarity_CI > own).sum(1).numpy()
