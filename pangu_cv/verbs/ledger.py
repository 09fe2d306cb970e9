"""``pangu-cv ledger check`` and ``pangu-cv ledger show``."""

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from pangu_cv.iterate.ledger import Entry, Ledger

_TAMPERED = 1


def check(file: Path, *, head: str | None = None) -> None:
    """Say whether a ledger is as it was written; exit code 1 where it is not.

    Parameters
    ----------
    file
        The ledger.
    head
        A digest that an earlier check printed, its first 8 digits or more: it must still be there. Nothing else shows
        that last lines were cut off.
    """
    ledger = Ledger(file)
    flaws = ledger.flaws(head=head)
    for flaw in flaws:
        print(f"line {flaw.line} {flaw.what}")
    if flaws:
        raise SystemExit(_TAMPERED)
    print(f"{len(ledger.entries())} entries, each bound to the one before")
    print(f"head    {ledger.head}")
    print("Next: keep the head elsewhere; 'pangu-cv ledger check --head' then shows whether lines were cut off")


def show(file: Path, *, as_json: Annotated[bool, Parameter(name="--json")] = False) -> None:
    """Tell which data made which model.

    Parameters
    ----------
    file
        The ledger.
    as_json
        Print the entries as JSON lines.
    """
    ledger = Ledger(file)
    ledger.require()
    for entry in ledger.entries():
        print(json.dumps(vars(entry)) if as_json else _told(entry))


def _told(entry: Entry) -> str:
    facts = entry.facts
    models = " → ".join(str(facts[key])[:12] for key in ("model_in", "model_out") if facts.get(key))
    learnt = ", ".join(f"{name} +{count}" for name, count in facts.get("learnt", {}).items())
    parts = [f"{entry.seq:4}  {entry.time}  {entry.event:8}", models, learnt, str(facts.get("by", ""))]
    return "  ".join(part for part in parts if part)
