"""What detect, segment and multilabel keep of a fitted draw: its checkpoint, its figures, its part of the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.features import Skipped
from pangu_cv.finetune.all_draws import every_draw
from pangu_cv.finetune.auto import Choice
from pangu_cv.finetune.recipe import FinetuneRecipe, provenance_of, skipped_json
from pangu_cv.models.labelled import Labelled
from pangu_cv.models.training import History
from pangu_cv.report.page import Page
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.training import training_curves
from pangu_cv.report.variants import training_variants
from pangu_cv.runs import Run
from pangu_cv.tasks.class_memory import ClassMemory
from pangu_cv.tasks.saved import SavedModel, parent_of, save_model

Outcome = TypeVar("Outcome")


@dataclass(frozen=True)
class Fitted(Generic[Outcome]):
    """A fitted model, how training went, and what it does on the test images."""

    seed: int
    model: Any
    support: tuple[Sample, ...]
    history: History
    outcome: Outcome
    skipped: tuple[Skipped, ...]
    shown: tuple[Labelled, ...] = ()
    """The first labelled images, as training reads them."""
    choice: Choice | None = None


def save_first(
    fitted: Fitted[Any], recipe: FinetuneRecipe, dataset: Dataset, run: Run, *, memory: ClassMemory | None = None
) -> None:
    """Write the run's model."""
    provenance = provenance_of(recipe, fitted.support, dataset.root)
    save_model(SavedModel(fitted.model, provenance, parent_of(fitted.model), memory=memory), run.model)


def training_figures(history: History, choice: Choice | None) -> dict[str, Any]:
    """How a draw was trained, for ``metrics.json``."""
    return {
        "seconds": history.seconds,
        "learning": history.learning,
        "saved_by_freezing": history.saved,
        "tried": [tried.as_json() for tried in choice.tried] if choice else [],
        "way": choice.way.model_dump(mode="json") if choice else None,
    }


def figures_of(fitted: Sequence[Fitted[Any]], lost: Sequence[Skipped] = ()) -> dict[str, Any]:
    """Every draw's figures, and the images left out in any of them."""
    skipped = tuple({s.path: s for s in (*lost, *(s for one in fitted for s in one.skipped))}.values())
    draws = [
        {
            "seed": one.seed,
            "labelled": len(one.support),
            **training_figures(one.history, one.choice),
            **one.outcome.summary(),
        }
        for one in fitted
    ]
    return {"draws": draws, "skipped": skipped_json(skipped)}


def finish_report(
    page: Page,
    run: Run,
    recipe: FinetuneRecipe,
    fitted: Sequence[Fitted[Any]],
    *,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    skipped: Sequence[Skipped],
) -> None:
    """Curves, a row per draw where there are several, what was left out, the recipe."""
    if shown := fitted[0].shown:
        tile = getattr(fitted[0].model.config, "tile", None)
        donor = shown[-1] if recipe.augment.paste else None
        training_variants(page, recipe.augment, shown[0], donor=donor, tile_px=tile.px if tile else None)
    history = fitted[0].history
    training_curves(page, history.losses, seconds=history.seconds, saved=history.saved)
    seeds, choices = [one.seed for one in fitted], [one.choice for one in fitted]
    every_draw(page, seeds, columns=columns, rows=rows, choices=choices)
    add_skipped(page, tuple(skipped))
    page.details("The recipe", recipe.to_yaml())
    page.write(run.report)
