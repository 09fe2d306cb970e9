"""``pangu-cv mine``."""

import json
import shlex
from typing import Annotated

from cyclopts import Parameter

from pangu_cv import recipes
from pangu_cv.iterate import mine as stage
from pangu_cv.iterate.next_step import finetune_command


def mine(recipe: str, *overrides: str, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Rank images that nobody has looked at by how much a look is worth, with the reason for each.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a shipped recipe: find, learn.
    overrides
        Settings as key=value, e.g. images=new_images count=100 labels=runs/mine-1/ranked.csv.
    as_json
        Print the figures and the list as JSON.
    """
    settings = stage.MineRecipe.load(recipes.find("iterate", recipe), overrides)
    result = stage.mine(settings)
    if as_json:
        chosen = [{"image": str(result.pool.images[pick.place]), "reason": pick.reason} for pick in result.picks]
        print(json.dumps(result.metrics | {"list": chosen, "ranked": str(result.ranked), "root": str(result.root)}))
        return
    metrics = result.metrics
    print(f"images            {metrics['images']}, {metrics['embedded_now']} of them new")
    print(f"labelled so far   {metrics['labelled']}")
    for reason, count in metrics["reasons"].items():
        print(f"{count:5}  {reason}")
    if metrics["skipped"]:
        print(f"left out          {len(metrics['skipped'])} unreadable image(s), named in the report")
    if result.gone:
        print(f"! {result.gone} labelled images are not there any more: take their rows out before you finetune")
    print(f"\nlist    {result.ranked}\nreport  {result.report}")
    print("Next: fill in the column 'label' of the list, then look for more with it, or teach a model:")
    same = [one for one in overrides if not one.startswith(("labels=", "output="))]
    print(f"      pangu-cv mine {shlex.join([recipe, *same, f'labels={result.ranked}'])}")
    taught = finetune_command("classify", result.ranked, result.decode_spec.range_16bit)
    print(f"      {taught} {shlex.quote(f'data.root={result.root}')}")
