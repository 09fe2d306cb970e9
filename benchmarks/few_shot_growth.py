"""How seconds and peak memory grow with images and with classes; scenes of the repository, for anyone to repeat.

Every cell runs in a process of its own. What is timed is the whole command: reading, fitting, measuring, the report.
"""

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.machine import peak_memory_mb
from pangu_cv import recipes
from pangu_cv.data.coco_writer import write_coco
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset, Sample
from pangu_cv.data.scenes.defects import DEFECT_KINDS
from pangu_cv.data.scenes.plan import SceneConfig
from pangu_cv.data.scenes.write import write_class_folders
from pangu_cv.finetune import FinetuneRecipe, finetune

TASKS = ("classify", "detect")
IMAGES = (100, 500, 1000, 5000)
CLASSES = (2, 20, 200)
_SIDE_PX = 256
_TEST = 50
_KINDS = 1 + len(DEFECT_KINDS)  # sound, and one for each defect
_TRAINED = ("train.steps=100", "train.pool=100", "train.workers=0")


def images(*, data: str, is_quick: bool, task: str, count: int) -> dict[str, Any]:
    """``count`` labelled scenes of a few classes; detect trains for as many steps whatever the count."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        each = {"train": (20 if is_quick else count) // _KINDS, "test": _TEST // _KINDS}
        drawn = folder / ("data" if task == "classify" else "drawn")
        write_class_folders(drawn, images_per_class=each, config=SceneConfig(size_px=_SIDE_PX))  # type: ignore[arg-type]
        if task == "detect":
            write_coco(_with_boxes(drawn), folder / "data")
        return {"task": task, "images": count} | _run(task, folder, is_quick=is_quick)


def classes(*, data: str, is_quick: bool, task: str, count: int) -> dict[str, Any]:
    """Five images of each of ``count`` classes, each class a texture of its own (with a box around it for detect)."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _textures(folder / "data", classes=min(count, 3) if is_quick else count, task=task)
        return {"task": task, "classes": count} | _run(task, folder, is_quick=is_quick)


def _run(task: str, folder: Path, *, is_quick: bool) -> dict[str, Any]:
    settings = [f"data.path={folder / 'data'}", f"output={folder / 'run'}", "few_shot.shots=null", "cache=false"]
    if task == "detect":
        settings += [*_TRAINED, f"task.preprocess.image_px={_SIDE_PX}"]
    if task == "detect" and is_quick:
        settings += ["train.steps=2"]
    recipe = FinetuneRecipe.load(recipes.find("finetune", task), settings)
    before, start = peak_memory_mb(), time.perf_counter()
    metrics = finetune(recipe).metrics
    [draw] = metrics["draws"]
    return {
        "labelled": draw["labelled"],
        "measured": draw["images"],
        "seconds": time.perf_counter() - start,
        "peak_memory_mb": {"before": before, "after": peak_memory_mb()},
    }


def _with_boxes(drawn: Path) -> Dataset:
    """The scenes' class folders with the boxes that lie beside them, their labels left out."""
    boxes = json.loads((drawn / "boxes.json").read_text(encoding="utf-8"))
    dataset = read_dataset(drawn)
    samples = [
        Sample(
            one.path,
            split=one.split,
            boxes=tuple(
                Box(box["label"], tuple(box["box_xyxy"])) for box in boxes[one.path.relative_to(drawn).as_posix()]
            ),
        )
        for one in dataset
    ]
    return Dataset(drawn, "scenes", tuple(samples))


def _textures(root: Path, *, classes: int, task: str) -> None:
    """Class folders, or VOC, of patches of coarse noise tinted by class."""
    for number in range(classes):
        tint = np.random.default_rng(number).integers(0, 255, (6, 6, 3), dtype=np.uint8)
        for part, count in (("train", 5), ("test", 1)):
            for at in range(count):
                name = f"{part}_{number:03}_{at}"
                image = _texture(tint, seed=1000 * number + at + 500 * (part == "test"))
                if task == "classify":
                    target = root / part / f"class_{number:03}" / f"{name}.jpg"
                else:
                    target = root / "JPEGImages" / f"{name}.jpg"
                    _annotate(root, part, name, f"class_{number:03}")
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(target, quality=92)


def _texture(tint_66: Any, *, seed: int) -> Any:
    random = np.random.default_rng(seed)
    image = random.integers(90, 160, (_SIDE_PX, _SIDE_PX, 3), dtype=np.uint8)
    patch = Image.fromarray(tint_66).resize((128, 128), Image.Resampling.BICUBIC)
    image[64:192, 64:192] = np.asarray(patch)
    return image


def _annotate(root: Path, part: str, name: str, label: str) -> None:
    for folder in ("Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    corners = "<xmin>64</xmin><ymin>64</ymin><xmax>192</xmax><ymax>192</ymax>"
    text = f"<annotation><object><name>{label}</name><bndbox>{corners}</bndbox></object></annotation>"
    (root / "Annotations" / f"{name}.xml").write_text(text, encoding="utf-8")
    with (root / "ImageSets" / "Main" / f"{part}.txt").open("a", encoding="utf-8") as names:
        names.write(f"{name}\n")
