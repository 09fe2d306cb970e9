"""How strings and conductors are fixed to an arm: hanging singly, in pairs, as a V, or pulling in line."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pangu_cv.data.scenes.cable import ALUMINIUM, FITTING, GALVANISED, jumper, span
from pangu_cv.data.scenes.glaze import Glaze
from pangu_cv.data.scenes.insulator import InsulatorString
from pangu_cv.data.scenes.noise import Floats
from pangu_cv.data.scenes.pylon import Pylon

Arrangement = Literal["suspension", "double_suspension", "v_string", "strain", "double_strain"]


@dataclass(frozen=True, slots=True)
class Line:
    """What all arms of a line have in common; lengths in metres."""

    arrangement: Arrangement
    glaze: Glaze
    units: int
    spacing_m: float
    bundle: int
    span_m: float
    sag_m: float
    droop_deg: float
    grime: float

    @property
    def string_m(self) -> float:
        """Length of a string."""
        return self.units * self.spacing_m


@dataclass(frozen=True, slots=True)
class Tube:
    """A cable or a fitting along a path float[K, 3]; ``kind`` tells conductors from fittings."""

    path_K3: Floats
    width_m: float
    colour_3: Floats
    kind: Literal["conductor", "fitting"]


@dataclass(frozen=True, slots=True)
class Rigging:
    """Everything that hangs on one arm."""

    strings: tuple[InsulatorString, ...]
    tubes: tuple[Tube, ...]


def rig(pylon: Pylon, line: Line, *, level_m: float, side: int) -> Rigging:
    """The strings, fittings and conductors of one arm."""
    tip = pylon.tip(level_m, side)
    if line.arrangement in ("strain", "double_strain"):
        return _strain(tip, line)
    if line.arrangement == "v_string":
        return _v_string(tip, line, side)
    return _suspension(tip, line)


def _suspension(tip_3: Floats, line: Line) -> Rigging:
    half = 0.24 if line.arrangement == "double_suspension" else 0.0
    top, bottom = tip_3 - (0, 0.24, 0), tip_3 - (0, 0.30 + line.string_m, 0)
    offsets = [np.array([half, 0, 0]), np.array([-half, 0, 0])] if half else [np.zeros(3)]
    strings = tuple(_string(top + o - (0, 0.06, 0), bottom + o, line) for o in offsets)
    links = [_bar(top + o, top + o - (0, 0.07, 0), 0.05) for o in offsets]
    clamp = bottom - (0, 0.24, 0)
    tubes = [*links, _bar(tip_3 - (0, -0.05, 0), top, 0.05), _bar(bottom - (0, 0.05, 0), clamp, 0.05)]
    if half:
        reach = np.array([half + 0.06, 0, 0])
        tubes += [
            _bar(top - reach, top + reach, 0.09),
            _bar(bottom - reach - (0, 0.05, 0), bottom + reach - (0, 0.05, 0), 0.09),
        ]
    tubes += [_bar(bottom - (0, 0.07, 0) + o, bottom + o, 0.05) for o in offsets]
    return Rigging(strings, (*tubes, *_carried(clamp, line)))


def _v_string(tip_3: Floats, line: Line, side: int) -> Rigging:
    lean = np.radians(40.0)
    reach = line.string_m + 0.36
    foot = tip_3 - (side * reach * np.sin(lean), reach * np.cos(lean), 0)
    inner = tip_3 - (side * 2 * reach * np.sin(lean), 0, 0)
    strings, tubes = [], []
    for anchor in (tip_3, inner):
        along = (foot - anchor) / reach
        start, end = anchor + 0.22 * along, anchor + (0.22 + line.string_m) * along
        strings.append(_string(start, end, line))
        tubes += [_bar(anchor, start, 0.05), _bar(end, foot, 0.05)]
    plate = np.array((0.16, 0, 0))
    tubes.append(_bar(foot - plate, foot + plate, 0.12))
    clamp = foot - (0, 0.18, 0)
    return Rigging(tuple(strings), (*tubes, _bar(foot, clamp, 0.05), *_carried(clamp, line)))


def _strain(tip_3: Floats, line: Line) -> Rigging:
    half = 0.24 if line.arrangement == "double_strain" else 0.0
    offsets = [np.array([half, 0, 0]), np.array([-half, 0, 0])] if half else [np.zeros(3)]
    strings: list[InsulatorString] = []
    tubes: list[Tube] = []
    dead_ends = []
    for towards in (1, -1):
        droop = np.radians(line.droop_deg)
        along = np.array([0.0, -np.sin(droop), towards * np.cos(droop)])
        start = tip_3 + 0.30 * along
        end = start + line.string_m * along
        grip, mouth = end + 0.16 * along, end + 0.70 * along
        strings += [_string(start + o, end + o, line) for o in offsets]
        tubes += [_bar(tip_3, start, 0.05), _bar(end, grip, 0.05), _bar(grip, mouth, 0.062)]
        if half:
            reach = np.array([half + 0.06, 0, 0])
            tubes += [_bar(p - reach, p + reach, 0.09) for p in (start - 0.02 * along, end + 0.08 * along)]
            tubes += [_bar(end + o, end + o + 0.08 * along, 0.05) for o in offsets]
        path = span(mouth, towards=towards, length_m=line.span_m, sag_m=line.sag_m)
        tubes.append(Tube(path, 0.034, ALUMINIUM, "conductor"))
        dead_ends.append(mouth - 0.1 * along)
    loop = jumper(dead_ends[0], dead_ends[1], drop_m=0.9 + 0.35 * line.string_m)
    return Rigging(tuple(strings), (*tubes, Tube(loop, 0.034, ALUMINIUM, "conductor")))


def _carried(clamp_3: Floats, line: Line) -> list[Tube]:
    tubes = []
    offsets = [np.array([x, 0, 0]) for x in ((0.0,) if line.bundle == 1 else (-0.2, 0.2))]
    if line.bundle > 1:
        tubes.append(_bar(clamp_3 + offsets[0] + (0, 0.04, 0), clamp_3 + offsets[1] + (0, 0.04, 0), 0.08))
    for offset in offsets:
        at = clamp_3 + offset
        for towards in (1, -1):
            path = span(at, towards=towards, length_m=line.span_m, sag_m=line.sag_m)
            tubes.append(Tube(path, 0.034, ALUMINIUM, "conductor"))
            armour = np.stack([at, path[np.searchsorted(np.abs(path[:, 2] - at[2]), 0.9)]])
            tubes.append(Tube(armour, 0.046, GALVANISED, "fitting"))
        boat = np.array((0, 0, 0.16))
        tubes.append(_bar(at - boat, at + boat, 0.095))
    return tubes


def _string(start_3: Floats, end_3: Floats, line: Line) -> InsulatorString:
    return InsulatorString(start_3, end_3, line.units, line.glaze, line.grime)


def _bar(start_3: Floats, end_3: Floats, width_m: float) -> Tube:
    return Tube(np.array((start_3, end_3)), width_m, FITTING, "fitting")
