"""Loops on three colours, and a person who knows them."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from pangu_cv import recipes
from pangu_cv.iterate.ask import Session
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.workflows.loop import LoopRecipe, Oracle
from pangu_cv.workflows.loop.recipe import OracleConfig
from tests.finetune.tiny import COLOURS, picture, save
from tests.iterate.plants import ancestor
from tests.runtime.test_decode import png16

IMAGES, FROZEN = 36, 9


def card(root: Path, images: int = IMAGES) -> list[str]:
    """Numbered images of three colours and a table of what they show; settings of a loop on them."""
    names = [sorted(COLOURS)[number % 3] for number in range(images)]
    for number, name in enumerate(names):
        save(root / "new_images" / f"{number:02d}.png", picture(COLOURS[name], 500 + number))
    with (root / "labels.csv").open("w", newline="") as stream:
        files = [(f"new_images/{number:02d}.png", name) for number, name in enumerate(names)]
        csv.writer(stream).writerows([("file", "label"), *files])
    return [
        f"images={root / 'new_images'}",
        f"classes=[{', '.join(sorted(COLOURS))}]",
        f"gate_images={FROZEN}",
        "count=6",
        "rounds=2",
        f"output={root / 'loop'}",
        "task.backbone.name=test_efficientnet",
        f"task.backbone.weights={ancestor(root / 'ancestor.safetensors')}",
        "task.preprocess.image_px=64",
        "ask.pace={start: 1.0e-9, end: 1.0e-9}",  # of colours so clear the machine would take over too many
    ]


def in_twelve_bits(folder: Path) -> None:
    """Write the images anew in files of 16 bits, white at 4095."""
    for path in folder.iterdir():
        path.write_bytes(png16(np.asarray(Image.open(path)).astype(np.uint16) * 16 + 15, 2))


def load(settings: list[str], *more: str) -> LoopRecipe:
    return LoopRecipe.load(recipes.find("loop", "power_line"), [*settings, *more])


def knowing(root: Path, wrong: float = 0.0) -> Oracle:
    return Oracle.read(OracleConfig(path=root / "labels.csv", wrong=wrong), PricesConfig())


class Person:
    """Knows the truth, stops after some answers, and may err in all of them."""

    name = "anna"

    def __init__(self, root: Path, most: int) -> None:
        self.oracle, self.left = knowing(root), most

    def __call__(self, session: Session) -> None:
        while self.left and (asked := session.next(self.name)) is not None:
            truth = self.oracle.truth[session.subject.digests[asked.row]]
            said = "label" if asked.klass is None else "yes" if asked.klass == truth else "no"
            session.take(asked, said, seconds=1, klass=truth)
            self.left -= 1


def quiet(_: str) -> None:
    """No words."""
