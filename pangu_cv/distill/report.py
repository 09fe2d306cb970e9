"""The page a person reads after a run: what was asked and what came out, what else could be had, how it was learnt.

Shapes: B images, D channels, h×w a grid.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pangu_cv.data.config import dataset_title
from pangu_cv.distill.pupil import Pupil, resized
from pangu_cv.distill.recipe import DistillRecipe
from pangu_cv.distill.search import Candidate, front
from pangu_cv.distill.teaching import Lesson
from pangu_cv.features import Skipped
from pangu_cv.models.training import History
from pangu_cv.report.canvas import canvas
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.palette import LIGHT
from pangu_cv.report.picture import Picture, Row
from pangu_cv.report.plots import logarithmic
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.training import training_curves
from pangu_cv.runs import Run

_SHOWN = 6


def write_report(
    run: Run,
    recipe: DistillRecipe,
    metrics: dict[str, Any],
    lesson: Lesson,
    pupil: Pupil,
    history: History,
    candidates: Sequence[Candidate],
    skipped: Sequence[Skipped],
) -> None:
    """Write ``report.html``."""
    network, student, teacher = metrics["network"], metrics["student"], metrics["teacher"]
    page = Page(
        f"A smaller model, taught on {dataset_title(recipe.data.path)}",
        f"{network['name']}: {metrics['shape'] or str(network['image_px']) + ' px'}",
    )
    same = metrics["agreement"]["same"]
    page.verdict(_verdict(metrics), "good" if metrics["within"] else "bad")
    page.tiles(
        [
            Tile("latency", f"{student['ms']:.1f} ms", f"{metrics['ratio']:.0%} of the teacher's {teacher['ms']:.1f}"),
            Tile("size", f"{student['size_mb']:.1f} MB", f"the teacher's {teacher['size_mb']:.1f}"),
            Tile("decides alike", f"{same:.1%}", f"of {metrics['agreement']['images']} images held out"),
            Tile("taught", f"{metrics['steps']} steps", f"{metrics['seconds']:.0f} s on {metrics['images']} images"),
        ]
    )
    if candidates:
        _candidates(page, candidates, metrics)
    _held_out(page, metrics["held_out_loss"])
    training_curves(page, history.losses, seconds=history.seconds)
    _pictures(page, lesson, pupil)
    add_skipped(page, tuple(skipped))
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)


def _verdict(metrics: dict[str, Any]) -> str:
    same = f"decides {metrics['agreement']['same']:.1%} of the images held out as its teacher does"
    times = f"Times are of {metrics['timed']}."
    if metrics["within"]:
        return f"The student uses {metrics['use']:.0%} of the budget, and {same}. {times}"
    return f"The student uses {metrics['use']:.2f} times the budget: ask for less. It {same}. {times}"


def _candidates(page: Page, candidates: Sequence[Candidate], metrics: dict[str, Any]) -> None:
    page.section(
        "What could be had",
        "Every sub-model looked at: its time (of those that were taught as measured whole, of the others added up of "
        "measured parts) against the loss on images held out, as it was taken out of the teacher and before it was "
        "taught. The line joins those that no other beats in both. Small images lose most untaught and gain most by "
        "teaching, so some of them were tried too.",
    )
    page.plot(front_plot(candidates, chosen=metrics["shape"]), "Loss as taken out, against milliseconds")
    rows = [
        (
            str(one.shape),
            f"{one.cost.ms:.2f}",
            "whole" if one.is_measured else "parts",
            f"{one.cost.params_m:.2f}",
            f"{one.untaught:.3f}",
            "–" if one.taught is None else f"{one.taught:.3f}",
            "chosen" if str(one.shape) == metrics["shape"] else "",
        )
        for one in sorted(candidates, key=lambda c: c.cost.ms)
    ]
    page.table(["sub-model", "ms", "measured", "M parameters", "loss as taken out", "after its trials", ""], rows)


def front_plot(candidates: Sequence[Candidate], *, chosen: str | None) -> str:
    """SVG of time against untaught loss; a column of dots for each size, arrows to what trials made of some."""
    with canvas() as board:
        axes = board.axes
        best = front(candidates)
        axes.plot([c.cost.ms for c in best], [c.untaught for c in best], color=LIGHT["accent"], linewidth=1.4)
        for one in candidates:
            colour = LIGHT["bad"] if str(one.shape) == chosen else LIGHT["muted"]
            axes.plot(one.cost.ms, one.untaught, "o", color=colour, markersize=6)
            if one.taught is not None:
                axes.plot([one.cost.ms] * 2, [one.untaught, one.taught], ":", color=colour, linewidth=1)
                axes.plot(one.cost.ms, one.taught, "v", color=colour, markersize=6)
        logarithmic(axes, x=True, y=True)
        axes.set(xlabel="milliseconds (dots: as taken out, triangles: after trials, red: chosen)", ylabel="loss")
        axes.grid(True)
    return board.svg


def _held_out(page: Page, losses: dict[str, dict[str, float]]) -> None:
    page.section("On images held out", "Losses on images that were never learnt from, before and after teaching.")
    names = [name for name in losses["after"] if name != "total"]
    rows = [(name, f"{losses['before'][name]:.4f}", f"{losses['after'][name]:.4f}") for name in names]
    page.table(["loss", "before", "after"], rows)


def _pictures(page: Page, lesson: Lesson, pupil: Pupil) -> None:
    """The deepest grids as colours, by the three strongest directions of the teacher's."""
    images = list(range(lesson.learnt, len(lesson.views.paths)))[:_SHOWN]
    rows = lesson.rows(images)
    taught = lesson.memory.at(rows)
    prepared = lesson.inputs(rows, pupil.model)
    with torch.no_grad():
        grid = pupil.see(prepared).grids_BDhw[-1]
        aim = pupil.scale.standard(taught)[-1]
        mapped = pupil.maps[-1](resized(grid, aim.shape[-2:]).permute(0, 2, 3, 1))
    mine, theirs = _coloured(mapped, aim.permute(0, 2, 3, 1))
    page.section(
        "What teacher and student see",
        "Images held out, and the deepest patches of both: alike in colour is alike in meaning. Colours are the three "
        "strongest directions of the teacher's patches; the student's are shown as it was taught to give them.",
    )
    page.pairs(
        [
            Row(
                (
                    Picture(lesson.views.image(row), "image"),
                    Picture(theirs[at], "teacher"),
                    Picture(mine[at], "student"),
                ),
                Path(lesson.views.paths[image]).name,
            )
            for at, (image, row) in enumerate(zip(images, rows, strict=True))
        ]
    )


def _coloured(mapped_BhwD: Tensor, aim_BhwD: Tensor) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]:
    flat = aim_BhwD.flatten(0, 2)
    mean = flat.mean(0)
    directions = torch.linalg.svd(flat - mean, full_matrices=False).Vh[:3]
    low, high = torch.quantile((flat - mean) @ directions.T, torch.tensor([0.02, 0.98]), dim=0)

    def as_images(part: Tensor) -> list[NDArray[np.uint8]]:
        share = (((part - mean) @ directions.T - low) / (high - low)).clamp(0, 1)
        large = nn.functional.interpolate(share.permute(0, 3, 1, 2), scale_factor=12, mode="nearest")
        return list((255 * large.permute(0, 2, 3, 1)).to(torch.uint8).numpy())

    return as_images(mapped_BhwD), as_images(aim_BhwD)
