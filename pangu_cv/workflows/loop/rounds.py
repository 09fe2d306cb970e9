"""One round: choose images, ask about them, learn what was answered, measure on the frozen set."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pangu_cv.data.config import DataConfig
from pangu_cv.data.sample import Dataset, Sample, Split
from pangu_cv.data.versions import newest, read_version, write_version
from pangu_cv.errors import RegressionError
from pangu_cv.evaluate import test_samples
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.finetune.recipe import FewShotConfig
from pangu_cv.iterate.answers import AnswerFile, known
from pangu_cv.iterate.ask import Session
from pangu_cv.iterate.ask.prepare import prepare
from pangu_cv.iterate.ask.report import ask_report
from pangu_cv.iterate.ask.version import write_answers
from pangu_cv.iterate.ledger import Entry, Ledger
from pangu_cv.iterate.lessons import labelled
from pangu_cv.iterate.mine import MineRecipe, mine
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.records import REFUSED, data_facts, model_digest
from pangu_cv.iterate.update import update
from pangu_cv.progress import bar
from pangu_cv.report.text import counted
from pangu_cv.workflows.loop.measure import measured
from pangu_cv.workflows.loop.news import can_teach
from pangu_cv.workflows.loop.steps import Figures, Loop, once

BEGUN = "finetune"  # the ledger's word for a loop's first model


@dataclass(frozen=True)
class Round:
    """What became of a round: which images and why, what was asked, what was learnt, how good that is."""

    number: int
    home: Path
    mined: Figures
    asked: Figures
    learnt: Figures
    measured: Figures

    @property
    def model(self) -> Path | None:
        """The run folder of the model after the round; None while fewer than two classes have been found."""
        name: str | None = self.learnt["model"]
        return self.home / name if name else None

    @property
    def version(self) -> Path:
        """What is labelled after the round."""
        return Path(self.home, self.asked["version"])


def run_round(loop: Loop, number: int, before: Round | None) -> Round:
    """Do what is not done yet; raises Paused where questions are open."""
    folder = loop.home / f"round_{number}"
    mined = once(folder / "mined.json", lambda: _mine(loop, folder, before))
    asked = once(folder / "asked.json", lambda: _ask(loop, folder, mined, before))
    learnt = once(folder / "learnt.json", lambda: _learn(loop, folder, asked, before))
    model = loop.home / learnt["model"] if learnt["model"] else None
    found = once(folder / "measured.json", lambda: measured(loop, model))
    return Round(number, loop.home, mined, asked, learnt, found)


def _mine(loop: Loop, folder: Path, before: Round | None) -> Figures:
    recipe = loop.recipe
    loop.say(f"{folder.name}: choosing {recipe.count} images that are worth a question")
    wanted = MineRecipe(
        images=loop.pool,
        goal=recipe.goal,
        model=before.model if before else None,
        backbone=recipe.task.backbone,
        preprocess=recipe.task.preprocess,
        range_16bit=recipe.range_16bit,
        labels=loop.answers if loop.answers.is_file() else None,
        classes=recipe.classes,
        count=recipe.count,
        output=folder / "mined",
        store=loop.store,
        seed=recipe.seed,
    )
    found = mine(wanted)
    said = AnswerFile(loop.answers).read()
    return {
        "images": [[str(found.pool.images[pick.place]), pick.reason] for pick in found.picks],
        "reasons": found.metrics["reasons"],
        "report": loop.name(found.report),
        "answers_before": len(said),
        "seconds_before": known(said).seconds,
    }


def _ask(loop: Loop, folder: Path, mined: Figures, before: Round | None) -> Figures:
    recipe = loop.recipe
    model = before.model if before else None
    questions = _questions(folder / "questions", mined, before)
    with bar("embedding") as progress:
        ready = prepare(
            questions,
            classes=recipe.classes,
            model=model,
            root=None,
            sight=loop.sight(),
            store=loop.store,
            progress=progress,
        )
    limit = recipe.ask.max_seconds
    until = None if limit is None else mined["seconds_before"] + limit
    session = Session(ready.subject, AnswerFile(loop.answers), recipe.ask.model_copy(update={"max_seconds": until}))
    loop.ask(session, folder.name)
    ask_report(folder / "asked.html", session, ready.skipped)
    source = before.version if before else questions
    version, _ = write_answers(
        loop.versions, _with_frozen(loop, ready.dataset, session), session, pseudo=False, source=source
    )
    earlier = _labels(before.version) if before else {}
    now = _labels(version.folder)
    return {
        "version": loop.name(version.folder),
        "labelled": len(now),
        "counts": {name: list(now.values()).count(name) for name in recipe.classes},
        "is_new": now != earlier,
        "answers": session.known.answers,
        "seconds": round(session.known.seconds, 1),
        "stopped": session.stopped or "enough",
        "by": loop.people.name,
        "report": loop.name(folder / "asked.html"),
    }


def _questions(folder: Path, mined: Figures, before: Round | None) -> Path:
    """The chosen images beside all that is labelled already, as a version."""
    if newest(folder) is None:
        known_before = _learnable(before.version) if before else []
        chosen = [Sample(Path(path), split="train") for path, _ in mined["images"]]
        samples = tuple({sample.path: sample for sample in (*chosen, *known_before)}.values())
        root = read_version(before.version).dataset.root if before else chosen[0].path.parent
        write_version(folder, Dataset(root, "images", samples), note="to be asked about")
    return folder


def _learnable(version: Path) -> list[Sample]:
    return [s for s in read_version(version).dataset if s.split == "train" and s.label is not None]


def _labels(version: Path) -> dict[Path, str]:
    return {sample.path: str(sample.label) for sample in _learnable(version)}


def _with_frozen(loop: Loop, dataset: Dataset, session: Session) -> Dataset:
    """The frozen images as the test part, but for classes that nobody has found yet."""
    found = {session.subject.classes[number] for number in session.label_N.tolist() if number >= 0}
    frozen = tuple(sample for sample in _frozen(loop) if sample.label in found)
    return Dataset(dataset.root, dataset.layout, (*dataset.samples, *frozen))


def _frozen(loop: Loop) -> Sequence[Sample]:
    return test_samples(DataConfig(path=loop.frozen).read())


def _learn(loop: Loop, folder: Path, asked: Figures, before: Round | None) -> Figures:
    """The first model, or the next one behind its gate, or the one before where there is nothing new."""
    model = before.model if before else None
    same = {"model": None if model is None else loop.name(model), "accepted": None, "report": None}
    if model is None and sum(count > 0 for count in asked["counts"].values()) < 2:
        return same | {"how": "nothing", "verdict": "Fewer than two classes were found so far: there is no model yet."}
    if model is not None and not (asked["is_new"] and can_teach(_labels(loop.home / asked["version"]), model)):
        return same | {"how": "nothing", "verdict": "No new label: the model stays as it is."}
    output = folder / "learnt"
    entry = _entry(loop, output)
    if entry is None:
        shutil.rmtree(output, ignore_errors=True)  # a killed run's; the ledger is told last
        _begin(loop, output, asked) if model is None else _update(loop, output, asked, model)
        entry = _entry(loop, output)
    assert entry is not None, "both write a line"
    accepted = entry.event != REFUSED
    first = f"The first model, of {counted(asked['labelled'], 'labelled image')}."
    return {
        "how": entry.event,
        "model": loop.name(output if accepted or model is None else model),
        "accepted": accepted,
        "verdict": first if model is None else _verdict(entry.facts["gate"], accepted=accepted),
        "report": loop.name(output / "report.html"),
    }


def _entry(loop: Loop, output: Path) -> Entry | None:
    """What the ledger says became of the model that was to be written there; None where it says nothing."""
    entries = Ledger(loop.ledger).entries()
    return next((one for one in reversed(entries) if one.facts.get("output") == str(output)), None)


def _verdict(gate: Figures, *, accepted: bool) -> str:
    (figure,) = gate["figures"].values()
    return (
        f"{'Accepted' if accepted else 'Refused, the model before stays'}: balanced accuracy "
        f"{100 * figure['before']:.1f} → {100 * figure['after']:.1f} % on "
        f"{counted(gate['compared'], 'frozen image')} of the classes it knew; {gate['lost']} lost, {gate['won']} won "
        f"(limit: {100 * gate['limit']:g} points lower)."
    )


def _begin(loop: Loop, output: Path, asked: Figures) -> None:
    recipe = loop.recipe
    loop.say(f"{output.parent.name}: fitting the first model to {counted(asked['labelled'], 'labelled image')}")
    version = loop.home / asked["version"]
    data = DataConfig(path=version, range_16bit=recipe.range_16bit, licence=recipe.licence)
    finetune(
        FinetuneRecipe(
            task=recipe.task, data=data, few_shot=FewShotConfig(shots=None), output=output, cache=recipe.cache
        )
    )
    Ledger(loop.ledger).append(
        BEGUN,
        by=loop.people.name,
        output=str(output),
        model_out=model_digest(output / "model"),
        learnt=asked["counts"],
        data=_facts(data, "train"),
        gate=_facts(DataConfig(path=loop.frozen), "test"),
    )


def _facts(data: DataConfig, part: Split) -> Figures | None:
    """What the ledger says of one part of a dataset."""
    dataset = data.read()
    return data_facts(data, labelled(data, dataset.split(part), dataset, task="classify"))


def _update(loop: Loop, output: Path, asked: Figures, model: Path) -> None:
    recipe = loop.recipe
    loop.say(f"{output.parent.name}: learning on, behind the gate")
    wanted = UpdateRecipe(
        model=model,
        output=output,
        data=DataConfig(path=loop.home / asked["version"]),
        gate=DataConfig(path=loop.frozen),
        max_drop=recipe.max_drop_points / 100,
        relabel=True,  # the latest word on an image counts
        ledger=loop.ledger,
        by=loop.people.name,
        cache=recipe.cache,
    )
    try:
        update(wanted)
    except RegressionError:
        loop.say(f"{output.parent.name}: the gate refused the update; the model before stays")
