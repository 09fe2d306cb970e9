"""The page of a loop: what each round cost and brought, with a picture of every step."""

from collections.abc import Sequence
from pathlib import Path

from pangu_cv.data.config import DataConfig, dataset_title
from pangu_cv.errors import ImageError
from pangu_cv.evaluate import test_samples
from pangu_cv.features import Skipped
from pangu_cv.iterate.answers import Answer, AnswerFile
from pangu_cv.iterate.ledger import Ledger
from pangu_cv.metrics import ClassificationOutcome, Interval
from pangu_cv.report import plots
from pangu_cv.report.classification import classification_report
from pangu_cv.report.curves import over_cost
from pangu_cv.report.page import Page, Plot, Tile
from pangu_cv.report.palette import Tone
from pangu_cv.report.picture import Picture
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.text import band, counted, percent, shortened
from pangu_cv.runs import Run
from pangu_cv.workflows.loop.measure import outcome_of
from pangu_cv.workflows.loop.rounds import BEGUN, Round
from pangu_cv.workflows.loop.steps import Figures, Loop
from pangu_runtime.decode import DecodeSpec, decode

_SHOWN = 12
_DECISIONS = 24


def loop_report(
    run: Run,
    loop: Loop,
    frozen: Figures | None,
    rounds: Sequence[Round],
    end: dict[str, Figures],
    *,
    is_open: str | None,
) -> None:
    """Write ``report.html`` of what has been done so far."""
    recipe = loop.recipe
    subtitle = f"{len(recipe.classes)} classes, {counted(recipe.rounds, 'round')}"
    page = Page(f"The loop on {dataset_title(recipe.images)}", subtitle)
    page.verdict(*_verdict(rounds, end, is_open))
    if recipe.oracle is not None:
        prices = recipe.ask.prices
        page.note(
            f"A simulated person answered: '{recipe.oracle.path.name}' knows the truth, and "
            f"{percent(recipe.oracle.wrong, 0)} of its answers are wrong. Its seconds are prices, not measured: "
            f"{prices.bit_seconds:g} for a yes or no, {prices.label_seconds:g} for naming a class."
        )
    if frozen is not None:
        _summary(page, frozen, rounds)
        _frozen(page, loop, frozen)
    said = AnswerFile(loop.answers).read()
    for one in rounds:
        _round(page, one, said, recipe.decode_spec)
    _last_model(page, rounds, recipe.decode_spec)
    if end:
        _end(page, loop, end)
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)


def _verdict(rounds: Sequence[Round], end: dict[str, Figures], is_open: str | None) -> tuple[str, Tone]:
    if is_open:
        return f"Not finished: {is_open}. The same command goes on.", "neutral"
    verified, bundle = end["verified"], end["bundle"]
    words = (
        f"{counted(len(rounds), 'round')}, then a bundle that decides {bundle['images']} frozen images as the model "
        f"does ({counted(bundle['flips'], 'flip')}); replayed and verified, the ledger is whole."
    )
    failed = [name for name, again in verified["precisions"].items() if not again["holds"]]
    if failed:
        return f"The bundle does not hold its certificate on this machine: {', '.join(failed)}.", "bad"
    return words, "good"


def _summary(page: Page, frozen: Figures, rounds: Sequence[Round]) -> None:
    measured = [(one, outcome) for one in rounds if (outcome := outcome_of(one.measured)) is not None]
    last = rounds[-1].asked if rounds else {"answers": 0, "seconds": 0.0, "labelled": 0}
    tiles = [
        Tile("Labelled", str(last["labelled"]), f"of {frozen['pool']} images that may be learnt"),
        Tile("Questions", str(last["answers"]), "answered in all rounds"),
        Tile("Human seconds", f"{last['seconds']:.0f}", f"and {frozen['seconds']:.0f} for the frozen set"),
    ]
    if measured:
        best = measured[-1][1]
        note = band(best.intervals["balanced_accuracy"])
        tiles.insert(0, Tile("Balanced accuracy", percent(best.balanced_accuracy), note))
    page.tiles(tiles)
    if not measured:
        return
    page.section(
        "What the answers bought",
        "Balanced accuracy over all classes on the frozen set; a class that is not known yet counts as never found.",
    )
    page.plots(
        [
            Plot(
                over_cost(_points(measured, "seconds"), x_label="human seconds"),
                "After each round, with 95 % intervals.",
            ),
            Plot(over_cost(_points(measured, "answers"), x_label="questions answered"), "The same against answers."),
        ]
    )
    rows = [_row(one, outcome_of(one.measured)) for one in rounds]
    page.table(["round", "answers", "seconds", "labelled", "classes known", "balanced accuracy", "95 %", "gate"], rows)


