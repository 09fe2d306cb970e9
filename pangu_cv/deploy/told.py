"""An export's steps as the report shows them."""

from pangu_cv.deploy.export import ExportResult
from pangu_cv.deploy.precisions import Made, Wanted
from pangu_cv.report.page import Page
from pangu_cv.report.precision import LayerError, Precisions, Step, precision_report
from pangu_runtime.bundle import Precision


def precision_page(result: ExportResult, wanted: Wanted, *, title: str) -> Page:
    """The page that goes beside a bundle of several precisions."""
    page = Page(title, "What each step of the export bought, and what it cost")
    precision_report(
        page, Precisions(_steps(result.made), _layers(result.made), result.made.operators, _notes(result, wanted))
    )
    return page


def _steps(made: Made) -> list[Step]:
    steps = []
    for name, timing in made.timings.items():
        loss = made.losses.get(name)  # type: ignore[call-overload]
        steps.append(
            Step(
                {"plain": "plain export", "fp32": "fp32"}.get(name, name),
                timing.median_ms,
                timing.ratio,
                timing.start_ms,
                made.bytes[name] / 1e6,
                None if loss is None else loss.points,
                "–" if loss is None else f"{loss.flips} of {loss.images}",
            )
        )
    return steps


def _layers(made: Made) -> list[LayerError]:
    if made.int8 is None:
        return []
    return [
        LayerError(
            one.layer.scope or one.layer.name, one.layer.operator, one.layer.weights, one.error, at < made.int8.kept
        )
        for at, one in enumerate(made.int8.sensitivities)
    ]


def _notes(result: ExportResult, wanted: Wanted) -> list[str]:
    made, notes = result.made, []
    times = ", ".join(f"{name} {timing.ratio:.2f}" for name, timing in made.optimised.timings.items())
    kept = "rewritten" if made.optimised.is_lean else "as exported, since rewriting it was not faster"
    found = ", ".join(f"{name} ({count})" for name, count in made.optimised.rewritings.items() if count)
    notes.append(
        f"model.onnx is {kept}, in standard operators. Found: {found or 'nothing to rewrite'}; times of plain, "
        f"rewritten and with onnxruntime's own attention: {times}."
    )
    loss = next(iter(made.losses.values()), None)
    if loss is not None:
        figure = (
            f"{loss.figure.replace('_', ' ')} on labelled images" if loss.figure else "decisions that differ: no labels"
        )
        apart = "other images" if made.are_apart else "the same images, of which there are too few to part"
        notes.append(
            f"Points are of {figure}; {made.controlled_on} images of {wanted.source}. Ranges were taken of "
            f"{made.calibrated_on} images, {apart}. On the {result.certificate.images} certified images "
            + ", ".join(_certified(name, result) for name in made.losses)
            + "."
        )
        if loss.left_out:
            notes.append(
                f"{loss.left_out} of the images that points are of have taught the head, which knows them by heart. "
                "They are judged as by a head without them, as new images would be."
            )
    if made.int8 is not None:
        errors = ", ".join(f"{name} {error:.2g}" for name, error in made.int8.method_errors.items())
        notes.append(f"Ranges by {made.int8.method}, which moved the scores least ({errors}).")
    return notes


def _certified(name: Precision, result: ExportResult) -> str:
    other = result.certificate.others[name]
    return f"{name} decides {other.difference.flips} otherwise than the trained model (limit {other.limits.flips})"
