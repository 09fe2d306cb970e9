"""``pangu-cv pretrain``."""

import json
from typing import Annotated

from cyclopts import Parameter

from pangu_cv import pretrain as stage
from pangu_cv import recipes
from pangu_cv.pretrain.plan import plan


def pretrain(
    recipe: str,
    *overrides: str,
    as_plan: Annotated[bool, Parameter(name="--plan")] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Make a backbone better with unlabelled, labelled and captioned images, and say whether it is.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a shipped recipe: joint, joint_repair, embedded, simclr, moco, mae,
        dino, vit_3b, from_scratch.
    overrides
        Settings as key=value, e.g. data='[{path: my_images}]' optim.steps=2000.
    as_plan
        Count parameters and memory per device instead of training.
    as_json
        Print the figures as JSON.
    """
    settings = stage.PretrainRecipe.load(recipes.find("pretrain", recipe), overrides)
    if as_plan:
        planned = plan(settings)
        print(json.dumps(planned.as_json()) if as_json else planned.text())
        return
    result = stage.pretrain(settings)
    if not result.is_first:
        return
    if as_json:
        print(json.dumps(result.metrics))
        return
    for target in result.metrics["verdict"]["targets"]:
        kept = "use it" if target["use"] else "keep the original"
        print(f"{target['target']:24} {target['before']:.1%} → {target['after']:.1%}  {kept}")
    print(result.metrics["verdict"]["sentence"])
    print(f"\nmodel   {result.model}\nreport  {result.report}")
    targets = result.metrics["verdict"]["targets"]
    is_better = not targets or any(target["use"] for target in targets)
    weights = result.model if is_better else settings.backbone.weights
    print(f"Next{'' if is_better else ', with the original weights'}: pangu-cv finetune classify data.path=... \\")
    print(f"          task.backbone.weights={weights} task.backbone.name={settings.backbone.name}")
