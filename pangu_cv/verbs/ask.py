"""``pangu-cv ask``."""

import json
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv.data.versions import writer
from pangu_cv.errors import SettingsError
from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session
from pangu_cv.iterate.ask.page import ask_on_page
from pangu_cv.iterate.ask.prepare import prepare
from pangu_cv.iterate.ask.report import ask_report
from pangu_cv.iterate.ask.terminal import ask_in_terminal
from pangu_cv.iterate.ask.version import write_answers
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.progress import bar


def ask(
    images: Path,
    *,
    answers: Path = Path("answers.jsonl"),
    classes: str = "",
    model: Path | None = None,
    root: Path | None = None,
    page: bool = False,
    port: int = 8765,
    address: str = "127.0.0.1",
    by: str | None = None,
    open_pictures: Annotated[bool, Parameter(negative="")] = False,
    max_seconds: float | None = None,
    bit_seconds: float = 1.5,
    label_seconds: float = 5.0,
    rename: tuple[str, ...] = (),
    out: Path | None = None,
    pseudo: Annotated[bool, Parameter(negative="")] = False,
    report: Path | None = None,
    ask: bool = True,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Ask people one bit at a time, "is this a scratch?", until the machine can take the rest over.

    In the terminal, or with --page on a small page for a phone. Every answer is kept at once; the same command goes on.

    Parameters
    ----------
    images
        A folder of images, or any dataset: labels that it has are known from the start.
    answers
        The file of answers; several people may write to one.
    classes
        What the images can show, separated by commas; default: the model's, or those of the labels.
    model
        A classifier (a run folder) whose classes these are, or any model to see with.
    root
        Folder that the files of CSV tables are relative to.
    page
        Serve the page instead of asking in the terminal.
    port
        Where the page listens.
    address
        0.0.0.0 shows it in the whole network, to who has the link.
    by
        Your name; default: the name you are logged in with.
    open_pictures
        Terminal: open each picture in its usual program.
    max_seconds
        Human seconds after which nothing more is asked.
    bit_seconds
        What a yes or no costs.
    label_seconds
        What naming the class costs; dear names are asked for less.
    rename
        OLD=NEW, a class that has another name now.
    out
        Folder of the dataset's versions, where the answers become one.
    pseudo
        Also write what the machine took over, marked as such.
    report
        The page of the session; default: beside the answers.
    ask
        --no-ask asks nothing and only writes.
    as_json
        Print the figures as JSON at the end.
    """
    file = AnswerFile(answers)
    for old, new in map(_pair, rename):
        print(f"{file.rename(old, new)} answers about '{old}' are about '{new}' now")
    names = tuple(name.strip() for name in classes.split(",")) if classes else ()
    with bar("embedding") as progress:
        ready = prepare(images, classes=names, model=model, root=root, progress=progress)
    prices = PricesConfig(bit_seconds=bit_seconds, label_seconds=label_seconds)
    session = Session(ready.subject, file, AskConfig(prices=prices, max_seconds=max_seconds))
    if ask and page:
        ask_on_page(session, port=port, address=address)
    elif ask:
        ask_in_terminal(session, by=by or writer() or "somebody", open_pictures=open_pictures)
    shown = report or answers.with_name(f"{answers.stem}.html")
    ask_report(shown, session, ready.skipped)
    written = None
    if out is not None:
        written, _ = write_answers(out, ready.dataset, session, pseudo=pseudo, source=images)
    told = _figures(session, ready.skipped) | {"report": str(shown), "version": written and str(written.folder)}
    print(json.dumps(told)) if as_json else _say(told, answers, images, model)


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise SettingsError(f"--rename '{text}': expected OLD=NEW")
    return old, new


def _figures(session: Session, skipped: tuple[Any, ...]) -> dict[str, Any]:
    known = session.known
    return {
        "images": len(session.label_N),
        "answers": known.answers,
        "human_seconds": round(known.seconds, 1),
        "labelled": int((session.label_N >= 0).sum()),
        "pseudo_labels": len(session.pseudo_labels),
        "checked_right": session.checks.right,
        "checked_wrong": session.checks.wrong,
        "open": int(session.is_open_N.sum()),
        "disputed": len(known.disputed),
        "unsure": len(known.unsure),
        "none_of_the_classes": int(session.struck_NC.all(1).sum()),
        "about_images_not_here": session.elsewhere,
        "gone": session.gone,
        "unreadable": len(skipped),
        "stopped": session.stopped,
    }


def _say(told: dict[str, Any], answers: Path, images: Path, model: Path | None) -> None:
    print(f"answers           {told['answers']}, {told['human_seconds']:.0f} human seconds")
    print(f"labelled          {told['labelled']} of {told['images']} images")
    print(f"taken over        {told['pseudo_labels']} by the machine, {told['open']} open")
    if checked := told["checked_right"] + told["checked_wrong"]:
        print(f"checked           {told['checked_right']} of {checked} of the machine's labels right")
    for key, words in (
        ("disputed", "images of which people disagree"),
        ("unsure", "images that somebody could not tell"),
        ("none_of_the_classes", "images that show none of the classes"),
        ("about_images_not_here", "images that were answered but are not here; their answers are kept"),
        ("unreadable", "unreadable images, named in the report"),
    ):
        if told[key]:
            print(f"! {told[key]} {words}")
    if told["gone"]:
        print(f"! {len(told['gone'])} images are gone since, first {told['gone'][0]}")
    print(f"\nanswers  {answers}\nreport   {told['report']}")
    if told["version"] is None:
        print(f"Next: pangu-cv ask {images} --answers {answers} --no-ask --out versions")
        return
    print(f"version  {told['version']}")
    run = f"update {model} --data" if model else "finetune classify"
    print(f"Next: pangu-cv {run} {'' if model else 'data.path='}{told['version']}{' --out runs/next' if model else ''}")
