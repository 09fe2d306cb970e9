"""What the ledger is asked before an update and told after it."""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pangu_cv.data.config import DataConfig
from pangu_cv.data.versions import newest, read_version, recognises, writer
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.features import digest
from pangu_cv.iterate.ledger import Entry, Ledger
from pangu_cv.iterate.lessons import Labelled
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.settings import read_yaml

BEGUN, ACCEPTED, REFUSED = "begun", "update", "refused"


def model_digest(folder: Path) -> str:
    """SHA-256 over names and contents of a checkpoint's files."""
    total = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix in (".json", ".safetensors"):
            with path.open("rb") as stream:
                total.update(f"{path.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()


class _ToldError(Exception):
    """A line tells it already."""


@dataclass(frozen=True)
class Records:
    """The ledger of an update, the digest of the model it starts from, what has been told of it, and its checkpoint."""

    ledger: Ledger
    model_in: str
    entries: tuple[Entry, ...]
    checkpoint: Path

    @classmethod
    def open(cls, recipe: UpdateRecipe, checkpoint: Path) -> "Records":
        """Raises DataError for a ledger that was tampered with, or a model that has been updated already.

        Raises SettingsError where no ledger is named and none can lie beside the model.
        """
        records = cls.at(Ledger(Path(recipe.ledger) if recipe.ledger else ledger_of(checkpoint)), checkpoint)
        if not recipe.fork:
            records.require_newest()
        return records

    @classmethod
    def at(cls, ledger: Ledger, checkpoint: Path) -> "Records":
        """As it is now."""
        return cls(ledger, model_digest(checkpoint), tuple(ledger.entries()), checkpoint)

    def require_newest(self) -> None:
        """Raises DataError where another update has started from the same model and went in."""
        for entry in self.entries:
            if entry.event == ACCEPTED and entry.facts.get("model_in") == self.model_in:
                raise DataError(
                    f"this model was updated already, by {_who(entry)} on {entry.time}: "
                    f"'{entry.facts.get('output')}' (line {entry.seq} of {self.ledger.path}). Update that one, so that "
                    "nothing of it is lost, or say --fork"
                )

    def id_of(self, id: str, recipe: UpdateRecipe) -> str:
        """The id of the update's line: ``id``, or a fresh one where what was made of it is lost and is made again.

        Raises DataError where the same update was given before and was refused, or is there still, or without --fork.
        """
        for entry in self.entries:
            if entry.id != id:
                continue
            is_lost = entry.event == ACCEPTED and not (Path(entry.facts["output"]) / "model").exists()
            if not (is_lost and recipe.fork):
                what = "went in" if entry.event == ACCEPTED else "was refused by its gate"
                raise DataError(
                    f"this very update was given before, on {entry.time} by {_who(entry)}, and {what}: "
                    f"'{entry.facts.get('output')}' (line {entry.seq} of {self.ledger.path})"
                )
            id = digest(id, "made again")  # later lines may have made it again already
        return id

    @property
    def gate(self) -> dict[str, Any] | None:
        """The frozen set that this model, or one made from it, was held to last.

        What was refused leaves no mark, and the line of what made the first model knows of none.
        """
        for entry in reversed(self.entries):
            facts = entry.facts
            if entry.event not in (BEGUN, REFUSED) and self.model_in in (facts.get("model_out"), facts.get("model_in")):
                found = facts.get("gate")
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

    def frozen_names(self, frozen: Labelled, classes: Sequence[str], renamed: Mapping[str, str]) -> dict[str, str]:
        """What the model calls labels of the frozen set that it has another name for, once ``renamed`` holds.

        The set keeps its labels while classes get other names, and what they mean is kept with it in the ledger. In a
        set that is not the one of the ledger a label that is the name of a class means this class.
        """
        known = self.gate or {}
        before, is_same = known.get("names", {}), known.get("digest") == frozen.fingerprint
        found = {}
        for label in sorted({*frozen.counts, *before, *renamed}):
            meant = before.get(label, label)
            order = (meant, label) if is_same else (label, meant)
            was = next((name for name in order if name in classes), label)
            found[label] = renamed.get(was, was)
        return {label: name for label, name in found.items() if name != label}

    def write(self, event: str, id: str, recipe: UpdateRecipe, facts: dict[str, Any]) -> Entry:
        """Tell what became of the update; raises DataError where another one has gone in since this one began."""
        self._begin(recipe)
        may_be_late = event == ACCEPTED and not recipe.fork
        return self.ledger.append(
            event,
            id=id,
            check=(lambda entries: replace(self, entries=entries).require_newest()) if may_be_late else None,
            by=recipe.by or writer(),
            model_in=self.model_in,
            model=str(recipe.model),
            output=str(recipe.output.resolve()),
            **facts,
        )

    def _begin(self, recipe: UpdateRecipe) -> None:
        """Tell what made the model that updates start from, where no line does, as far as its run folder says it."""

        def require_untold(entries: Sequence[Entry]) -> None:
            if any(line.facts.get("model_out") == self.model_in for line in entries):
                raise _ToldError

        run = _run_of(self.checkpoint)
        manifest = json.loads((self.checkpoint / "model.json").read_text(encoding="utf-8"))
        with suppress(_ToldError):
            self.ledger.append(
                BEGUN,
                check=require_untold,
                by=recipe.by or writer(),
                model_out=self.model_in,
                output=str(run),
                data=_named_in(run / "recipe.yaml"),
                data_hash=manifest["data_hash"],
            )


def _named_in(recipe: Path) -> dict[str, Any] | None:
    """The images that a recipe names; None where it is gone or names none."""
    try:
        data = read_yaml(recipe).get("data")
    except SettingsError:
        return None
    return {key: data.get(key) for key in ("path", "root", "layout")} if isinstance(data, dict) else None


def ledger_of(checkpoint: Path) -> Path:
    """The ledger that tells where a model comes from, or the one to begin: beside its run folder.

    Raises SettingsError where nothing can be written there.
    """
    run = _run_of(checkpoint)
    recorded = _recorded_in(run)
    if recorded is not None and recorded.is_file():
        return recorded
    if not os.access(run.parent, os.W_OK):
        raise SettingsError(
            f"the ledger lies beside the model's run folder, and '{run.parent}' is read-only; name one: --ledger FILE"
        )
    return run.parent / "ledger.jsonl"


def _run_of(checkpoint: Path) -> Path:
    """Its run folder; a model that was copied out of one is alone."""
    folder = checkpoint.resolve()
    return folder.parent if folder.name == "model" else folder


def _recorded_in(run: Path) -> Path | None:
    """The ledger that an update's run folder names."""
    try:
        name = json.loads((run / "metrics.json").read_text(encoding="utf-8")).get("ledger")
    except (OSError, ValueError, AttributeError):
        return None
    return Path(name) if isinstance(name, str) else None


def _who(entry: Entry) -> str:
    return entry.facts.get("by") or "somebody without a user name"


def data_facts(data: DataConfig | None, images: Labelled | None) -> dict[str, Any] | None:
    """What the ledger says of a set of images."""
    if data is None or images is None:
        return None
    path = newest(data.path) or data.path  # of a folder of versions the one that was read
    return {
        "path": str(path.resolve()),
        "version": read_version(path, images=data.root).digest if recognises(path) else None,
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
