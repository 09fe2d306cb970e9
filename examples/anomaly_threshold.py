"""A false-alarm rate as a promise, and what one image more does: ``python examples/anomaly_threshold.py [folder]``."""

import argparse
from pathlib import Path

import torch

from pangu_cv import recipes
from pangu_cv.data.scenes import SceneConfig, write_mvtec
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import decode
from pangu_runtime.images import list_images

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("out", type=Path, nargs="?", default=Path("runs/anomaly_threshold"))
arguments.add_argument("--normals", type=int, default=18, help="normal images learned at first")
options = arguments.parse_args()

data = options.out / "images"
if not data.is_dir():
    camera = SceneConfig(station=12, size_px=256)  # one fixed camera
    write_mvtec(data, normals_train=options.normals, normals_test=4, defects_per_kind=1, config=camera)

settings = [("data.path", data), ("output", options.out), ("task.false_alarm_rate", 0.05)]
result = finetune(FinetuneRecipe.load(recipes.find("finetune", "anomaly"), settings))
print(f"{options.normals} normal images: {result.metrics['threshold']['statement']}")

# One normal image more, learned without the first ones: the memory is in the checkpoint.
saved = load_model(result.model)
model, normality = saved.model, saved.normality
new = list_images(data / "test" / "good")[0]
with torch.inference_mode():
    patches = model.patches(model.prepare(torch.from_numpy(decode(new))[None]))[0].flatten(0, 1)
normality.learn(new.name, patches)
normality.witness(new.name, patches)
print(f"{options.normals + 1} normal images: {normality.calibrate(model).explain()}")
