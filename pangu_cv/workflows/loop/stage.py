"""The loop from its first look to its bundle; what was done is not done again, and the page is always up to date."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.alone import alone
from pangu_cv.data.versions import newest
from pangu_cv.errors import BundleError, DataError, SettingsError
from pangu_cv.iterate.mine import NothingLeftError
from pangu_cv.report.text import counted
from pangu_cv.runs import Run
from pangu_cv.workflows.loop.finish import finish
from pangu_cv.workflows.loop.frozen import freeze
from pangu_cv.workflows.loop.people import Oracle, People
from pangu_cv.workflows.loop.recipe import LoopRecipe
from pangu_cv.workflows.loop.report import loop_report
from pangu_cv.workflows.loop.rounds import Round, run_round
from pangu_cv.workflows.loop.steps import FROZEN, Figures, Loop, Paused, Say, once


@dataclass(frozen=True)
class LoopResult:
    """Paths and figures; ``open`` says what waits for a person, None at the end. ``bundle`` is there at the end."""

    folder: Path
    report: Path
    metrics: dict[str, Any]
    open: str | None

    @property
    def bundle(self) -> Path | None:
        """The certified bundle."""
        return None if self.open else self.folder / "bundle"


def run_loop(recipe: LoopRecipe, *, people: People, say: Say, enough: bool = False) -> LoopResult:
    """Go on from where the folder is, to the end or to open questions; raises PanguError for what the user can mend.

    The recipe's oracle answers in the place of ``people`` where there is one. ``enough`` closes the questions that are
    open now, whatever is answered.
    """
    if recipe.oracle is not None:
        people = Oracle.read(recipe.oracle, recipe.ask.prices)
    told = f"{recipe.folder}: another process runs this loop; wait for it or end it, or name another output"
    with alone(recipe.folder / ".lock", DataError(told)):
        _require_same(recipe)
        return _run(recipe, people, say, enough=enough)


def _run(recipe: LoopRecipe, people: People, say: Say, *, enough: bool) -> LoopResult:
    run = Run.start(recipe.folder, name="loop", recipe=recipe)
    loop = Loop(recipe, run.folder.resolve(), people, say, enough)
    frozen: Figures | None = None
    rounds: list[Round] = []
    end: dict[str, Figures] = {}
    is_open = None
    try:
        frozen = once(loop.home / "frozen.json", lambda: freeze(loop))
        for number in range(1, recipe.rounds + 1):
            is_fresh = not (loop.home / f"round_{number}" / "measured.json").is_file()
            try:
                rounds.append(run_round(loop, number, rounds[-1] if rounds else None))
            except NothingLeftError:
                if not rounds:
                    raise
                say("people have looked at every image; no further round")
                break
            if is_fresh:
                loop_report(run, loop, frozen, rounds, end, is_open="the next step has not begun")
        end = finish(loop, rounds[-1])
    except Paused as paused:
        is_open = str(paused)
    metrics = _metrics(loop, frozen, rounds, end) | {"open": is_open}
    run.write_metrics(metrics)
    loop_report(run, loop, frozen, rounds, end, is_open=is_open)
    if end and not end["verified"]["holds"]:
        name, again = next((name, one) for name, one in end["verified"]["precisions"].items() if not one["holds"])
        raise BundleError(
            f"{loop.home / 'bundle'}: {name} does not hold its certificate on this machine: {again['flips']} of "
            f"{counted(again['checked'], 'certified decision')} flipped, scores up to {again['score']:.1e} apart; see "
            f"{run.report}. Remove bundle.json, and the same command exports again"
        )
    return LoopResult(run.folder, run.report, metrics, is_open)


def _require_same(recipe: LoopRecipe) -> None:
    """Raises SettingsError where the folder holds a loop of other images, classes, answers or classifier; DataError
    where what it holds cannot be read. A loop that has not got as far as its frozen set has not begun.
    """
    path, frozen = recipe.folder / "recipe.yaml", recipe.folder / FROZEN
    if not path.is_file():
        return
    try:
        kept = LoopRecipe.load(path)
    except SettingsError as error:
        raise DataError(f"{error}\n{path}: is no recipe of a loop; remove it, and it is written anew") from None
    if not frozen.is_dir():
        return
    free = {"gate_images"} if newest(frozen) is None else set()  # what is still drawn may grow
    changed = [name for name, value in recipe.bound.items() if name not in free and kept.bound[name] != value]
    if changed:
        raise SettingsError(
            f"{changed[0]}: the loop in '{recipe.folder}' has begun with {kept.bound[changed[0]]!r}, and is asked for "
            f"{recipe.bound[changed[0]]!r}; its first rounds would not be true any more. Name another output"
        )


def _metrics(loop: Loop, frozen: Figures | None, rounds: list[Round], end: dict[str, Figures]) -> dict[str, Any]:
    scores = {"paths", "scores", "truth"}
    return {
        "task": "loop",
        "answered_by": f"a simulated person ({loop.people.name})" if loop.recipe.oracle else loop.people.name,
        "frozen": frozen,
        "rounds": [
            {
                "round": one.number,
                "chosen": one.mined["reasons"],
                "asked": one.asked,
                "learnt": one.learnt,
                "measured": {name: value for name, value in one.measured.items() if name not in scores},
            }
            for one in rounds
        ],
        "end": end,
    }
