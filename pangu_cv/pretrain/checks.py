"""What a recipe can get wrong beyond its schema, found before the work begins. All raise SettingsError."""

from pangu_cv.errors import SettingsError
from pangu_cv.models.backbone import Backbone
from pangu_cv.pretrain.images import Images
from pangu_cv.pretrain.recipe import PretrainRecipe


def check_settings(recipe: PretrainRecipe) -> None:
    """Settings against each other."""
    world = recipe.engine.devices * recipe.engine.nodes
    if recipe.optim.batch % (world * recipe.optim.accumulate):
        raise SettingsError(
            f"optim.batch: {recipe.optim.batch} cannot be shared by {world} process(es) in "
            f"{recipe.optim.accumulate} part(s); choose a multiple of {world * recipe.optim.accumulate}"
        )
    spec = recipe.data[0].decode_spec
    for source in (*recipe.data, *recipe.targets):
        if source.decode_spec != spec:
            raise SettingsError(
                f"range_16bit and max_pixels must be the same for all data and targets of a run; '{source.path}' has "
                f"{list(source.range_16bit)} and {source.max_pixels}, '{recipe.data[0].path}' "
                f"{list(spec.range_16bit)} and {spec.max_pixels}"
            )
    for source in recipe.data:
        if source.groups is not None or source.split != "own":
            raise SettingsError(
                f"data: groups and split of '{source.path}' say what is measured on, and data is not: name the "
                "parts to learn from in splits, and groups and split under targets"
            )
    if recipe.objective.kind == "joint" and recipe.objective.keys.queue and recipe.objective.keys.momentum is None:
        raise SettingsError("objective.keys.queue: needs objective.keys.momentum, the copy that fills it")
    if recipe.text.tower is not None and recipe.objective.kind != "joint":
        raise SettingsError(
            f"text.tower: objective.kind={recipe.objective.kind} learns from images alone and would not read "
            f"'{recipe.text.tower}'; take objective.kind=joint, or leave text.tower out"
        )


def require_texts(recipe: PretrainRecipe, images: Images) -> None:
    """A text tower must have something to say."""
    if recipe.text.tower is None or images.texts:
        return
    path = images.unused[0][0] if images.unused else recipe.data[0].path
    raise SettingsError(
        f"text.tower: '{recipe.text.tower}' finds no text: no caption is in use, and no class becomes a text. "
        f"Use the labels by data='[{{path: {path}, labels: 1}}]' with a text.template, or leave text.tower out"
    )


def check_sides(recipe: PretrainRecipe, backbone: Backbone) -> None:
    """A side is a multiple of the patch; beyond the views a CNN takes any."""
    reductions = [int(level["reduction"]) for level in backbone.network.feature_info]
    patch_px = reductions[-1]
    sides = [("views.image_px", recipe.views.image_px)]
    if min(reductions) == patch_px:  # the grid never shrinks on the way: a plain ViT
        if recipe.objective.kind == "dino" and recipe.views.local_views:
            sides.append(("views.local_px", recipe.views.local_px))
        sides += [(f"targets: image_px of '{target.path}'", target.image_px) for target in recipe.targets]
    for name, side_px in sides:
        if side_px % patch_px:
            raise SettingsError(
                f"{name}: {side_px} is no multiple of {patch_px}, the patch side of '{recipe.backbone.name}'; "
                f"take {max(1, round(side_px / patch_px)) * patch_px}"
            )
