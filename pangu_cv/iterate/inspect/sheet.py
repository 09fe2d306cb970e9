"""A contact sheet as one HTML file, the most urgent pictures first: what there is without FiftyOne."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.sample import Dataset
from pangu_cv.errors import ImageError
from pangu_cv.iterate.inspect.findings import Finding
from pangu_cv.iterate.inspect.out import DOUBTFUL
from pangu_cv.report.boxes import Drawn, draw_boxes, drawn_names, key_of
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.palette import CURVES, LIGHT
from pangu_cv.report.picture import Picture
from pangu_runtime.decode import DecodeSpec, decode

_MOST = 36  # pictures a section
_SIDE_PX = 320


def write_sheet(
    target: Path, findings: Sequence[Finding], dataset: Dataset, *, spec: DecodeSpec, title: str, features: str,
    notes: Sequence[str] = (),
) -> None:  # fmt: skip
    """Write the page: figures, then unreadable files, likely errors, doubts, duplicates, the flat view."""
    page = Page(title, f"{len(findings)} images, layout {dataset.layout}", max_side_px=_SIDE_PX)
    errors = sorted((one for one in findings if one.suspicion), key=lambda one: -one.suspicion)
    doubts = sorted((one for one in findings if (one.doubt or 0) >= DOUBTFUL), key=lambda one: -(one.doubt or 0))
    faults = [one for one in findings if one.faults]
    groups = _groups(findings)
    page.tiles(
        [
            Tile("Likely label errors", str(len(errors)), "", "warn" if errors else "good"),
            Tile("Doubtful answers", str(len(doubts)), f"doubt from {DOUBTFUL:.0%}"),
            Tile("Groups of like pictures", str(len(groups))),
            Tile("Unreadable", str(len(faults)), "", "bad" if faults else "good"),
        ]
    )
    boxed = sorted({box.label for one in findings for box in one.sample.boxes or ()})
    key = key_of(boxed, boxed)
    for note in (*dataset.notes, *notes, *([f"In the pictures {key}."] if key else [])):
        page.note(note)
    if faults:
        page.section("Files that cannot be read")
        page.table(["image", "why"], [(one.name, "; ".join(one.faults)) for one in faults])
    show = _Shower(spec, drawn_names(boxed))
    for heading, text, chosen, words in (
        ("Likely label errors", "The surest first. A label is suspected, not known, to be wrong.", errors, _suspicion),
        ("Doubts", "Where the answer was nearest to another one.", doubts, _doubt),
    ):
        if chosen:
            page.section(heading, text + (f" The first {_MOST} of {len(chosen)}." if len(chosen) > _MOST else ""))
            page.gallery([Picture(show(one), one.name, words(one)) for one in chosen[:_MOST]])
    if groups:
        page.section("Like pictures", "Equal files (duplicate) and pictures that look the same from afar (alike).")
        shown = [one for group in groups for one in group][:_MOST]
        page.gallery([Picture(show(one), one.name, f"{one.group}: {_told(one)}") for one in shown])
    if len(findings) > 1:
        page.section(
            "All images at a glance", f"Near each other means alike, by {features}; the two widest directions."
        )
        page.plot(_scatter(findings), "Every dot an image, coloured by its label")
    page.write(target)


def _groups(findings: Sequence[Finding]) -> list[list[Finding]]:
    found: dict[str, list[Finding]] = {}
    for one in findings:
        if one.group:
            found.setdefault(one.group, []).append(one)
    return list(found.values())


def _told(one: Finding) -> str:
    boxes = one.sample.boxes
    known = one.sample.label or ("" if boxes is None else f"{len(boxes)} boxes")
    return " · ".join(part for part in (known or "no label", one.answer and f"answered {one.answer}") if part)


def _suspicion(one: Finding) -> str:
    return f"{one.suspicion:.0%}: {one.why}"


def _doubt(one: Finding) -> str:
    return f"doubt {one.doubt:.0%} · {_told(one)}"


class _Shower:
    """Pictures as people see them: small, with their boxes; a cross for one that cannot be read."""

    def __init__(self, spec: DecodeSpec, names: Mapping[str, str]) -> None:
        self._spec, self._names = spec, names

    def __call__(self, one: Finding) -> NDArray[np.uint8]:
        try:
            image = decode(one.sample.path, spec=self._spec)
        except ImageError:
            cross = np.full((64, 64, 3), 127, np.uint8)
            line = np.eye(64, dtype=bool)
            cross[line | line[:, ::-1]] = (200, 0, 0)
            return cross
        if one.sample.boxes:
            image = draw_boxes(image, [Drawn(box.xyxy, self._names[box.label]) for box in one.sample.boxes])
        small = Image.fromarray(image)
        small.thumbnail((_SIDE_PX, _SIDE_PX))
        return np.asarray(small)


def _scatter(findings: Sequence[Finding]) -> str:
    """An SVG of the flat view; of very many images evenly chosen ones."""
    step = max(1, len(findings) // 4000)
    labels = sorted({one.sample.label or "" for one in findings})
    colours = {label: LIGHT[CURVES[at % len(CURVES)]] for at, label in enumerate(labels)}
    dots = "".join(
        f'<circle cx="{200 + 190 * one.xy[0]:.1f}" cy="{150 - 140 * one.xy[1]:.1f}" r="2.2" '
        f'style="fill: {colours[one.sample.label or ""]}; fill-opacity: 0.7"/>'
        for one in findings[::step]
    )
    return f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 400 300" width="400" height="300">{dots}</svg>'
