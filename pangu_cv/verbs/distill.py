"""``pangu-cv distill``."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pangu_cv import distill as stage
from pangu_cv import recipes


def distill(recipe: str, *overrides: str, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Make a smaller model within a budget, taught by the large one on unlabelled images.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a shipped recipe: extract, student.
    overrides
        Settings as key=value, e.g. model=runs/classify-1 data.path=my_images budget.latency_ratio=0.25.
    as_json
        Print the figures as JSON.
    """
    settings = stage.DistillRecipe.load(recipes.find("distill", recipe), overrides)
    result = stage.distill(settings)
    if result is None:
        if as_json:
            print(json.dumps({"probes": str(settings.probes)}))
            return
        print(f"probes  {settings.probes}")
        print(f"Next: copy it to the device and run 'pangu-cv profile {Path(str(settings.probes)).name}' there")
        return
    metrics = result.metrics
    if as_json:
        print(json.dumps(metrics))
        return
    student, teacher, same = metrics["student"], metrics["teacher"], metrics["agreement"]
    print(f"student           {metrics['shape'] or metrics['network']['name']}")
    print(f"latency           {student['ms']:.2f} ms, {metrics['ratio']:.1%} of the teacher's {teacher['ms']:.2f}")
    print(f"budget            {metrics['use']:.0%} used; times are of {metrics['timed']}")
    print(f"size              {student['size_mb']:.1f} MB, {student['params_m']:.2f} M parameters")
    print(f"decides alike     {same['same']:.1%} of {same['images']} images held out")
    if not metrics["within"]:
        print(f"! it uses {metrics['use']:.2f} times the budget; ask for less")
    print(f"\nmodel   {result.model}\nreport  {result.report}")
    print(f"Next: pangu-cv export {result.folder} --out {result.folder / 'bundle'} --images my_images")
