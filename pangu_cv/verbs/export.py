"""``pangu-cv export``."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from cyclopts import Parameter

from pangu_cv import deploy
from pangu_cv.data.config import DataConfig
from pangu_cv.data.readers import pictures_below
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.deploy.spread import spread
from pangu_cv.deploy.told import precision_page
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.evaluate import test_samples
from pangu_cv.iterate.lessons import to_learn
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.progress import bar
from pangu_cv.settings import read_yaml
from pangu_cv.tasks.saved import load_model
from pangu_runtime.bundle import PRECISIONS, Precision, fingerprint
from pangu_runtime.images import list_images

_MOST_CERTIFIED = 5000  # unless images are named: a bundle carries 3 KB of certificate for each


def export(
    model: Path,
    *,
    out: Path,
    images: Path | None = None,
    precision: tuple[str, ...] = ("fp32",),
    calibrate: Path | None = None,
    max_loss: float | None = None,
    profile: Literal["cloud"] | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Export a model to one certified ONNX bundle that runs without torch.

    With --precision int8 or fp16 the bundle holds those too, each certified by itself, and a report lies beside it.

    Parameters
    ----------
    model
        A run folder of 'pangu-cv finetune', or its model folder.
    out
        Where the bundle appears, if its certificate holds.
    images
        Images to certify on, decision by decision; default: the run's own test images, an update's frozen set; of
        more than 5,000 so many, evenly over all.
    precision
        fp32 (always there), fp16, int8: once for each, or with commas.
    calibrate
        Images of the line that int8 is fitted to and controlled on, never the test part; a dataset with labels is
        controlled by the task's figure. Default: the run's own training and validation images, of an update those it
        learnt.
    max_loss
        Points that fp16 or int8 may lose, of the task's figure or, without labels, of decisions; default 0.5, for
        anomaly detection 0.3. Layers go back to fp32 until it holds; if that is not enough there is no bundle.
    profile
        'cloud' also writes OUT.triton, a model repository for NVIDIA Triton and KServe (onnxruntime backend), of fp32.
    as_json
        Print JSON.
    """
    checkpoint = folder_of(model)
    others = _precisions(precision)
    if max_loss is not None and not 0 <= max_loss <= 100:
        raise SettingsError(f"--max-loss: {max_loss} found; points from 0 to 100 are needed")
    if not others and (calibrate is not None or max_loss is not None):
        flag = "--calibrate" if calibrate is not None else "--max-loss"
        raise SettingsError(f"{flag} is for other precisions than fp32; name them, as in --precision int8,fp16")
    out = out.absolute()
    load_model(checkpoint)  # what is none is named before its images are looked for
    paths = list_images(images) if images is not None else tuple(_images_of_run(checkpoint.parent))
    wanted = _wanted(others, max_loss, calibrate, checkpoint.parent)
    repository = out.with_name(f"{out.name}.triton") if profile == "cloud" else None
    with bar("exporting" if others else "certifying") as progress:
        result = deploy.export(checkpoint, out, paths, wanted=wanted, repository=repository, progress=progress)
    report = None
    if others:
        report = out.with_name(f"{out.name}.report.html")
        precision_page(result, wanted, title=out.name).write(report)
    worst, certified, pin = result.certificate.difference, result.certificate.others, fingerprint(result.bundle)
    if as_json:
        told: dict[str, Any] = {"bundle": str(result.bundle), "fingerprint": pin, "images": result.certificate.images}
        told |= {} if repository is None else {"triton": str(repository)}
        told |= worst.to_json()
        for name, loss in result.made.losses.items():
            told[name] = loss.to_json() | {"certified_flips": certified[name].difference.flips}
        print(json.dumps(told))
        return
    print(f"certificate  {result.certificate.images} images: {worst.flips} flips, scores within {worst.score:.1e}")
    for name, loss in result.made.losses.items():
        timing, size = result.made.timings[name], result.made.bytes[name] / 1e6
        flips = certified[name].difference.flips
        print(
            f"{name:12} {flips} flips, {loss.points:.2f} points lost on {loss.images} images; "
            f"{1 / timing.ratio:.2f} times as fast as plain, {size:.1f} MB"
        )
    print(f"bundle       {result.bundle}")
    if report is not None:
        print(f"report       {report}")
    if repository is not None:
        print(f"triton       {repository}   (--model-repository)")
    print(f"fingerprint  {pin}")
    print("             Keep it elsewhere: 'pangu-cv verify --sha256' holds a copy to it.")
    print(f"Next: pangu-cv predict {result.bundle} my_images   (no torch needed)")


