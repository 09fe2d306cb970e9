"""Make a backbone better with unlabelled images, ask whether it is, then fit a classifier on it.

``python examples/pretrain_then_finetune.py [folder]``
"""

import argparse
from pathlib import Path

from pangu_cv import recipes
from pangu_cv.data.scenes import SceneConfig, write_class_folders
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.pretrain import PretrainRecipe, pretrain

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("out", type=Path, nargs="?", default=Path("runs/pretrain_then_finetune"))
arguments.add_argument("--images", type=int, default=40, help="images per class that are drawn")
arguments.add_argument("--shots", type=int, default=5, help="labelled images per class")
arguments.add_argument("--steps", type=int, default=100, help="steps of pretraining")
arguments.add_argument("--backbone", default="vit_tiny_patch16_224.augreg_in21k_ft_in1k", help="a timm ViT")
arguments.add_argument("--weights", default="auto", help="'auto', 'random' or a file")
arguments.add_argument("--image-px", type=int, default=224, help="side of the network's input")
options = arguments.parse_args()

data = options.out / "images"
if not data.is_dir():
    write_class_folders(data, images_per_class=options.images, config=SceneConfig(station=12, size_px=256))

# The labels of 'data' are not looked at; 'targets' are what the new weights are judged by.
network = [("backbone.name", options.backbone), ("backbone.weights", options.weights)]
probe = {"path": data, "image_px": options.image_px, "shots": options.shots, "draws": 4}
steps = [("optim.steps", options.steps), ("round_steps", max(1, options.steps // 2)), ("optim.batch", 32)]
places = [("data", [{"path": data}]), ("targets", [probe]), ("output", options.out / "backbone")]
pretraining = PretrainRecipe.load(recipes.find("pretrain", "joint"), [*places, *network, *steps])
backbone = pretrain(pretraining)
print(f"pretraining: {backbone.metrics['verdict']['sentence']}; see {backbone.report}")

# The original stays the better choice where the verdict says so.
is_better = any(target["use"] for target in backbone.metrics["verdict"]["targets"])
weights = backbone.folder if is_better else options.weights
settings = [
    ("data.path", data),
    ("few_shot.shots", options.shots),
    ("task.backbone.name", options.backbone),
    ("task.backbone.weights", str(weights)),
    ("task.preprocess.image_px", options.image_px),
    ("output", options.out / "classifier"),
]
recipe = FinetuneRecipe.load(recipes.find("finetune", "classify"), settings)
result = finetune(recipe)
print(f"balanced accuracy {result.metrics['balanced_accuracy']['mean']:.1%}, see {result.report}")
