"""What can be refused before an image is read: a teacher that does not fit the recipe, and counted bounds."""

from pangu_cv.distill.budget import Budget
from pangu_cv.distill.choose import sub_models
from pangu_cv.distill.costs import counted
from pangu_cv.distill.recipe import DistillRecipe, ExtractConfig
from pangu_cv.distill.search import within
from pangu_cv.errors import SettingsError
from pangu_cv.tasks import TaskModel
from pangu_cv.tasks.saved import SavedModel


def require_teachable(recipe: DistillRecipe, saved: SavedModel) -> None:
    """Raise SettingsError where the teacher cannot be distilled as asked."""
    _require_no_known_defects(recipe, saved)
    teacher = saved.model
    if teacher.config.kind == "anomaly" and not (recipe.loss.features or recipe.loss.similarity):
        raise SettingsError(
            "loss: an anomaly detector has no head that decides, so that decisions teach nothing; give features or "
            "similarity a weight above 0"
        )
    if isinstance(recipe.student, ExtractConfig):
        _require_counted_bounds(recipe, recipe.student, teacher)


def _require_no_known_defects(recipe: DistillRecipe, saved: SavedModel) -> None:
    """They are kept as patches of the teacher's own network, without the images that the student would need."""
    defects = None if saved.normality is None else saved.normality.defects
    if defects is not None:
        raise SettingsError(
            f"model: '{recipe.model}' was taught {len(defects.names)} missed defects, which a student cannot take "
            "over, and it would let them pass again; distil the model as it was before, then teach the student the "
            "same images: pangu-cv update STUDENT --missed ..."
        )


def _require_counted_bounds(recipe: DistillRecipe, student: ExtractConfig, teacher: TaskModel) -> None:
    """A plain ViT, and parameters and bytes within which its smallest sub-model is."""
    own, shapes = sub_models(student, teacher)
    costs, cost_of_teacher = counted(teacher, own)
    if not recipe.budget.asks_time:
        Budget.of(recipe.budget, teacher=cost_of_teacher)
    if recipe.budget.is_counted:
        bounds = Budget(None, recipe.budget.params_m, recipe.budget.size_mb)
        within(shapes, costs, bounds, slack=recipe.budget.slack)