def _points(measured: Sequence[tuple[Round, ClassificationOutcome]], cost: str) -> list[tuple[float, Interval]]:
    found = [(float(one.asked[cost]), outcome.intervals["balanced_accuracy"]) for one, outcome in measured]
    return [(x, interval) for x, interval in found if interval is not None]


def _row(one: Round, outcome: ClassificationOutcome | None) -> tuple[object, ...]:
    interval = outcome.intervals["balanced_accuracy"] if outcome else None
    gate = {None: "–", True: "passed", False: "refused"}[one.learnt["accepted"]]
    return (
        one.number,
        one.asked["answers"],
        f"{one.asked['seconds']:.0f}",
        one.asked["labelled"],
        len(one.measured.get("knows", ())),
        percent(outcome.balanced_accuracy if outcome else None),
        band(interval).removeprefix("95 %: ") or "–",
        "first model" if one.learnt["how"] == BEGUN else gate,
    )


def _frozen(page: Page, loop: Loop, frozen: Figures) -> None:
    how = "drawn by chance and named in full" if frozen["is_drawn"] else "brought along"
    page.section("The frozen set", f"{frozen['frozen']} images, {how}; never learnt, neither they nor copies of them.")
    page.table(["class", "images"], list(frozen["counts"].items()))
    samples = test_samples(DataConfig(path=loop.frozen).read())
    shown = samples[:: max(1, len(samples) // _SHOWN)][:_SHOWN]
    page.gallery(_pictures([(s.path, str(s.label), "") for s in shown], loop.recipe.decode_spec))
    add_skipped(page, tuple(Skipped(Path(path), "unreadable", message) for path, message in frozen["skipped"]))


def _round(page: Page, one: Round, said: Sequence[Answer], spec: DecodeSpec) -> None:
    page.section(f"Round {one.number}: what to look at", _reasons(one.mined["reasons"]))
    chosen = one.mined["images"][:_SHOWN]
    ranked = [(Path(path), f"{rank}. {reason}", "") for rank, (path, reason) in enumerate(chosen, start=1)]
    page.gallery(_pictures(ranked, spec))
    asked = said[one.mined["answers_before"] : one.asked["answers"]]
    seconds = one.asked["seconds"] - one.mined["seconds_before"]
    page.section(
        f"Round {one.number}: what was asked",
        f"{counted(len(asked), 'answer')} by {one.asked['by']} in {seconds:.0f} s, then {one.asked['stopped']}.",
    )
    page.gallery(_questions(asked, [Path(path) for path, _ in one.mined["images"]], spec))
    page.section(f"Round {one.number}: what was learnt")
    tone: Tone = {None: "neutral", True: "good", False: "warn"}[one.learnt["accepted"]]  # type: ignore[assignment]
    page.verdict(one.learnt["verdict"], tone)
    pages = [one.mined["report"], one.asked["report"], one.learnt["report"]]
    page.note("More of this round: " + ", ".join(name for name in pages if name) + ".")
    outcome = outcome_of(one.measured)
    counts = one.asked["counts"]
    found = dict(zip(outcome.classes, outcome.recall_per_class_C.tolist(), strict=True)) if outcome else {}
    rows = [(shortened(name, 40), count, _recall(found.get(name))) for name, count in counts.items()]
    page.table(["class", "labelled so far", "recall on the frozen set"], rows)
    if outcome is not None:
        caption = f"Round {one.number}, the frozen set: rows are the truth, columns what the model said."
        page.plot(plots.confusion_matrix(outcome), caption)


def _recall(value: float | None) -> str:
    return "–" if value is None or value != value else percent(value)


def _reasons(reasons: dict[str, int]) -> str:
    return "; ".join(f"{count} {reason}" for reason, count in reasons.items()) + "."


def _questions(asked: Sequence[Answer], images: Sequence[Path], spec: DecodeSpec) -> list[Picture]:
    """The images with the most questions first, each with all that was asked of it."""
    of_name: dict[str, list[Answer]] = {}
    for answer in asked:
        of_name.setdefault(answer.image, []).append(answer)
    place = {path.as_posix(): path for path in images}
    shown = []
    for name, answers in sorted(of_name.items(), key=lambda item: -len(item[1]))[:_SHOWN]:
        path = next((path for full, path in place.items() if full == name or full.endswith(f"/{name}")), None)
        if path is not None:
            words = " · ".join(_said(answer) for answer in answers)
            shown.append((path, words, f"{sum(answer.seconds for answer in answers):.1f} s"))
    return _pictures(shown, spec)


def _said(answer: Answer) -> str:
    name = shortened(answer.klass, 24)
    return {"label": f"which? {name}", "withdrawn": f"{name}: taken back"}.get(answer.said, f"{name}? {answer.said}")


def _last_model(page: Page, rounds: Sequence[Round], spec: DecodeSpec) -> None:
    outcome = outcome_of(rounds[-1].measured) if rounds else None
    if outcome is not None:
        page.section("The model after the last round")
        classification_report(page, outcome, load_image=lambda path: decode(Path(path), spec=spec))


def _end(page: Page, loop: Loop, end: dict[str, Figures]) -> None:
    if smaller := end.get("smaller"):
        outcome = outcome_of(smaller["measured"])
        page.section("The smaller model", "Taught by the last round's on the unlabelled images; this one is exported.")
        page.table(
            ["", "milliseconds", "M parameters", "MB"],
            [
                (who, *(f"{smaller[who][key]:.2f}" for key in ("ms", "params_m", "size_mb")))
                for who in ("teacher", "student")
            ],
        )
        same = smaller["agreement"]
        page.note(
            f"Balanced accuracy on the frozen set: {percent(outcome.balanced_accuracy if outcome else None)}. Of "
            f"{same['images']} other images it decides {percent(same['same'])} as the large one does."
        )
    bundle, verified = end["bundle"], end["verified"]
    page.section("The certificate", f"The bundle's graph against the model, on {bundle['images']} frozen images.")
    page.table(
        ["figure", "value"],
        [
            ("decisions that differ", bundle["flips"]),
            ("largest difference of a score", f"{bundle['score']:.1e}"),
            *(
                (f"{name}: certified images decided again here", f"{again['checked']}, {again['flips']} flipped")
                for name, again in verified["precisions"].items()
            ),
            ("golden images replayed", verified["golden_images"]),
            ("fingerprint", bundle["fingerprint"]),
        ],
    )
    for name, loss in bundle.get("precisions", {}).items():
        lost = f"{loss['points']:.2f} points lost on {counted(loss['images'], 'image')}"
        page.note(f"{name}: {counted(loss['flips'], 'flip')}, {lost}; more in bundle.report.html.")
    page.section("Decisions of the bundle", "Images that nobody was asked about, decided without torch.")
    decisions = bundle["decisions"][:_DECISIONS]
    shown = [(Path(one["image"]), one["label"], f"score {percent(one['score'])}") for one in decisions]
    page.gallery(_pictures(shown, loop.recipe.decode_spec))
    _ledger(page, loop, verified)


def _ledger(page: Page, loop: Loop, verified: Figures) -> None:
    page.section("The ledger", f"{verified['ledger_entries']} entries, each bound to the one before; head below.")
    rows = []
    for entry in Ledger(loop.ledger).entries():
        facts = entry.facts
        models = " → ".join(str(facts[key])[:12] for key in ("model_in", "model_out") if facts.get(key))
        learnt = ", ".join(f"{name} +{count}" for name, count in facts.get("learnt", {}).items() if count)
        rows.append((entry.seq, entry.time, entry.event, models, learnt))
    page.table(["line", "time", "event", "model", "learnt"], rows)
    page.note(f"head {verified['ledger_head']}; keep it elsewhere.")


def _pictures(shown: Sequence[tuple[Path, str, str]], spec: DecodeSpec) -> list[Picture]:
    found = []
    for path, caption, note in shown:
        try:
            found.append(Picture(decode(path, spec=spec), caption, note or path.name))
        except ImageError:  # gone since
            continue
    return found
