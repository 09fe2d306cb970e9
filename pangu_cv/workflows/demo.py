"""The main job end to end: images, a few labels, a model, a certified bundle, decisions without torch."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pangu_cv import deploy, recipes
from pangu_cv.data.config import DataConfig
from pangu_cv.data.few_shot import draw_split
from pangu_cv.data.sample import Dataset
from pangu_cv.data.scenes import SceneConfig, write_class_folders, write_mvtec
from pangu_cv.errors import DataError
from pangu_cv.evaluate import test_samples
from pangu_cv.finetune import FinetuneRecipe, FinetuneResult, finetune
from pangu_cv.progress import bar
from pangu_cv.staging import write_json
from pangu_runtime import golden
from pangu_runtime.predictor import Predictor

STATION = SceneConfig(station=12)  # one camera on one tower: weather and light change, defects come and go
SHOTS = 10
Say = Callable[[str], None]
Kind = Literal["classify", "anomaly"]


@dataclass(frozen=True)
class DemoPart:
    """One task of the demo: its figures, report, bundle, and what the certificate and a torch-free run showed."""

    task: Kind
    folder: Path
    metrics: dict[str, Any]
    certificate: dict[str, Any]
    predictions: list[dict[str, Any]]
    seconds: dict[str, float]

    @property
    def report(self) -> Path:
        """The page for people."""
        return self.folder / "report.html"

    @property
    def bundle(self) -> Path:
        """The certified bundle."""
        return self.folder / "bundle"


def run_demo(out: Path, *, data: Path | None, say: Say) -> list[DemoPart]:
    """Run the job on the user's images, or on built-in scenes (then both tasks), into ``out``; write summary.json."""
    if data is not None:
        dataset = DataConfig(path=data).read()
        parts = [_job(_kind_of(dataset), data, out, shots=_shots(dataset), say=say)]
    else:
        images = _scenes(out, say)
        parts = [
            _job("classify", images / "power_line_defects", out, shots=SHOTS, say=say),
            _job("anomaly", images / "power_line_watch", out / "anomaly", shots=None, say=say),
        ]
    write_json(
        out / "summary.json", {"data": str(data or "built-in power-line scenes"), "parts": [_summary(p) for p in parts]}
    )
    return parts


def _scenes(out: Path, say: Say) -> Path:
    images = out / "images"
    say(f"drawing power-line scenes of one camera into {images}")
    with bar("drawing scenes") as progress:
        if not (images / "power_line_defects").is_dir():
            write_class_folders(
                images / "power_line_defects",
                images_per_class={"train": SHOTS, "test": 15},
                seed=0,
                config=STATION,
                progress=progress,
            )
        if not (images / "power_line_watch").is_dir():
            write_mvtec(
                images / "power_line_watch",
                normals_train=60,
                normals_test=20,
                defects_per_kind=6,
                seed=1,
                config=STATION,
                progress=progress,
            )
    return images


def _kind_of(dataset: Dataset) -> Kind:
    return "anomaly" if dataset.layout == "mvtec" else "classify"


def _shots(dataset: Dataset) -> int | None:
    """As the smallest class allows, at most 5; without a test split one image of it is kept to measure on."""
    if _kind_of(dataset) == "anomaly":
        return None
    train = dataset.split("train")
    pool = train or tuple(s for s in dataset if s.label is not None)
    counts = [sum(s.label == name for s in pool) for name in sorted({s.label for s in pool if s.label is not None})]
    if len(counts) < 2:
        raise DataError(
            f"{dataset.root}: the demo classifies, which needs 2 class folders or more; found {len(counts)}"
        )
    shots = min(5, min(counts) - (0 if train and len(train) < len(dataset) else 1))
    if shots < 1:
        raise DataError(f"{dataset.root}: a class has a single image; give every class at least 2")
    draw_split(pool, shots=shots, seed=0)
    return shots


def _job(kind: Kind, data: Path, out: Path, *, shots: int | None, say: Say) -> DemoPart:
    labels = "all normal images" if shots is None else f"{shots} labelled images per class"
    say(f"{kind}: learning from {labels} of {data}")
    start = time.perf_counter()
    settings = [("data.path", data), ("few_shot.shots", shots), ("output", out)]
    result = finetune(FinetuneRecipe.load(recipes.find("finetune", kind), settings))
    fitted = time.perf_counter()
    say(f"{kind}: exporting and certifying against the trained model")
    certificate, predictions = _deploy(result, out / "bundle", data)
    seconds = {"finetune": round(fitted - start, 1), "export": round(time.perf_counter() - fitted, 1)}
    return DemoPart(kind, out, result.metrics, certificate, predictions, seconds)


def _deploy(result: FinetuneResult, bundle: Path, data: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    paths = [sample.path for sample in test_samples(DataConfig(path=data).read())]
    with bar("certifying") as progress:
        exported = deploy.export(result.model, bundle, paths, progress=progress)
    predictor = Predictor(bundle)
    golden.replay(predictor)
    predictions = [p.to_json() for p in predictor.predict(paths[:3]) if not isinstance(p, Exception)]
    return {"images": exported.certificate.images, **exported.certificate.difference.to_json()}, predictions


def _summary(part: DemoPart) -> dict[str, Any]:
    return {
        "task": part.task,
        "report": str(part.report),
        "bundle": str(part.bundle),
        "certificate": part.certificate,
        "predictions": part.predictions,
        "seconds": part.seconds,
        "metrics": part.metrics,
    }
