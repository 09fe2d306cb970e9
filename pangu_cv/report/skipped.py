"""What a run left out."""

from pangu_cv.features import Skipped
from pangu_cv.report.page import Page


def add_skipped(page: Page, skipped: tuple[Skipped, ...]) -> None:
    """A table of the images that could not be read, where there are any."""
    if skipped:
        page.section("Left out", f"{len(skipped)} image(s) could not be read and count nowhere above.")
        page.table(["image", "why"], [(s.path, s.message) for s in skipped])
