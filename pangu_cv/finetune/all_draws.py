"""What a run says of all its draws: figures over them at the head of its report, a row for each at the end."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

from pangu_cv.finetune.auto import Choice, told_way
from pangu_cv.metrics.interval import Interval
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.text import percent, percent_range

_SAME = (
    "every draw is of the same images: intervals over the draws tell how trainings differ, not how other images would; "
    "each draw's own are over the images"
)


def headline(page: Page, metrics: Mapping[str, Any], names: Mapping[str, str]) -> None:
    """Open a report: figures over several draws, and the notes of ``metrics``.

    ``names`` are titles of the figures by their keys in ``metrics``.
    """
    draws = metrics["draws"]
    if len(draws) > 1:
        page.tiles([_tile(f"{title}, all draws", metrics[key]) for key, title in names.items()])
        page.note(
            f"So much over {len(draws)} draws of labelled images. What follows, as far as 'All draws', is of the first "
            f"(seed {draws[0]['seed']})."
        )
    for note in metrics["notes"]:
        page.note(note)


def _tile(title: str, figure: Mapping[str, Any] | None) -> Tile:
    if figure is None:
        return Tile(title, percent(None))
    over = Interval(**figure)
    ends = f"; 95 %: {percent_range(over)}" if over.low not in (None, over.high) else ""
    return Tile(title, percent(over.mean), f"mean of {over.n}{ends}")


def every_draw(
    page: Page,
    seeds: Sequence[int],
    *,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    choices: Sequence[Choice | None],
) -> None:
    """A row for each draw where there are several, with the way that ``auto`` took for it."""
    if len(seeds) < 2:
        return
    page.section("All draws", "The same recipe on other labelled images. The pictures above are of the first draw.")
    columns, lines = ["seed", *columns], [(seed, *row) for seed, row in zip(seeds, rows, strict=True)]
    if any(choices):
        columns = [*columns, "way"]
        lines = [(*line, told_way(one.way) if one else "") for line, one in zip(lines, choices, strict=True)]
    page.table(columns, lines)


def same_images(draws: Iterable[tuple[Iterable[Hashable], Iterable[Hashable]]]) -> list[str]:
    """A note where several draws, each the images learnt from and those measured on, are the same ones."""
    found = [(frozenset(support), frozenset(measured)) for support, measured in draws]
    return [_SAME] if len(found) > 1 and len(set(found)) == 1 else []
