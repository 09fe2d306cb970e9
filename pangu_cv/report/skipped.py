"""What a run left out."""

from pangu_cv.features import Skipped
from pangu_cv.report.long_table import long_table
from pangu_cv.report.page import Page


def add_skipped(page: Page, skipped: tuple[Skipped, ...]) -> None:
    """A table of the images that could not be read, where there are any; of very many the first."""
    if skipped:
        page.section("Left out", f"{len(skipped)} image(s) could not be read and count nowhere above.")
        whole = "metrics.json, where the run writes one,"
        long_table(page, ["image", "why"], skipped, lambda one: (one.path, one.message), whole=whole)
