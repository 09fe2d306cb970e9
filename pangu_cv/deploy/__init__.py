"""Stage: a model checkpoint in, a certified bundle out."""

from pangu_cv.deploy.export import ExportResult, export

__all__ = ["ExportResult", "export"]
