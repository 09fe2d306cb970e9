"""Updates of a classifier of two colours."""

from pathlib import Path

from pangu_cv.iterate.ledger import Ledger
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.update import UpdateResult, update
from tests.finetune.tiny import COLOURS, picture, save

RED, GREEN, BLUE = COLOURS["red"], COLOURS["green"], COLOURS["blue"]


def folder(root: Path, first: int, count: int = 4, **classes: tuple[int, int, int]) -> Path:
    """Class folders of one colour each."""
    for name, colour in classes.items():
        for number in range(first, first + count):
            save(root / name / f"{number}.png", picture(colour, 10 * number + sum(colour)))
    return root


def asked(start: Path, tmp_path: Path, **changes: object) -> UpdateRecipe:
    tree = {
        "model": start / "start",
        "output": tmp_path / "next",
        "data": {"path": start / "new"},
        "gate": {"path": start / "gate"},
        "ledger": tmp_path / "ledger.jsonl",
        "by": "a test",
        "cache": False,
    }
    return UpdateRecipe.parse(tree | changes, origin="test")


def run(start: Path, tmp_path: Path, **changes: object) -> UpdateResult:
    return update(asked(start, tmp_path, **changes))


def entries(tmp_path: Path) -> list[tuple[str, dict]]:
    return [(e.event, e.facts) for e in Ledger(tmp_path / "ledger.jsonl").entries()]
