"""An update: learn what is new, hold the result to the frozen set, and only then let the next model appear."""

import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.alone import new_model
from pangu_cv.errors import RegressionError, SettingsError
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.records import ACCEPTED, REFUSED, Records, model_digest
from pangu_cv.iterate.update_anomaly import update_anomaly
from pangu_cv.iterate.update_classes import update_classes
from pangu_cv.iterate.update_report import update_report
from pangu_cv.models.checkpoint_folder import folder_of
from pangu_cv.runs import Run
from pangu_cv.tasks.saved import SavedModel, load_model, save_model

_BY_GRADIENT = ("detect", "segment")


@dataclass(frozen=True)
class UpdateResult:
    """Paths of what was written, the figures of ``metrics.json``, and the ledger's head afterwards."""

    folder: Path
    model: Path
    report: Path
    ledger: Path
    head: str
    metrics: dict[str, Any]


def update(recipe: UpdateRecipe) -> UpdateResult:
    """Run the recipe.

    Raises RegressionError where the frozen set refuses the result: then the report and the ledger's line are written,
    and no model. Raises other PanguErrors for what the user can mend, before anything is written.
    """
    began = time.perf_counter()
    checkpoint = folder_of(Path(recipe.model))
    saved = load_model(checkpoint)
    kind = saved.model.config.kind
    if kind in _BY_GRADIENT:
        raise SettingsError(
            f"{recipe.model}: a model of task '{kind}' learns by gradient and would forget; finetune again on old and "
            f"new images together: pangu-cv finetune {kind} data.path=..."
        )
    with new_model(Path(recipe.output), setting="--out"):
        return _update(recipe, saved, Records.open(recipe, checkpoint), began)


def _update(recipe: UpdateRecipe, saved: SavedModel, records: Records, began: float) -> UpdateResult:
    kind = saved.model.config.kind
    judged = (update_anomaly if kind == "anomaly" else update_classes)(recipe, saved, records)
    run = Run.start(Path(recipe.output), name="update", recipe=recipe)
    told = judged.facts | {"gate": judged.facts["gate"] | judged.verdict.as_json()}
    metrics = {
        "task": kind,
        "accepted": judged.verdict.passes,
        "verdict": judged.verdict.told(),
        "comparison": judged.verdict.comparison.summary(),
        "after": judged.new.summary(),
        "seconds": round(time.perf_counter() - began, 2),
        "notes": list(judged.notes),
        "skipped": [{"image": str(s.path), "reason": s.reason, "message": s.message} for s in judged.skipped],
        "ledger": str(records.ledger.path.resolve()),
        **told,
    }
    run.write_metrics(metrics)
    update_report(run, recipe, judged, metrics, spec=saved.provenance.decode, before=saved.model)
    shutil.rmtree(run.folder / "partial", ignore_errors=True)
    if not judged.verdict.passes:
        records.write(REFUSED, judged.id, recipe, told)
        raise RegressionError(
            f"the update makes the model worse and was refused: {judged.verdict.told()}. No model was written and "
            f"the old one stays as it is; {run.report} shows what was lost. Look for wrong labels among the new images "
            "first; --max-drop allows more"
        )
    save_model(judged.saved, run.model)
    try:
        records.write(ACCEPTED, judged.id, recipe, told | {"model_out": model_digest(run.model)})
    except BaseException:
        shutil.rmtree(run.model, ignore_errors=True)  # no model without a line that tells where it comes from
        raise
    return UpdateResult(run.folder, run.model, run.report, records.ledger.path, records.ledger.head, metrics)
