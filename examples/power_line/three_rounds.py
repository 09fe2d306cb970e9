"""Images of a power line, from nothing labelled to a certified bundle: ``python examples/power_line/three_rounds.py``.

A table answers in your place, which the report says; with --ask you answer yourself, in the terminal.
"""

import argparse
import csv
from pathlib import Path

import numpy as np
from PIL import Image

from pangu_cv import recipes
from pangu_cv.data.scenes import DEFECT_KINDS, GOOD, SceneConfig, render_scene
from pangu_cv.workflows.loop import InTerminal, LoopRecipe, run_loop

CAMERA = SceneConfig(station=12, size_px=320)  # one fixed camera: weather and light change, defects come and go

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("out", type=Path, nargs="?", default=Path("runs/power_line"))
arguments.add_argument("--images", type=int, default=480, help="images that nobody has looked at, half of them sound")
arguments.add_argument("--frozen", type=int, default=120, help="of these, set aside to measure on")
arguments.add_argument("--count", type=int, default=40, help="images that each round asks about")
arguments.add_argument("--ask", action="store_true", help="ask you instead of the table")
arguments.add_argument("--set", nargs="*", default=[], metavar="key=value", help="more settings of the recipe")
options = arguments.parse_args()

# A patrol's memory card: numbered images, and beside them (for the simulated person) what they show.
images, truth = options.out / "new_images", options.out / "labels.csv"
if not truth.is_file():
    images.mkdir(parents=True, exist_ok=True)
    kinds = [*[None] * len(DEFECT_KINDS), *DEFECT_KINDS]
    order = np.random.default_rng(0).permutation(options.images)
    rows = []
    for number, drawn in enumerate(order.tolist()):
        scene = render_scene(drawn, defect=kinds[drawn % len(kinds)], config=CAMERA)
        Image.fromarray(scene.image_HW3).save(images / f"{number:04d}.jpg", quality=94)
        rows.append((f"new_images/{number:04d}.jpg", scene.label))
    with truth.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("file", "label"), *rows])

settings = [
    ("images", images),
    ("classes", (GOOD, *DEFECT_KINDS)),
    ("gate_images", options.frozen),
    ("count", options.count),
    ("output", options.out / "loop"),
    *([] if options.ask else [("oracle", truth)]),
]
recipe = LoopRecipe.load(recipes.find("loop", "power_line"), [*settings, *options.set])
result = run_loop(recipe, people=InTerminal("you"), say=print)
for one in result.metrics["rounds"]:
    if (summary := one["measured"]["summary"]) is not None:
        told = f"{one['asked']['labelled']} labelled in {one['asked']['seconds']:.0f} s"
        print(f"round {one['round']}: {told}, balanced accuracy {summary['balanced_accuracy']:.1%}")
print(f"open: {result.open}" if result.open else f"certified bundle {result.bundle}")
print(f"see {result.report}")
