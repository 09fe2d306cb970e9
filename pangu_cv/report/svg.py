"""An SVG made fit to stand inside a page beside others.

Drawings from different places reuse ids (``figure_1``), carry style sheets that would leak into the page, and could
carry scripts. Embedding keeps only shapes and text, gives ids a prefix of their own, and turns the palette's colours
into the page's variables so that the drawing follows light and dark.
"""

import re
from collections.abc import Iterator
from typing import Final
from xml.etree import ElementTree as ET

from pangu_cv.report.palette import LIGHT

_SHAPES: Final = {"path", "rect", "line", "circle", "ellipse", "polyline", "polygon", "text", "tspan"}
_DRAWING: Final = _SHAPES | {"svg", "g", "defs", "use", "clipPath", "title", "desc"}
_XLINK: Final = "{http://www.w3.org/1999/xlink}href"
_COLOURS: Final = {value: f"var(--{name}, {value})" for name, value in LIGHT.items()}
_COLOUR: Final = re.compile("|".join(_COLOURS))


def embed(svg: str, *, prefix: str, alt: str) -> str:
    """Markup of ``svg`` for use inside HTML; ``prefix`` must be unique on the page, ``alt`` says what is to be seen."""
    root = ET.fromstring(svg)
    _keep_drawing(root)
    for element in root.iter():
        _clean(element, prefix)
    root.set("role", "img")
    root.set("aria-label", alt)
    # What the dropped style sheet of matplotlib said for every element.
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    return ET.tostring(root, encoding="unicode")


def _keep_drawing(parent: ET.Element) -> None:
    for child in list(parent):
        if _local(child.tag) in _DRAWING:
            _keep_drawing(child)
        else:
            parent.remove(child)


def _clean(element: ET.Element, prefix: str) -> None:
    element.tag = _local(element.tag)
    kept = dict(_attributes(element, prefix))
    element.attrib.clear()
    element.attrib.update(kept)


def _attributes(element: ET.Element, prefix: str) -> Iterator[tuple[str, str]]:
    for name, value in element.attrib.items():
        if name in ("href", _XLINK):
            if value.startswith("#"):
                yield "href", f"#{prefix}{value[1:]}"
        elif name == "id":
            yield name, prefix + value
        elif not name.startswith(("{", "on")) and not _reaches_out(value):
            inside = value.replace("url(#", f"url(#{prefix}")
            yield name, _COLOUR.sub(lambda hit: _COLOURS[hit[0]], inside) if name == "style" else inside


def _reaches_out(value: str) -> bool:
    return re.search(r"url\((?!#)|javascript:|@import", value, re.IGNORECASE) is not None


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
