"""What looks at the images: a checkpoint, a bundle, or no more than a backbone or the pixels from afar.

Shapes: H×W pixels, D features.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.near_duplicates import thumbnail
from pangu_cv.errors import WeightsError
from pangu_cv.iterate.decoding import given_spec, require_range
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec
from pangu_runtime.predictor import Prediction, Predictor, unpack

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Answer:
    """A decision (None where nothing decides) and features float32[D] (None where the picture shows nothing)."""

    prediction: Prediction | None
    features_D: NDArray[np.float32] | None


class Looker(Protocol):
    """Anything that answers for one image after another.

    ``groups`` are the sizes of the parts of its features, ``features`` says whose they are, ``fingerprint`` is a digest
    of all that answers depend on; ``task`` is None where nothing decides.
    """

    task: str | None
    spec: DecodeSpec
    groups: tuple[int, ...]
    features: str
    fingerprint: str

    def answer(self, image_HW3: Pixels, source: str) -> Answer:
        """What it makes of an image."""
        ...


class FromAfar:
    """No model: 24 x 24 grey levels tell pictures apart."""

    task: str | None = None
    groups: tuple[int, ...] = (24 * 24,)
    features = "the pictures' brightness from afar"
    fingerprint = "from-afar-1"

    def __init__(self, spec: DecodeSpec = DEFAULT_SPEC) -> None:
        self.spec = spec
        self.fingerprint = _with_spec(self.fingerprint, spec)

    def answer(self, image_HW3: Pixels, source: str) -> Answer:
        """The thumbnail alone."""
        return Answer(None, thumbnail(image_HW3))


class Network:
    """The pooled features of a backbone, as the tasks for whole images read them."""

    task: str | None = None

    def __init__(self, backbone: Any, preprocess: Any, *, features: str, spec: DecodeSpec) -> None:
        from pangu_cv.tasks.viewed import pooled

        self._backbone, self._preprocess, self._pooled = backbone, preprocess, pooled
        self.features, self.spec = features, spec
        self.fingerprint = _with_spec(str(backbone.fingerprint), spec)
        self.groups = tuple(part.shape[1] for part in pooled(backbone.probe(preprocess.config.image_px)))

    def answer(self, image_HW3: Pixels, source: str) -> Answer:
        """Features without a decision."""
        import torch

        with torch.inference_mode():
            parts = self._pooled(self._backbone(self._preprocess(torch.from_numpy(image_HW3)[None])))
            return Answer(None, torch.cat(parts, 1)[0].numpy())


class Deciding:
    """A decider's answers beside the features of a network (a bundle shows none of its own)."""

    def __init__(self, decider: Any, *, task: str, classes: tuple[str, ...], fingerprint: str, eyes: Looker) -> None:
        self._decider, self._eyes, self._classes, self._task = decider, eyes, classes, task
        self.task: str | None = task
        self.features, self.groups, self.spec = eyes.features, eyes.groups, eyes.spec
        self.fingerprint = fingerprint

    def answer(self, image_HW3: Pixels, source: str) -> Answer:
        """Both."""
        outputs = self._decider.run(image_HW3[None])
        prediction = unpack([source], outputs, task=self._task, classes=self._classes)[0]
        return Answer(prediction, self._eyes.answer(image_HW3, source).features_D)


def _with_spec(fingerprint: str, spec: DecodeSpec) -> str:
    return fingerprint if spec == DEFAULT_SPEC else f"{fingerprint} {spec}"


def open_looker(model: Path | None, *, range_16bit: tuple[int, int] | None = None) -> Looker:
    """The looker for ``--model``: a bundle, a run or a checkpoint; None: the default backbone, or pixels from afar.

    Images are decoded as the model decodes them, without one by ``range_16bit``. Raises BundleError, CheckpointError,
    and SettingsError for another range than the model's.
    """
    if model is None:
        return _backbone(given_spec(range_16bit))
    looker = _deciding(model)
    require_range(model, looker.spec, range_16bit)
    return looker


def _deciding(model: Path) -> Looker:
    if (model / "bundle.json").is_file():
        predictor = Predictor(model)
        bundle = predictor.bundle
        return Deciding(
            predictor,
            task=bundle.task,
            classes=bundle.classes,
            fingerprint=_sum(model / "SHA256SUMS"),
            eyes=_backbone(bundle.decode),
        )
    return _checkpoint(model)


def _checkpoint(model_or_run: Path) -> Looker:
    from pangu_cv.evaluate import TorchDecider
    from pangu_cv.tasks.saved import load_model

    folder = folder_of(model_or_run)
    saved = load_model(folder)
    model, spec = saved.model, saved.provenance.decode
    eyes = Network(model.backbone, model.preprocess, features="the model's own features", spec=spec)
    return Deciding(
        TorchDecider(model),
        task=model.config.kind,
        classes=tuple(getattr(model, "classes", ())),
        fingerprint=_sum(*sorted(path for path in folder.iterdir() if path.is_file())),
        eyes=eyes,
    )


def _backbone(spec: DecodeSpec) -> Looker:
    """The default backbone where torch and its weights are there."""
    try:
        from pangu_cv.models.backbone import BackboneConfig
        from pangu_cv.models.preprocess import PreprocessConfig

        backbone = BackboneConfig().build()
        preprocess = PreprocessConfig().build(mean=backbone.mean, std=backbone.std)
        return Network(backbone, preprocess, features=f"features of {backbone.config.name}", spec=spec)
    except (ImportError, WeightsError):
        return FromAfar(spec)


def _sum(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
