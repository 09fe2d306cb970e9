"""``pangu-cv loop``."""

import json
import secrets
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv import recipes
from pangu_cv.data.versions import writer
from pangu_cv.workflows.loop import InTerminal, LoopRecipe, LoopResult, OnPage, People, run_loop


def loop(
    recipe: str,
    *overrides: str,
    page: bool = False,
    port: int = 8765,
    address: str = "127.0.0.1",
    by: str | None = None,
    open_pictures: Annotated[bool, Parameter(negative="")] = False,
    enough: Annotated[bool, Parameter(negative="")] = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """From images nobody has looked at to a certified bundle: choose, ask, learn, measure, in rounds; then export.

    Stops where questions are open and says so; the same command goes on. With oracle=TABLE labels answer by themselves.

    Parameters
    ----------
    recipe
        A YAML file, or the name of a shipped recipe: power_line.
    overrides
        Settings as key=value, e.g. images=new_images classes=[good,nest] rounds=3 oracle=labels.csv.
    page
        Ask on a small page for a phone instead of in the terminal.
    port
        Where the page listens.
    address
        0.0.0.0 shows it in the whole network, to who has the link.
    by
        Your name; default: the name you are logged in with, or with --page: people on the page.
    open_pictures
        Terminal: open each picture in its usual program.
    enough
        Close the questions that are open now, and go on with the answers there are.
    as_json
        Print the figures as JSON.
    """
    settings = LoopRecipe.load(recipes.find("loop", recipe), overrides)
    people: People = InTerminal(by or writer() or "somebody", open_pictures=open_pictures)
    if page:
        people = OnPage(port=port, address=address, token=secrets.token_urlsafe(16), name=by or OnPage.name)
    say = (lambda _: None) if as_json else (lambda text: print(f"· {text}", flush=True))
    result = run_loop(settings, people=people, say=say, enough=enough)
    print(json.dumps(result.metrics)) if as_json else _tell(result)


def _tell(result: LoopResult) -> None:
    for one in result.metrics["rounds"]:
        print(_line(one))
    if result.bundle is None:
        print(f"\nreport  {result.report}\nopen    {result.open}")
        print("Next: the same command goes on; with --enough it takes the answers there are")
        return
    bundle, verified = result.metrics["end"]["bundle"], result.metrics["end"]["verified"]
    print(f"certificate  {bundle['images']} images, {bundle['flips']} flips, scores within {bundle['score']:.1e}")
    print(f"verified     {verified['checked']} images again, {verified['golden_images']} golden ones")
    print(f"ledger       {verified['ledger_entries']} entries (head {verified['ledger_head'][:16]})")
    print(f"\nbundle  {result.bundle}\nreport  {result.report}")
    inbox, out = Path("inbox"), Path("results")
    print(f"Next: pangu-cv watch {result.bundle} {inbox} --out {out}   (no torch needed)")


def _line(one: dict[str, Any]) -> str:
    asked, summary = one["asked"], one["measured"]["summary"]
    start = f"round {one['round']}: {asked['labelled']} labelled, {asked['answers']} answers, {asked['seconds']:.0f} s"
    if summary is None:
        return f"{start}; {one['learnt']['verdict']}"
    interval = summary["intervals"]["balanced_accuracy"]
    band = f" [{interval['low']:.1%}, {interval['high']:.1%}]" if interval and interval["low"] is not None else ""
    refused = " (update refused)" if one["learnt"]["accepted"] is False else ""
    return f"{start}; balanced accuracy {summary['balanced_accuracy']:.1%}{band}{refused}"
