"""Tables of what may be any number: a browser does not open a page of millions of rows."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pangu_cv.report.page import Page

Item = TypeVar("Item")
MOST_ROWS = 200


def long_table(
    page: Page, headers: Sequence[str], items: Sequence[Item], row: Callable[[Item], Sequence[object]], *, whole: str
) -> None:
    """The rows of the first ``MOST_ROWS`` items; of more, how many are left out, and ``whole``: what names all."""
    page.table(headers, [row(item) for item in items[:MOST_ROWS]])
    if len(items) > MOST_ROWS:
        page.note(f"{len(items) - MOST_ROWS} more are not shown; {whole} names all")


def some_of(names: Sequence[object], most: int = 20) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(map(str, names[:most])) + more
