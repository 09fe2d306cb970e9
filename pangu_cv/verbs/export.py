"""``pangu-cv export``."""

import json
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from pangu_cv import deploy
from pangu_cv.data.config import DataConfig
from pangu_cv.errors import DataError
from pangu_cv.evaluate import test_samples
from pangu_cv.progress import bar
from pangu_runtime.bundle import fingerprint
from pangu_runtime.images import list_images


def export(
    model: Path,
    *,
    out: Path,
    images: Path | None = None,
    profile: Literal["cloud"] | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Export a model to one certified ONNX bundle that runs without torch.

    Parameters
    ----------
    model
        A run folder of 'pangu-cv finetune', or its model folder.
    out
        Where the bundle appears, if its certificate holds.
    images
        Images to certify on, decision by decision; default: the run's own test images.
    profile
        'cloud' also writes OUT.triton, a model repository for NVIDIA Triton and KServe (onnxruntime backend).
    as_json
        Print JSON.
    """
    checkpoint = model / "model" if (model / "model" / "model.json").is_file() else model
    paths = list_images(images) if images is not None else tuple(_images_of_run(checkpoint.parent))
    repository = out.with_name(f"{out.name}.triton") if profile == "cloud" else None
    with bar("certifying") as progress:
        result = deploy.export(checkpoint, out, paths, repository=repository, progress=progress)
    worst, pin = result.certificate.difference, fingerprint(result.bundle)
    if as_json:
        about = {"bundle": str(result.bundle), "fingerprint": pin, "images": result.certificate.images}
        about |= {} if repository is None else {"triton": str(repository)}
        print(json.dumps(about | worst.to_json()))
        return
    print(f"certificate  {result.certificate.images} images: {worst.flips} flips, scores within {worst.score:.1e}")
    print(f"bundle       {result.bundle}")
    if repository is not None:
        print(f"triton       {repository}   (--model-repository)")
    print(f"fingerprint  {pin}")
    print("             Keep it elsewhere: 'pangu-cv verify --sha256' holds a copy to it.")
    print(f"Next: pangu-cv predict {result.bundle} my_images   (no torch needed)")


def _images_of_run(run: Path) -> list[Path]:
    recipe = run / "recipe.yaml"
    if not recipe.is_file():
        raise DataError(f"'{run}' has no recipe.yaml that names images; give --images, a folder of the line's images")
    import yaml

    settings = DataConfig.parse(yaml.safe_load(recipe.read_text(encoding="utf-8"))["data"], origin=str(recipe))
    return [sample.path for sample in test_samples(settings.read())]
