"""From a few labels to a certified bundle and its decisions: ``python examples/few_shot_classify.py [folder]``."""

import argparse
from pathlib import Path

from pangu_cv import deploy, recipes
from pangu_cv.data.scenes import SceneConfig, write_class_folders
from pangu_cv.evaluate import test_samples
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_runtime.predictor import ClassPrediction, Predictor

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("out", type=Path, nargs="?", default=Path("runs/few_shot_classify"))
arguments.add_argument("--data", type=Path, help="your own images, one folder per class")
arguments.add_argument(
    "--images", type=int, default=8, help="images per class that are drawn where --data is not given"
)
arguments.add_argument("--shots", type=int, default=5, help="labelled images per class")
options = arguments.parse_args()

data = options.data or options.out / "images"
if not data.is_dir():
    camera = SceneConfig(station=12, size_px=256)  # one fixed camera
    write_class_folders(data, images_per_class=options.images, config=camera)

# The settings are those of the shell: pangu-cv finetune classify data.path=... few_shot.shots=5
settings = [("data.path", data), ("few_shot.shots", options.shots), ("output", options.out)]
recipe = FinetuneRecipe.load(recipes.find("finetune", "classify"), settings)
result = finetune(recipe)
print(f"balanced accuracy {result.metrics['balanced_accuracy']['mean']:.1%}, see {result.report}")

images = [sample.path for sample in test_samples(recipe.data.read())]
exported = deploy.export(result.model, options.out / "bundle", images)
print(f"certified on {exported.certificate.images} images: {exported.certificate.difference}")

for prediction in Predictor(exported.bundle).predict(images[:5]):  # this line alone needs no torch
    if isinstance(prediction, ClassPrediction):
        print(f"{prediction.label:16} {prediction.score:6.1%}  {prediction.source}")
