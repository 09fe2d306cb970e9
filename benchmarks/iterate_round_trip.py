"""FiftyOne and back: images with boxes, masks, heat maps and embeddings, compared field by field; then some edits."""

import os
import resource
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image

from pangu_cv.data.sample import Box, Dataset, Sample
from pangu_cv.data.versions import read_version, write_version
from pangu_cv.iterate.inspect.back import collect
from pangu_cv.iterate.inspect.database import open_fiftyone
from pangu_cv.iterate.inspect.findings import Collector
from pangu_cv.iterate.inspect.look import looks
from pangu_cv.iterate.inspect.model import Answer
from pangu_cv.iterate.inspect.out import VIEW, Sender
from pangu_cv.iterate.inspect.shown import small
from pangu_runtime.decode import DEFAULT_SPEC
from pangu_runtime.errors import RuntimeLimitError
from pangu_runtime.predictor import AnomalyPrediction
from tests.iterate.inspect import mongo

CLASSES = ("good", "scratch", "pit", "stain")
_HEIGHT, _WIDTH, _FEATURES = 120, 160, 512


class _Made:
    """Answers drawn from an image's pixels: a heat map and features, the same whenever the image is seen."""

    spec, task, groups, features, fingerprint = DEFAULT_SPEC, "anomaly", (_FEATURES,), "made", "made-1"

    def answer(self, image_HW3: np.ndarray, source: str) -> Answer:
        random = np.random.default_rng(int.from_bytes(image_HW3[0, :4].tobytes()))
        heat = random.random(image_HW3.shape[:2], np.float32)
        score = float(random.random() * 2)
        found = AnomalyPrediction(source, score, score > 1, 1.0, heat)
        return Answer(found, random.normal(0, 1, _FEATURES).astype(np.float32))


def measure(*, data: str, is_quick: bool, images: int = 1000, edits: int = 60, seed: int = 0) -> dict[str, Any]:
    """Seconds out and back, peak memory, and for every field how many values were lost or changed."""
    images, binary = 40 if is_quick else images, mongo.find()
    if binary is None:
        raise RuntimeLimitError("no MongoDB beside FiftyOne; pip install 'pangu-cv[inspect,inspect-db]'")
    with tempfile.TemporaryDirectory() as scratch, mongo.running(binary, Path(scratch) / "db") as uri:
        os.environ["FIFTYONE_DATABASE_URI"] = uri
        random = np.random.default_rng(seed)
        dataset = _dataset(Path(scratch) / "data", images, random)
        start = time.perf_counter()
        fiftyone = open_fiftyone()
        seconds = {"start": time.perf_counter() - start}
        memory = {"before_mb": _peak_mb()}
        start = time.perf_counter()
        target = _send(fiftyone, dataset)
        seconds["out"] = time.perf_counter() - start
        memory["out_mb"] = _peak_mb()
        start = time.perf_counter()
        returned = collect(target, dataset, scratch=Path(scratch))
        seconds["back"] = time.perf_counter() - start
        memory["back_mb"] = _peak_mb()
        version = write_version(Path(scratch) / "versions", returned.dataset)
        wrong = _compared(target, dataset, read_version(version.folder).dataset)
        edited = _edited(fiftyone, target, dataset, random, min(edits, images), Path(scratch))
        fiftyone.delete_dataset(target.name)
    counts = Counter(change.field for change in returned.changes)
    return {
        "images": images,
        "boxes": sum(len(sample.boxes or ()) for sample in dataset),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "images_per_s": {name: round(images / seconds[name], 1) for name in ("out", "back")},
        "peak_memory": memory,
        "lost_or_changed": wrong,
        "changes_without_an_edit": dict(counts),
        "edits": edited,
    }


