"""Tiny pictures, runs and bundles that tests of several folders share; runs and bundles are made once a session."""

import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock
from PIL import Image

from pangu_cv import recipes
from pangu_cv.deploy import Wanted, export
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_runtime.images import list_images

torch.set_num_threads(1)  # tiny networks gain nothing from more, and threads that wait are a burden on a busy machine
NETWORK = (
    "task.backbone.name=test_efficientnet",
    "task.backbone.weights=random",
    "task.preprocess.image_px=64",
)
QUICK = (
    "few_shot.shots=3",
    "train.steps=80",
    "train.lr=5e-3",
    "train.batch=3",
    "train.workers=0",
    "train.ema=0.5",
    "task.head.width=32",
)
COLOURS = {"blue": (60, 80, 190), "green": (60, 170, 80), "red": (200, 70, 60)}


@dataclass(frozen=True)
class Made:
    """A finished run, its bundle, and the images it was made and certified with."""

    run: Path
    bundle: Path
    data: Path
    images: tuple[Path, ...]


def picture(colour: tuple[int, int, int], seed: int, *, height: int = 40, width: int = 48) -> np.ndarray:
    """A plain colour with noise, uint8[height,width,3]."""
    noise = np.random.default_rng(seed).integers(-30, 30, (height, width, 3))
    return (np.array(colour) + noise).clip(0, 255).astype(np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)
    return path


def class_folders(root: Path, *, classes: tuple[str, ...] = ("blue", "red"), train: int = 4, test: int = 3) -> Path:
    """``train|test/<colour>/*.png``; without the folder level of splits where ``test`` is 0."""
    for part, count in (("train", train), ("test", test)):
        for name in classes:
            for number in range(count):
                seed = abs(hash((part == "test", COLOURS[name], number))) % 2**31
                folder = root / part / name if test else root / name
                save(folder / f"{number}.png", picture(COLOURS[name], seed, width=48 + 4 * (number % 2)))
    return root


def mvtec(root: Path, *, normals: int = 8, test: int = 4, defects: int = 3) -> Path:
    """Blue is normal; a defect is a red square with its mask."""
    for number in range(normals):
        save(root / "train" / "good" / f"{number}.png", picture(COLOURS["blue"], number))
    for number in range(test):
        save(root / "test" / "good" / f"{number}.png", picture(COLOURS["blue"], 1000 + number))
    for number in range(defects):
        image, mask = picture(COLOURS["blue"], 2000 + number), np.zeros((40, 48), np.uint8)
        image[8:28, 8:28], mask[8:28, 8:28] = COLOURS["red"], 255
        save(root / "test" / "stain" / f"{number}.png", image)
        save(root / "ground_truth" / "stain" / f"{number}_mask.png", mask)
    return root


def masked(root: Path, *, train: int = 4, test: int = 2, side: int = 64) -> Path:
    """Noise with a bright stripe, images beside masks."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    for part, count in (("train", train), ("test", test)):
        names = [f"{part}{number}" for number in range(count)]
        (root / f"{part}.txt").write_text("\n".join(names))
        for number, name in enumerate(names):
            image, mask = (
                picture(COLOURS["blue"], 3000 + number, height=side, width=side + 8),
                np.zeros((side, side + 8)),
            )
            at = 8 + 5 * number + 3 * (part == "test")
            image[:, at : at + 6], mask[:, at : at + 6] = (250, 240, 230), 1
            save(root / "images" / f"{name}.png", image)
            save(root / "masks" / f"{name}.png", mask.astype(np.uint8))
    (root / "classes.txt").write_text("background\ncrack\n")
    return root


def boxed(root: Path, *, train: int = 6, test: int = 3, side: int = 64) -> Path:
    """Bright and dark squares on noise, in the VOC layout; every third image shows none."""
    random = np.random.default_rng(5)
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for part, count in (("train", train), ("test", test)):
        names = [f"{part}{number}" for number in range(count)]
        (root / "ImageSets" / "Main" / f"{part}.txt").write_text("\n".join(names))
        for number, name in enumerate(names):
            seed = 4000 + number + 500 * (part == "test")  # a test image without objects is no copy of a training image
            image, objects = picture(COLOURS["blue"], seed, height=side, width=side + 16), ""
            for label, value in (("dark", 10), ("light", 250)) if number % 3 else ():
                x, y = int(random.integers(2, side - 12)), 4 if label == "dark" else side // 2 + 4
                image[y : y + 24, x : x + 24] = value
                corners = f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + 24}</xmax><ymax>{y + 24}</ymax>"
                objects += f"<object><name>{label}</name><bndbox>{corners}</bndbox></object>"
            save(root / "JPEGImages" / f"{name}.png", image)
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
    return root


def tagged(root: Path, *, train: int = 8, test: int = 8) -> Path:
    """A table whose images show a light bar, a dark bar, both or neither."""
    lines = ["file,label,split"]
    for part, count in (("train", train), ("test", test)):
        for number in range(count):
            names = [name for at, name in enumerate(("dark", "light")) if number >> at & 1]
            image = picture(COLOURS["blue"], 6000 + number + 100 * (part == "test"))
            if "dark" in names:
                image[22:38] = 5
            if "light" in names:
                image[2:18] = 250
            save(root / f"{part}{number}.png", image)
            lines.append(f"{part}{number}.png,{';'.join(names)},{part}")
    (root / "labels.csv").write_text("\n".join(lines))
    return root


def recipe(kind: str, data: Path, output: Path, *overrides: str) -> FinetuneRecipe:
    """The shipped recipe on a tiny network with random weights."""
    lines = [*NETWORK, f"data.path={data}", f"output={output}", *overrides]
    return FinetuneRecipe.load(recipes.find("finetune", kind), lines)


@cache
def made(kind: str) -> Made:
    """A run of a task and its bundle; copy what a test changes.

    ``unknown`` is a classifier that may answer so, ``precise`` one whose bundle holds fp16 and int8 too.
    """
    root = Path(os.environ["PANGU_CV_TESTS_MADE"]) / kind
    root.mkdir(parents=True, exist_ok=True)
    images = {"segment": "data/images", "detect": "data/JPEGImages"}.get(kind, "data/test")
    with FileLock(root / "lock"):  # tests run in several processes
        if not (root / "bundle").is_dir():
            torch.manual_seed(0)
            result = finetune(_recipe_of(kind, root))
            wanted = Wanted(("fp16", "int8"), 2.0, source="the test's images") if kind == "precise" else None
            export(result.model, root / "bundle", list_images(root / images), wanted=wanted)
    return Made(root / "run", root / "bundle", root / "data", list_images(root / images))


def _recipe_of(kind: str, root: Path) -> FinetuneRecipe:
    """Its recipe, with its images written."""
    data, run = root / "data", root / "run"
    match kind:
        case "classify" | "precise":
            return recipe("classify", class_folders(data, train=6, test=4), run, "few_shot.shots=4")
        case "unknown":
            class_folders(data, train=12, test=4)
            for number in range(4):
                save(data / "test" / "white" / f"{number}.png", picture((250, 250, 250), 7000 + number))
            return recipe("classify", data, run, "few_shot.shots=10", "task.unknown_rate=0.2")
        case "multilabel":
            return recipe(kind, tagged(data / "test"), run, "few_shot.shots=2")
        case "segment":
            return recipe(kind, masked(data), run, *QUICK)
        case "detect":
            return recipe(kind, boxed(data), run, *QUICK)
        case _:
            return recipe(kind, mvtec(data, normals=20), run)


def copy_of(folder: Path, target: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(folder, target))
