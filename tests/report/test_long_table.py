import re
from pathlib import Path

from pangu_cv.features import Skipped
from pangu_cv.report.long_table import MOST_ROWS, some_of
from pangu_cv.report.page import Page
from pangu_cv.report.skipped import add_skipped


def left_out(count: int) -> str:
    page = Page("t")
    add_skipped(page, tuple(Skipped(Path(f"/d/{at}.png"), "truncated", "is cut") for at in range(count)))
    return page.html()


def test_of_very_many_images_the_first_are_shown_and_the_others_counted() -> None:
    html = left_out(MOST_ROWS + 3)
    assert len(re.findall(r"/d/\d+\.png", html)) == MOST_ROWS
    assert f"{MOST_ROWS + 3} image(s) could not be read" in html
    assert "3 more are not shown; metrics.json, where the run writes one, names all" in html


def test_as_many_as_are_shown_leave_none_out() -> None:
    html = left_out(MOST_ROWS)
    assert len(re.findall(r"/d/\d+\.png", html)) == MOST_ROWS
    assert "more are not shown" not in html


def test_names_of_a_large_group_are_cut_short() -> None:
    assert some_of(["a", None], 2) == "a, None"
    assert some_of(["a", "b", "c", "d"], 2) == "a, b and 2 more"
