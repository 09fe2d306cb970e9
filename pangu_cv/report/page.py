"""One self-contained HTML file: what a person reads after a run.

Nothing is fetched and nothing is run: style and pictures are inside, and the page's own policy forbids the rest, so it
can be mailed, archived and opened years later. All text is escaped, because file and class names come from anywhere.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pangu_cv.errors import PanguError
from pangu_cv.report.palette import Tone
from pangu_cv.report.picture import Picture, Row, encode
from pangu_cv.report.style import STYLE
from pangu_cv.report.svg import embed
from pangu_cv.report.text import escaped, readable

_MARKS: dict[Tone, str] = {"neutral": "i", "good": "✓", "warn": "!", "bad": "✕"}
_NUMBER = re.compile(r"([-+−]?\d[\d.,]*( ?%)?|–)?")
_COARSE_PX = 96  # below this, smoothing an enlarged picture hides what is in it
_ROW_HEIGHT_PX = 340  # keeps rows of tall pictures within a screen
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


@dataclass(frozen=True, slots=True)
class Tile:
    """One key figure, as text ready to read."""

    label: str
    value: str
    note: str = ""
    tone: Tone = "neutral"


@dataclass(frozen=True, slots=True)
class Plot:
    """An SVG and what it shows."""

    svg: str
    caption: str


class Page:
    """A report, built from top to bottom: every method appends."""

    def __init__(self, title: str, subtitle: str = "", *, footer: str = "", max_side_px: int = 420) -> None:
        self._title = title
        self._footer = footer
        self._max_side_px = max_side_px
        self._plots = 0
        self._parts = [f"<header><h1>{escaped(title)}</h1>{_optional('p', subtitle)}</header>"]

    def tiles(self, tiles: Sequence[Tile]) -> None:
        """Key figures in a row."""
        cells = (
            f'<div class="tile {t.tone}"><dt>{escaped(t.label)}</dt><dd class="value">{escaped(t.value)}</dd>'
            f"{_optional('dd', t.note, 'note')}</div>"
            for t in tiles
        )
        self._parts.append(f'<dl class="tiles">{"".join(cells)}</dl>')

    def verdict(self, text: str, tone: Tone = "neutral") -> None:
        """One sentence that matters, set apart; the tone shows as a mark too, not only as a colour."""
        mark = f'<span class="mark" aria-hidden="true">{_MARKS[tone]}</span>'
        self._parts.append(f'<div class="verdict {tone}" role="note">{mark}<p>{escaped(text)}</p></div>')

    def section(self, title: str, text: str = "") -> None:
        """A heading, and a paragraph beneath it."""
        self._parts.append(f"<h2>{escaped(title)}</h2>{_optional('p', text, 'muted')}")

    def note(self, text: str) -> None:
        """An aside: what could not be measured, and why."""
        self._parts.append(f'<p class="note-line">{escaped(text)}</p>')

    def table(self, headers: Sequence[str], rows: Sequence[Sequence[object]], caption: str = "") -> None:
        """Rows of one length; numbers, and texts that read as numbers, stand to the right."""
        if any(len(row) != len(headers) for row in rows):
            raise ValueError(f"every row of a table with {len(headers)} headers needs as many cells")
        right = [bool(rows) and all(_is_number(row[i]) for row in rows) for i in range(len(headers))]
        head = "".join(_cell("th", h, r) for h, r in zip(headers, right, strict=True))
        body = ("".join(_cell("td", c, r) for c, r in zip(row, right, strict=True)) for row in rows)
        lines = "".join(f"<tr>{cells}</tr>" for cells in body)
        self._parts.append(
            f'<div class="scroll"><table>{_optional("caption", caption)}<thead><tr>{head}</tr></thead>'
            f"<tbody>{lines}</tbody></table></div>"
        )

    def plot(self, svg: str, caption: str) -> None:
        """One drawing."""
        self.plots([Plot(svg, caption)])

    def plots(self, plots: Sequence[Plot]) -> None:
        """Drawings beside each other where the width allows."""
        self._parts.append(f'<div class="plots">{"".join(map(self._plot, plots))}</div>')

    def _plot(self, plot: Plot) -> str:
        self._plots += 1
        drawing = embed(plot.svg, prefix=f"plot{self._plots}-", alt=readable(plot.caption))
        return f'<figure class="plot">{drawing}<figcaption>{escaped(plot.caption)}</figcaption></figure>'

    def gallery(self, pictures: Sequence[Picture]) -> None:
        """Pictures in a grid, each with its caption."""
        figures = (
            f"<figure>{self._image(p)}<figcaption>{_dot(p.tone)}<b>{escaped(p.caption)}</b>"
            f"{_optional('span', p.note, 'note')}</figcaption></figure>"
            for p in pictures
        )
        self._parts.append(f'<div class="gallery">{"".join(figures)}</div>')

    def pairs(self, rows: Sequence[Row]) -> None:
        """Rows of several pictures beside each other, such as image, heat map and truth."""
        self._parts.extend(map(self._row, rows))

    def _row(self, row: Row) -> str:
        cells = "".join(
            f'<figure>{self._image(p)}<figcaption class="cell">{escaped(p.caption)}</figcaption></figure>'
            if p
            else "<div></div>"
            for p in row.pictures
        )
        note = f" · {escaped(row.note)}" if row.note else ""
        tallest = max((p.image_HW3.shape[0] / p.image_HW3.shape[1] for p in row.pictures if p), default=1.0)
        width_px = round(len(row.pictures) * _ROW_HEIGHT_PX / tallest)
        layout = f"grid-template-columns: repeat({len(row.pictures)}, 1fr); max-width: {width_px}px"
        return (
            f'<div class="row"><p class="title">{_dot(row.tone)}<b>{escaped(row.title)}</b>{note}</p>'
            f'<div class="cells" style="{layout}">{cells}</div></div>'
        )

    def _image(self, picture: Picture) -> str:
        encoded = encode(picture.image_HW3, max_side_px=self._max_side_px)
        coarse = ' class="coarse"' if max(encoded.width_px, encoded.height_px) < _COARSE_PX else ""
        size = f'width="{encoded.width_px}" height="{encoded.height_px}"'
        return f'<img{coarse} src="{encoded.uri}" {size} alt="{escaped(picture.caption)}">'

    def details(self, summary: str, code: str) -> None:
        """Folded text in a fixed-width font: the resolved recipe, figures as JSON."""
        self._parts.append(f"<details><summary>{escaped(summary)}</summary><pre>{escaped(code)}</pre></details>")

    def html(self) -> str:
        """The whole document."""
        body = "\n".join(self._parts)
        return (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
            f"<title>{escaped(self._title)}</title>\n<style>{STYLE}</style>\n</head>\n"
            f"<body><main>\n{body}\n{_optional('footer', self._footer)}</main></body>\n</html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the file whole or not at all, in UTF-8; folders on the way are made."""
        document = self.html().encode("utf-8")
        half = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            half.write_bytes(document)
            half.replace(path)
        except OSError as error:
            raise PanguError(f"{path}: the report cannot be written there: {error.strerror or error}") from error
        finally:
            with suppress(OSError):
                half.unlink()


def _optional(tag: str, text: str, name: str = "") -> str:
    if not text:
        return ""
    return f'<{tag} class="{name}">{escaped(text)}</{tag}>' if name else f"<{tag}>{escaped(text)}</{tag}>"


def _dot(tone: Tone) -> str:
    return "" if tone == "neutral" else f'<span class="dot {tone}" aria-hidden="true"></span>'


def _cell(tag: str, content: object, right: bool) -> str:
    return f'<{tag} class="number">{escaped(content)}</{tag}>' if right else f"<{tag}>{escaped(content)}</{tag}>"


def _is_number(cell: object) -> bool:
    return isinstance(cell, int | float) or _NUMBER.fullmatch(str(cell)) is not None
