"""Figures in the page's dress, and their way into SVG.

The object API only: no pyplot, no open windows, no figure that outlives its function.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pangu_cv.errors import MissingExtraError
from pangu_cv.report.palette import LIGHT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SETTINGS: dict[str, Any] = {
    "svg.fonttype": "none",  # text stays text: small, searchable, in the page's own font
    "svg.hashsalt": "pangu_cv",  # ids depend on the drawing, not on chance
    "text.parse_math": False,  # a class may be called "$x"
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that layouts agree between machines
    "font.size": 9.5,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": LIGHT["line"],
    "axes.labelcolor": LIGHT["muted"],
    "axes.titlecolor": LIGHT["ink"],
    "axes.axisbelow": True,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": LIGHT["line"],
    "grid.linewidth": 0.8,
    "xtick.color": LIGHT["line"],
    "ytick.color": LIGHT["line"],
    "xtick.labelcolor": LIGHT["muted"],
    "ytick.labelcolor": LIGHT["muted"],
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": LIGHT["ink"],
    "legend.frameon": False,
    "legend.fontsize": 9,
}


class Canvas:
    """A figure with one axes; ``svg`` is filled when the block ends."""

    def __init__(self, figure: "Figure", axes: "Axes") -> None:
        self.figure = figure
        self.axes = axes
        self.svg = ""


@contextmanager
def canvas(*, width_in: float = 5.4, height_in: float = 3.7) -> Iterator[Canvas]:
    """An empty figure to draw on inside a ``with`` block, dressed for the page."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("report", "train", "matplotlib") from error

    with rc_context(_SETTINGS), warnings.catch_warnings():
        # The browser has glyphs that the font used for measuring lacks (Chinese class names).
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(width_in, height_in), layout="constrained")
        board = Canvas(figure, figure.add_subplot())
        yield board
        board.svg = _as_svg(figure)


def _as_svg(figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    markup = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return markup[markup.index("<svg") :]  # the document type names a file on the web
