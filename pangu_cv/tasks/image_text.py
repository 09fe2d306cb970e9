"""Images and sentences in one space: a pretrained backbone, its projection, and the text tower it learnt towards."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from pangu_cv.errors import CheckpointError
from pangu_cv.features import digest
from pangu_cv.models import checkpoint
from pangu_cv.models.backbone import Backbone, BackboneConfig
from pangu_cv.models.checkpoint_folder import last_of
from pangu_cv.models.preprocess import PreprocessConfig
from pangu_cv.models.text_tower import embed_texts
from pangu_runtime.decode import DEFAULT_SPEC, DecodeSpec


class ImageText(nn.Module):
    """Unit vectors float32[N,E] for images and for texts; their products are comparable within one model.

    ``decode_spec`` is how the images that it learnt from became pixels, ``template`` how their labels became texts.
    """

    def __init__(
        self,
        backbone: Backbone,
        to_text: nn.Linear,
        *,
        scale: float,
        tower: str,
        image_px: int,
        decode_spec: DecodeSpec = DEFAULT_SPEC,
        template: str | None = None,
    ) -> None:
        super().__init__()
        self.decode_spec, self.template = decode_spec, template
        self.backbone, self.to_text, self.scale, self.tower = backbone, to_text, scale, tower
        self.preprocess = PreprocessConfig(image_px=image_px).build(mean=backbone.mean, std=backbone.std)
        self.eval()

    @classmethod
    def load(cls, folder: Path, *, image_px: int = 224) -> Self:
        """From a checkpoint that was pretrained with texts; raises CheckpointError for another one."""
        folder = last_of(folder)
        stored = checkpoint.load(folder)
        if "to_text" not in stored.components:
            raise CheckpointError(
                f"{folder}: has learnt no texts; pretrain with text.tower=minilm and captions or labels to search"
            )
        try:
            manifest = stored.manifest
            levels = tuple(int(level) for level in manifest["levels"])
            backbone = BackboneConfig(
                name=str(manifest["backbone"]), weights=str(folder), levels=levels, arguments=manifest["arguments"]
            ).build()
            weight = stored.components["to_text"]["weight"]
            to_text = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
            to_text.load_state_dict({"weight": weight})
            scale = float(stored.components["to_text"]["log_scale"].clamp(max=4.6).exp())
            text, spec = manifest["text"], DecodeSpec.from_json(manifest["decode"])
            return cls(
                backbone,
                to_text,
                scale=scale,
                tower=str(text["tower"]),
                image_px=image_px,
                decode_spec=spec,
                template=text["template"],
            )
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            raise CheckpointError(f"{folder}: malformed ({type(error).__name__}: {error})") from None

    @property
    def fingerprint(self) -> str:
        """What cached vectors depend on."""
        weight = self.to_text.weight.detach().sum().item()
        return digest("image-text-1", self.backbone.fingerprint, self.preprocess.config.model_dump(), weight)

    def prepare(self, image_1HW3: Tensor) -> Tensor:
        """Raw pixels to the network's input."""
        prepared: Tensor = self.preprocess(image_1HW3)
        return prepared

    def embed(self, prepared_B3SS: Tensor, view: str) -> Tensor:
        """Unit vectors of images; there is one view."""
        assert view == "identity"
        return nn.functional.normalize(self.to_text(self.backbone(prepared_B3SS).vector_BD), dim=1)

    def texts(self, sentences: Sequence[str]) -> Tensor:
        """Unit vectors of sentences."""
        return nn.functional.normalize(embed_texts(self.tower, sentences), dim=1)

    def classify(self, images_NE: Tensor, texts_CE: Tensor) -> Tensor:
        """Zero-shot probabilities float32[N,C]: softmax of scaled products, as in training."""
        return (self.scale * images_NE @ texts_CE.T).softmax(1)
