"""What the ledger is asked before an update and told after it."""

import getpass
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pangu_cv.data.config import DataConfig
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.iterate.ledger import Entry, Ledger
from pangu_cv.iterate.lessons import Labelled
from pangu_cv.iterate.recipe import UpdateRecipe

ACCEPTED, REFUSED = "update", "refused"


def model_digest(folder: Path) -> str:
    """SHA-256 over names and contents of a checkpoint's files."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors"):
            with path.open("rb") as stream:
                total.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


@dataclass(frozen=True)
class Records:
    """The ledger of an update, the digest of the model it starts from, and what has been told of that model."""

    ledger: Ledger
    model_in: str
    entries: tuple[Entry, ...]

    @classmethod
    def open(cls, recipe: UpdateRecipe, checkpoint: Path) -> "Records":
        """Raises DataError for a ledger that was tampered with, or a model that has been updated already."""
        output = Path(recipe.output).resolve()
        records = cls.at(Ledger(recipe.ledger or output.parent / "ledger.jsonl"), checkpoint)
        if not recipe.fork:
            records.require_newest()
        return records

    @classmethod
    def at(cls, ledger: Ledger, checkpoint: Path) -> "Records":
        """As it is now."""
        return cls(ledger, model_digest(checkpoint), tuple(ledger.entries()))

    def require_newest(self) -> None:
        """Raises DataError where another update has started from the same model and went in."""
        for entry in self.entries:
            if entry.event == ACCEPTED and entry.facts.get("model_in") == self.model_in:
                raise DataError(
                    f"this model was updated already, by {entry.facts.get('by')} on {entry.time}: "
                    f"'{entry.facts.get('output')}' (line {entry.seq} of {self.ledger.path}). Update that one, so that "
                    "nothing of it is lost, or say --fork"
                )

    def require_new(self, id: str) -> None:
        """Raises DataError where the very same update was given before."""
        for entry in self.entries:
            if entry.id == id:
                what = "went in" if entry.event == ACCEPTED else "was refused by its gate"
                raise DataError(
                    f"this very update was given before, on {entry.time} by {entry.facts.get('by')}, and {what}: "
                    f"'{entry.facts.get('output')}' (line {entry.seq} of {self.ledger.path})"
                )

    @property
    def gate(self) -> dict[str, Any] | None:
        """The frozen set that this model, or the one it was made from, was held to last."""
        for entry in reversed(self.entries):
            if self.model_in in (entry.facts.get("model_out"), entry.facts.get("model_in")):
                found = entry.facts.get("gate")
                return dict(found) if found else None
        return None

    def require_same_gate(self, frozen: Labelled, recipe: UpdateRecipe) -> None:
        """Raises SettingsError where the frozen set is not the one that the ledger knows for this model."""
        known = self.gate
        if known is None or recipe.new_gate or known["digest"] == frozen.fingerprint:
            return
        raise SettingsError(
            f"--gate: the frozen set has changed: {known['images']} images with the digest {known['digest']} before, "
            f"{len(frozen.labels)} with {frozen.fingerprint} now. Images or labels were added, changed or are gone; "
            "bring it back as it was, or say --new-gate, and the ledger will know the new one"
        )

    def write(self, event: str, id: str, recipe: UpdateRecipe, facts: dict[str, Any]) -> Entry:
        """Tell what became of the update."""
        if event == ACCEPTED and not recipe.fork:  # another one may have gone in since this one began
            Records(self.ledger, self.model_in, tuple(self.ledger.entries())).require_newest()
        return self.ledger.append(
            event,
            id=id,
            by=recipe.by or getpass.getuser(),
            model_in=self.model_in,
            model=str(recipe.model),
            output=str(recipe.output),
            **facts,
        )


def data_facts(data: DataConfig | None, images: Labelled | None) -> dict[str, Any] | None:
    """What the ledger says of a set of images."""
    if data is None or images is None:
        return None
    return {
        "path": str(data.path.resolve()),
        "root": str(data.root.resolve()) if data.root else None,
        "layout": data.layout,
        "digest": images.fingerprint,
        "images": len(images.labels),
        "counts": images.counts,
        "unreadable": len(images.skipped),
    }


def frozen_data(recipe: UpdateRecipe, records: Records) -> DataConfig:
    """The frozen set; raises SettingsError where neither flag nor ledger say."""
    if recipe.gate is not None:
        return recipe.gate
    if records.gate is None:
        raise SettingsError(
            "--gate: name a frozen set, labelled images that are never learnt: an update that makes the model worse on "
            "them is refused. The ledger knows none for this model yet; later updates find it there"
        )
    return DataConfig.model_validate({key: records.gate[key] for key in ("path", "root", "layout")})


def named(paths: Sequence[object], most: int = 5) -> str:
    """The first few in words."""
    return ", ".join(str(one) for one in paths[:most]) + ", …" * (len(paths) > most)
