"""``pangu-cv fuse``."""

import json
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv import recipes
from pangu_cv.iterate import fuse as stage


def fuse(recipe: str, *overrides: str, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Make one classifier of several, for all their classes, and hold it against the best of them and all together.

    Parameters
    ----------
    recipe
        A YAML file, or the name of the shipped recipe: fuse.
    overrides
        Settings as key=value, e.g. models=[runs/a,runs/b,runs/c] data.path=my_images how=graph.
    as_json
        Print the figures as JSON.
    """
    settings = stage.FuseRecipe.load(recipes.find("iterate", recipe), overrides)
    result = stage.fuse(settings)
    metrics = result.metrics
    if as_json:
        print(json.dumps(metrics))
        return
    print(f"{metrics['fused']['way']}: {metrics['fused']['told']}")
    _figures(metrics["bounds"])
    for note in metrics["notes"]:
        print(f"! {note}")
    print(f"\nmodel   {result.model}\nreport  {result.report}")
    print(f"Next: pangu-cv export {result.folder} --out {result.folder / 'bundle'} --images my_images")


def _figures(bounds: dict[str, Any]) -> None:
    """One line a bound, then what the one model costs."""
    best, figures = bounds["best_single"], bounds["balanced_accuracy"]
    for name, value in figures.items():
        print(f"{name:<18}  {value:.1%}{'  (the best single, as chosen)' if name == best else ''}")
    for name, found in bounds["against"].items():
        interval = found["differences"].get("balanced_accuracy", {}).get("difference")
        if interval and interval["low"] is not None:
            low, high = 100 * interval["low"], 100 * interval["high"]
            print(f"fused - {name:<10}  {100 * interval['mean']:+.1f} points, 95 % [{low:+.1f}, {high:+.1f}]")
    if bounds["measured_on_what_chose"] and figures:
        print("! there is no test part: measured on the images that chose, which flatters")
    cost = bounds["cost"]
    ratio, of = cost["ratio"], cost["ensemble"]["backbones"]
    print(
        f"decides alike       {bounds['decided_as_the_ensemble']:.1%} of {bounds['images']} images as the ensemble does"
    )
    shares = f"{ratio['gflop']:.0%} of the arithmetic, {ratio['params']:.0%} of the parameters"
    print(f"cost                {shares} of {of} backbones")
