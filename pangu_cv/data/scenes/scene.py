"""One power-line scene from one seed."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data.scenes.backdrop import paint_backdrop
from pangu_cv.data.scenes.boxes import find_boxes
from pangu_cv.data.scenes.cable import damper, tube
from pangu_cv.data.scenes.canvas import OVERSAMPLE, Canvas, Drawable
from pangu_cv.data.scenes.captions import caption_for
from pangu_cv.data.scenes.defects import DEFECT_KINDS, DefectKind, Placed, place_defect
from pangu_cv.data.scenes.insulator import Damage, InsulatorString, View, draw_string, view_of
from pangu_cv.data.scenes.light import Light, light_for
from pangu_cv.data.scenes.noise import Floats
from pangu_cv.data.scenes.plan import Plan, SceneConfig, draw_plan
from pangu_cv.data.scenes.pylon import draw_members, far_members, members
from pangu_cv.data.scenes.rigging import Rigging, rig
from pangu_cv.data.scenes.seeds import stream
from pangu_cv.data.scenes.sensor import expose

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Scene:
    """A rendered scene and all that is known about it.

    ``image_HW3`` is uint8 RGB; ``mask_HW`` is 255 on the defect's pixels (for a missing disc: the gap) and 0 elsewhere;
    ``boxes_xyxy`` is float32[K, 4] in pixels, the defect's box first if there is one, then 'insulator' and 'pylon';
    ``box_labels`` names them; ``label`` is the defect's kind or 'good'.
    """

    image_HW3: NDArray[np.uint8]
    mask_HW: NDArray[np.uint8]
    boxes_xyxy: NDArray[np.float32]
    box_labels: tuple[str, ...]
    caption: str
    label: str


@dataclass(frozen=True, slots=True)
class Hung:
    """What hangs on one arm, and those of its strings that the camera sees, with their views."""

    rigging: Rigging
    seen: tuple[tuple[InsulatorString, View], ...]


_DEFAULT = SceneConfig()


def render_scene(seed: int, *, defect: DefectKind | None = None, config: SceneConfig = _DEFAULT) -> Scene:
    """The scene of a seed (0 or more), byte for byte the same each time; a defect changes nothing else in it."""
    if defect is not None and defect not in DEFECT_KINDS:
        raise ValueError(f"defect is {defect!r}; allowed are {', '.join(DEFECT_KINDS)} and None")
    plan = draw_plan(seed, config)
    side_px = config.size_px * OVERSAMPLE
    backdrop = paint_backdrop(seed, plan, size_px=config.size_px)
    light = light_for(plan.camera, plan.weather, backdrop.ground_3)
    arms = _hang(plan, side_px)
    placed = Placed() if defect is None else _place(seed, defect, plan, arms[0], light, side_px)
    canvas = Canvas(backdrop.image, side_px=side_px)
    drawables = [*_steel(plan, light, side_px), *_lines(seed, plan, arms, light, placed, side_px), *placed.drawables]
    for drawable in sorted(drawables, key=lambda d: -d.depth_m):
        drawable.draw(canvas)
    image, mask = canvas.finish()
    views = [view for arm in arms for _, view in arm.seen]
    boxes, labels = find_boxes(plan, views, mask, defect, side_px=side_px)
    return Scene(
        image_HW3=expose(image, stream(seed, "sensor"), gain=backdrop.gain, grain=config.grain),
        mask_HW=mask,
        boxes_xyxy=boxes,
        box_labels=labels,
        caption=caption_for(plan, defect, placed.thing, stream(seed, "words")),
        label=defect or GOOD,
    )


def _hang(plan: Plan, side_px: int) -> list[Hung]:
    """What hangs on every arm; the arm the camera looks at comes first, with all its strings."""
    arms = [(level, side) for level in plan.pylon.levels_m for side in (1, -1)]
    arms.sort(key=lambda arm: (arm != (0.0, 1), arm))
    hung = []
    for arm, (level, side) in enumerate(arms):
        rigging = rig(plan.pylon, plan.line, level_m=level, side=side)
        views = [(string, view_of(string, plan.camera, side_px=side_px)) for string in rigging.strings]
        hung.append(Hung(rigging, tuple(pair for pair in views if arm == 0 or _touches(pair[1], side_px))))
    return hung


def _touches(view: View, side_px: int) -> bool:
    x0, y0, x1, y1 = view.box_xyxy
    return float(view.depth_N.min()) > 1.0 and x1 > 0 and y1 > 0 and x0 < side_px and y0 < side_px


def _place(seed: int, defect: DefectKind, plan: Plan, arm: Hung, light: Light, side_px: int) -> Placed:
    return place_defect(
        defect,
        stream(seed, "defect", extra=DEFECT_KINDS.index(defect)),
        plan=plan,
        rigging=arm.rigging,
        views=tuple(view for _, view in arm.seen),
        light=light,
        side_px=side_px,
    )


def _steel(plan: Plan, light: Light, side_px: int) -> list[Drawable]:
    colour, haze = np.array(plan.pylon.steel), plan.weather.horizon
    near = members(plan.pylon)
    drawn = draw_members(near, plan.camera, light, colour_3=colour, veil_3=haze, veil=0.02, side_px=side_px)
    for towards in (1, -1):
        shift = np.array([0.0, 0.0, towards * plan.line.span_m])
        veil = 1.0 - float(np.exp(-plan.line.span_m / plan.weather.haze_m)) * 0.8
        far = far_members(plan.pylon, shift_3=shift)
        drawn += draw_members(far, plan.camera, light, colour_3=colour, veil_3=haze, veil=veil, side_px=side_px)
    return drawn


def _lines(seed: int, plan: Plan, arms: list[Hung], light: Light, placed: Placed, side_px: int) -> list[Drawable]:
    drawables = []
    damper_m = float(stream(plan.place_seed, "strings").uniform(1.1, 1.8))
    for number, arm in enumerate(arms):
        for part in arm.rigging.tubes:
            if part.kind == "fitting" and not arm.seen:
                continue
            drawables += tube(
                part.path_K3, plan.camera, light, width_m=part.width_m, colour_3=part.colour_3, side_px=side_px,
                nearer_m=0.02 if part.kind == "fitting" else 0.0,
            )  # fmt: skip
            if number == 0 and part.kind == "conductor" and abs(part.path_K3[-1, 2] - part.path_K3[0, 2]) > 50:
                drawables += damper(_along(part.path_K3, damper_m), plan.camera, light, side_px=side_px)
        for index, (string, view) in enumerate(arm.seen):
            damage = placed.damage if number == 0 and index == placed.string else None
            drawables.append(_string(string, view, light, damage))
    return drawables


def _along(path_K3: Floats, distance_m: float) -> Floats:
    away = np.abs(path_K3[:, 2] - path_K3[0, 2])
    return np.array([np.interp(distance_m, away, path_K3[:, axis]) for axis in range(3)])


def _string(string: InsulatorString, view: View, light: Light, damage: Damage | None) -> Drawable:
    return Drawable(float(view.depth_N.mean()), lambda canvas: draw_string(canvas, string, view, light, damage))
