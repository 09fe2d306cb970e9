"""Stage: a model checkpoint in, a certified bundle out."""

from pangu_cv.deploy.export import ExportResult, export
from pangu_cv.deploy.precisions import Made, Wanted

__all__ = ["ExportResult", "Made", "Wanted", "export"]
