"""What a person reads after a run: one self-contained HTML page."""

from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.picture import Picture, Row

__all__ = ["Page", "Picture", "Plot", "Row", "Tile"]
