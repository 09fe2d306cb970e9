"""Steps of a loop: each leaves a JSON file when it is done, and is not done again."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.errors import DataError, PanguError
from pangu_cv.iterate.ask import Session
from pangu_cv.iterate.pool import Sight
from pangu_cv.report.text import counted
from pangu_cv.staging import write_json
from pangu_cv.workflows.loop.people import People, is_answered
from pangu_cv.workflows.loop.recipe import LoopRecipe

FROZEN = "frozen"
Figures = dict[str, Any]
Say = Callable[[str], None]


class Paused(PanguError):
    """Questions are open and the person has stopped: not a mistake, the same command goes on."""


@dataclass
class Loop:
    """A loop on disk: everything it makes lies below ``home``. ``enough`` closes the first open questions, once."""

    recipe: LoopRecipe
    home: Path
    people: People
    say: Say
    enough: bool = False

    @property
    def frozen(self) -> Path:
        """The frozen set, as a dataset version."""
        return self.home / FROZEN

    @property
    def pool(self) -> Path:
        """Images that may be asked about, as a dataset version."""
        return self.home / "pool"

    @property
    def versions(self) -> Path:
        """What is labelled after each round."""
        return self.home / "versions"

    @property
    def answers(self) -> Path:
        """What people said of images that are learnt."""
        return self.home / "answers.jsonl"

    @property
    def ledger(self) -> Path:
        """Which data made which model."""
        return self.home / "ledger.jsonl"

    @property
    def store(self) -> Path:
        """Vectors of the images."""
        return self.home / "vectors"

    def name(self, path: Path) -> str:
        """Of something below the folder, wherever that will be moved."""
        return path.relative_to(self.home).as_posix()

    def sight(self) -> Sight:
        """What the images are seen with before there is a model."""
        recipe = self.recipe
        return Sight(recipe.task.backbone, recipe.task.preprocess, decode_spec=recipe.decode_spec)

    def ask(self, session: Session, what: str) -> None:
        """Let people answer; raises Paused where they stop before the end."""
        if is_answered(session):
            return
        if self.enough:
            self.enough = False
            return
        self.say(f"{what}: asking about {counted(int(session.is_open_N.sum()), 'image')}")
        self.people(session)
        if not is_answered(session):
            raise Paused(f"{what}: {counted(int(session.is_open_N.sum()), 'image')} still to be asked about")


def once(path: Path, do: Callable[[], Figures], *, key: str = "") -> Figures:
    """What the step left, where it was done with the same ``key``; else do it, and keep what it returns."""
    if path.is_file():
        kept = _read(path)
        if kept.pop("key", "") == key:
            return kept
    found = do()
    write_json(path, found | {"key": key})
    return found


def _read(path: Path) -> Figures:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: is not as it was written ({error}); remove it, and its step is done again") from None
