"""The model files of a bundle: full precision, made faster where that is free, and the other precisions asked for."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx

from pangu_cv.data.sample import Sample
from pangu_cv.deploy.control import Control, Loss
from pangu_cv.deploy.decider import GraphDecider, Kind, Pixels
from pangu_cv.deploy.fallback import Int8, int8_within
from pangu_cv.deploy.golden_images import SIZES_HW, golden_image
from pangu_cv.deploy.half import halved
from pangu_cv.deploy.onnx_graph import stripped
from pangu_cv.deploy.optimise import Optimised, optimise
from pangu_cv.deploy.quantise import quantiser
from pangu_cv.deploy.ranges import one_tile
from pangu_cv.deploy.spread import spread
from pangu_cv.deploy.timing import Timing, by_operator, in_turn
from pangu_cv.errors import CertificateError, ImageError, PrecisionError
from pangu_cv.features import Progress, read_ahead
from pangu_cv.tasks import tiling_of
from pangu_cv.tasks.anomaly import AnomalyModel
from pangu_cv.tasks.saved import SavedModel
from pangu_runtime.bundle import PRECISIONS, Precision, in_precision
from pangu_runtime.decode import decode

CALIBRATION_IMAGES = 32
_SEEN_CLOSELY = 8  # images on which every layer's error is seen
_FEWEST_APART = 16  # images, from which those that ranges are taken of and those of the control are others


@dataclass(frozen=True)
class Wanted:
    """Precisions besides fp32, how much they may lose, and images for it; ``source`` says in words which.

    ``max_loss`` is in points: of the task's figure where the samples are labelled, else of decisions that differ. None
    is 0.3 for anomaly detection, 0.5 for the others.
    """

    precisions: tuple[Precision, ...] = ()
    max_loss: float | None = None
    samples: tuple[Sample, ...] = ()
    source: str = "the images it is certified on"

    def points(self, saved: SavedModel) -> float:
        """The limit."""
        default = 0.3 if isinstance(saved.model, AnomalyModel) else 0.5
        return default if self.max_loss is None else self.max_loss


@dataclass(frozen=True)
class Made:
    """What became of each precision: size, time, loss; and how int8 was come by."""

    optimised: Optimised
    bytes: dict[str, int]
    timings: dict[str, Timing]
    losses: dict[Precision, Loss] = field(default_factory=dict)
    int8: Int8 | None = None
    operators: dict[str, dict[str, float]] = field(default_factory=dict)
    calibrated_on: int = 0
    controlled_on: int = 0
    are_apart: bool = True


def make(
    saved: SavedModel, folder: Path, wanted: Wanted, fallback: Sequence[Path], *, progress: Progress | None = None
) -> Made:
    """Turn ``model.onnx``, fresh from the exporter, into the model files of the bundle in ``folder``.

    ``fallback`` are images to use where none are wanted. Raises CertificateError where a precision loses too much.
    """
    kind = Kind(saved.model.config.kind, tiling_of(saved.model))
    model = folder / "model.onnx"
    plain = onnx.load(model)
    optimised = optimise(plain, [golden_image(at, *size) for at, size in enumerate(SIZES_HW)], kind)
    chosen = stripped(optimised.chosen, keeps_shapes=True)
    chosen_bytes = chosen.SerializeToString()
    sizes = {"plain": model.stat().st_size, "fp32": len(chosen_bytes)}
    model.write_bytes(chosen_bytes)
    others: list[Precision] = [one for one in PRECISIONS if one in wanted.precisions and one != "fp32"]
    if not others:
        return Made(optimised, sizes, optimised.timings)
    samples = wanted.samples or tuple(Sample(path) for path in fallback)
    seen, control_samples = _shared_out(samples)
    control = Control(saved, control_samples, GraphDecider(model, kind))
    images = _read([one.path for one in seen], saved)
    int8, limit = None, wanted.points(saved)
    losses: dict[Precision, Loss] = {}
    for one in others:
        path = folder / in_precision("model.onnx", one)
        if one == "fp16":
            path.write_bytes(halved(optimised.chosen, kind.task).SerializeToString())
            losses[one] = control.loss(GraphDecider(path, kind))
            _require(losses[one], limit)
        else:
            quantised = quantiser(optimised.fused, kind, images)
            few = spread(images, _SEEN_CLOSELY)
            int8 = int8_within(limit, quantised, kind, control, few, path, progress=progress)
            losses[one] = int8.loss
        sizes[one] = path.stat().st_size
    made: tuple[Precision, ...] = ("fp32", *others)
    paths = {str(one): folder / in_precision("model.onnx", one) for one in made}
    return Made(
        optimised,
        sizes,
        _timed(plain, paths, one_tile(images[0], kind), kind),
        losses,
        int8,
        {name: by_operator(path, one_tile(images[0], kind), kind) for name, path in paths.items()},
        len(images),
        control.images,
        are_apart=len(samples) >= _FEWEST_APART,
    )


def _shared_out(samples: Sequence[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Images that ranges are taken of, and those of the control: others, where there are enough of them."""
    if len(samples) < _FEWEST_APART:
        return list(samples), list(samples)
    seen = spread(samples, min(CALIBRATION_IMAGES, len(samples) // 4))
    taken = {one.path for one in seen}
    return seen, [one for one in samples if one.path not in taken]


def _read(paths: Sequence[Path], saved: SavedModel) -> list[Pixels]:
    spec = saved.provenance.decode
    images = [one for one in read_ahead(paths, lambda path: decode(path, spec=spec)) if not isinstance(one, ImageError)]
    if not images:
        raise CertificateError("none of the images to calibrate int8 on can be read; give --calibrate a folder")
    return images


def _require(loss: Loss, limit: float) -> None:
    if not loss.within(limit):
        raise PrecisionError(
            "fp16",
            f"fp16 loses {loss.points:.2f} points on {loss.images} images, where {loss.flips} decisions differ; the "
            f"limit is {limit:g} points",
            "allow more (--max-loss), or leave fp16 out",
        )


def _timed(plain: onnx.ModelProto, paths: Mapping[str, Path], image: Pixels, kind: Kind) -> dict[str, Timing]:
    with tempfile.TemporaryDirectory() as folder:
        exported = Path(folder) / "plain.onnx"
        exported.write_bytes(plain.SerializeToString())
        return in_turn({"plain": exported, **paths}, image, kind)
