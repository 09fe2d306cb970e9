"""One file per kind of prediction: features, head, decision tail; here the union of them."""

from typing import Annotated

from pydantic import Field

from pangu_cv.tasks.anomaly import AnomalyConfig, AnomalyModel
from pangu_cv.tasks.classify import ClassifyConfig, ClassifyModel
from pangu_cv.tasks.detect import DetectConfig, DetectModel
from pangu_cv.tasks.segment import SegmentConfig, SegmentModel

TaskConfig = Annotated[ClassifyConfig | AnomalyConfig | SegmentConfig | DetectConfig, Field(discriminator="kind")]
TaskModel = ClassifyModel | AnomalyModel | SegmentModel | DetectModel