def _precisions(given: tuple[str, ...]) -> tuple[Precision, ...]:
    """Besides fp32, in a stable order."""
    names = {name.strip() for one in given for name in one.split(",")}
    if unknown := sorted(names - set(PRECISIONS)):
        raise SettingsError(f"--precision: {unknown[0]!r} found; allowed: {', '.join(PRECISIONS)}")
    return tuple(one for one in PRECISIONS[1:] if one in names)


def _wanted(others: tuple[Precision, ...], max_loss: float | None, calibrate: Path | None, run: Path) -> deploy.Wanted:
    if not others:
        return deploy.Wanted()
    if calibrate is not None:
        return deploy.Wanted(others, max_loss, _samples_in(calibrate), f"'{calibrate.name}'")
    if not (run / "recipe.yaml").is_file():
        raise DataError(
            f"'{run}' has no recipe.yaml that names images; give --calibrate, a folder of the line's images"
        )
    if _is_update(read_yaml(run / "recipe.yaml")):
        return deploy.Wanted(others, max_loss, _learnt_by_update(run), "the images that the update learnt")
    dataset = _dataset_of_run(run)
    test = set(test_samples(dataset))
    samples = tuple(one for one in dataset if one not in test)
    if not samples:  # without parts all are for measuring: their pixels may serve, their labels may not
        return deploy.Wanted(others, max_loss)
    return deploy.Wanted(others, max_loss, samples, "the run's training and validation parts")


def _samples_in(folder: Path) -> tuple[Sample, ...]:
    """With labels where the folder is a dataset that has them, else images alone; without its test part."""
    try:
        samples = DataConfig(path=folder).read().samples
    except DataError:
        return tuple(Sample(path) for path in pictures_below(folder))
    kept = tuple(one for one in samples if one.split != "test")
    if not kept:
        raise DataError(f"--calibrate: '{folder}' holds a test part alone, which is to measure; name other images")
    return kept


def _images_of_run(run: Path) -> list[Path]:
    if not (run / "recipe.yaml").is_file():
        raise DataError(f"'{run}' has no recipe.yaml that names images; give --images, a folder of the line's images")
    return spread([sample.path for sample in test_samples(_dataset_of_run(run))], _MOST_CERTIFIED)


def _dataset_of_run(run: Path) -> Dataset:
    """The images of a recipe of ``finetune``, or of ``distill``, which has other settings beside.

    Of an update the frozen set: what its recipe names as data was learnt, or there is none.
    """
    recipe = run / "recipe.yaml"
    settings = read_yaml(recipe)
    if _is_update(settings):
        return _frozen_set(run)
    tree = settings.get("data")
    if not isinstance(tree, dict):
        raise DataError(f"'{recipe}' names no images; give --images and --calibrate, folders of the line's images")
    own = {key: value for key, value in tree.items() if key in DataConfig.model_fields}
    return DataConfig.parse(own, origin=str(recipe)).read()


def _is_update(settings: Mapping[str, Any]) -> bool:
    return {"model", "gate"} <= set(settings)


def _learnt_by_update(run: Path) -> tuple[Sample, ...]:
    """New images and hard cases, never the frozen set."""
    parts = [part for name in ("data", "hard") if (part := _recorded(run, name)) is not None]
    if not parts:
        raise DataError(f"'{run}' is an update that learnt no images; give --calibrate, a folder of the line's images")
    return tuple(sample for part in parts for sample in to_learn(part))


def _frozen_set(run: Path) -> Dataset:
    """The images that an update was measured on, alone."""
    frozen = _recorded(run, "gate")
    if frozen is None:
        raise DataError(f"'{run / 'metrics.json'}' does not name the update's frozen set; give --images")
    return replace(frozen, samples=test_samples(frozen))


def _recorded(run: Path, part: str) -> Dataset | None:
    """The ``data``, ``hard`` or ``gate`` that an update has read; None where its figures name none."""
    metrics = run / "metrics.json"
    try:
        facts = json.loads(metrics.read_text(encoding="utf-8"))[part]
        tree = {key: facts[key] for key in ("path", "root", "layout")}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return DataConfig.parse(tree, origin=str(metrics)).read()
