"""One file per kind of prediction: features, head, decision tail; here the union of them."""

from typing import Annotated

from pydantic import Field

from pangu_cv.tasks.anomaly import AnomalyConfig, AnomalyModel
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel
from pangu_cv.tasks.detect import DetectConfig, DetectModel
from pangu_cv.tasks.multilabel import MultilabelConfig, MultilabelModel
from pangu_cv.tasks.segment import SegmentConfig, SegmentModel
from pangu_cv.tasks.tile import TileConfig
from pangu_runtime.tiles import Tiling

TaskConfig = Annotated[
    ClassifyConfig | MultilabelConfig | AnomalyConfig | SegmentConfig | DetectConfig, Field(discriminator="kind")
]
TaskModel = ClassifyModel | MultilabelModel | AnomalyModel | SegmentModel | DetectModel


def tiling_of(model: TaskModel) -> Tiling | None:
    """How a model wants large images cut, None where it takes them whole."""
    tile: TileConfig | None = getattr(model.config, "tile", None)
    return None if tile is None else Tiling(tile.px, tile.overlap)