def _dataset(folder: Path, images: int, random: np.random.Generator) -> Dataset:
    """Noise with boxes at odd places, masks of class numbers, labels, groups and captions."""
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    samples = []
    for number in range(images):
        path, mask_path = (folder / name / f"{number:05d}.png" for name in ("images", "masks"))
        pixels = random.integers(0, 255, (_HEIGHT, _WIDTH, 3), np.uint8)
        mask = np.zeros((_HEIGHT, _WIDTH), np.uint8)
        boxes = []
        for _ in range(int(random.integers(0, 6))):
            (x0, x1), (y0, y1) = np.sort(random.random((2, 2)) * [[_WIDTH], [_HEIGHT]], 1).tolist()
            label = int(random.integers(1, len(CLASSES)))
            mask[int(y0) : int(y1) + 1, int(x0) : int(x1) + 1] = label
            boxes.append(Box(CLASSES[label], (x0, y0, x1, y1)))
        Image.fromarray(pixels).save(path, compress_level=1)
        Image.fromarray(mask).save(mask_path)
        label = CLASSES[int(random.integers(len(CLASSES)))]
        split = (None, "train", "val", "test")[number % 4]
        samples.append(
            Sample(path, label, split, mask_path, f'no. {number}, "{label}"', f"g{number // 7}", tuple(boxes))
        )
    return Dataset(folder, "csv", tuple(samples), mask_classes=CLASSES)


def _send(fiftyone: Any, dataset: Dataset) -> Any:
    looker = _Made()
    sender = Sender(fiftyone, dataset, "round-trip", fingerprint="x", task=looker.task)
    collector = Collector(dataset, looker)
    for look in looks(dataset, looker):
        collector.take(look)
        sender.take(look)
    return sender.finish(collector.done())


def _compared(target: Any, dataset: Dataset, returned: Dataset) -> dict[str, int]:
    """By field, how many of the values that went out are not there, or not the same, bit by bit."""
    wrong = dict.fromkeys(("image", "label", "split", "group", "caption", "boxes", "mask_file"), 0)
    wrong |= dict.fromkeys(("mask", "heat_map", "embedding", "flat_view"), 0)
    back = {sample.path: sample for sample in returned}
    for sample in dataset:
        found = back.get(sample.path)
        wrong["image"] += found is None
        other = found or SimpleNamespace(label=0, split=0, group=0, caption=0, boxes=0, mask=0)
        for field in ("label", "split", "group", "caption", "boxes"):
            wrong[field] += getattr(other, field) != getattr(sample, field)
        wrong["mask_file"] += other.mask != sample.mask
    for look, shown in zip(looks(dataset, _Made()), target, strict=True):
        assert look.prediction is not None
        wrong["mask"] += not _same(shown["mask"].mask, look.mask_HW)
        wrong["heat_map"] += not _same(shown["heat_map"].map, small(look.prediction.map_HW))  # type: ignore[union-attr]
        wrong["embedding"] += not _same(shown["embedding"], look.features_D)
    wrong["flat_view"] += abs(len(target.load_brain_results(VIEW).points) - len(dataset))
    return wrong


def _same(one: Any, other: Any) -> bool:
    return one is not None and one.dtype == other.dtype and np.array_equal(one, other)


def _edited(
    fiftyone: Any, target: Any, dataset: Dataset, random: np.random.Generator, edits: int, scratch: Path
) -> dict[str, int]:
    """Some images are relabelled, given a box, painted or left out: exactly these come back changed."""
    places = random.choice(len(dataset), edits, replace=False).tolist()
    ids = target.values("id")
    wanted: dict[str, str] = {}
    for number, at in enumerate(places):
        sample, name = target[ids[at]], f"images/{dataset.samples[at].path.name}"
        match number % 4:
            case 0:
                sample["label"].label, wanted[name] = "new", "label"
            case 1:
                box = fiftyone.Detection(label="new", bounding_box=[0.1, 0.1, 0.3, 0.3])
                sample["boxes"].detections.append(box)
                wanted[name] = "box"
            case 2:
                mask = sample["mask"].mask.copy()
                mask[0, 0] = (mask[0, 0] + 1) % len(CLASSES)
                sample["mask"].mask, wanted[name] = mask, "mask"
            case _:
                sample.tags.append("remove")
                wanted[name] = "image"
        sample.save()
    folder = scratch / "masks"
    folder.mkdir()
    found = {change.image: change.field for change in collect(target, dataset, scratch=folder).changes}
    return {
        "made": len(wanted),
        "came_back": sum(found.get(name) == field for name, field in wanted.items()),
        "others_changed": len(set(found) - set(wanted)),
    }


def _peak_mb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
