"""``pangu-cv ask``."""

import json
import shlex
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv.data.versions import folder_for, require_kin, writer
from pangu_cv.errors import SettingsError
from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session
from pangu_cv.iterate.ask.page import ask_on_page
from pangu_cv.iterate.ask.prepare import Prepared, prepare
from pangu_cv.iterate.ask.report import ask_report
from pangu_cv.iterate.ask.terminal import ask_in_terminal
from pangu_cv.iterate.ask.version import version_of, write_answers
from pangu_cv.iterate.next_step import finetune_command, update_command
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
    check: int = 40,
    most_wrong: float = 0.01,
    range_16bit: tuple[int, int] | None = None,
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
    check
        How many of the machine's labels people check at the end, at most one of 20 images; 0 checks none.
    most_wrong
        Share of them that may be wrong; with more the questions go on, with a stricter machine.
    range_16bit
        The 16-bit values that are shown black and white, 0 4095 of a 12-bit camera; default: the model's, or 0 65535.
    rename
        OLD=NEW, a class that has another name now.
    out
        Folder of this dataset's versions, where the answers become one.
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
        ready = prepare(images, classes=names, model=model, root=root, range_16bit=range_16bit, progress=progress)
    if out is not None:  # before anybody is asked
        require_kin(out, ready.dataset, parent=version_of(images, root))
    wanted = {
        "prices": {"bit_seconds": bit_seconds, "label_seconds": label_seconds},
        "checks": {"count": check, "most_wrong": most_wrong},
        "max_seconds": max_seconds,
    }
    session = Session(ready.subject, file, AskConfig.parse(wanted, origin="ask"))
    if ask and page:
        ask_on_page(session, port=port, address=address)
    elif ask:
        ask_in_terminal(session, by=by or writer() or "somebody", open_pictures=open_pictures)
    shown = report or answers.with_name(f"{answers.stem}.html")
    ask_report(shown, session, ready.skipped)
    written = None
    if out is not None:
        written, _ = write_answers(out, ready.dataset, session, pseudo=pseudo, source=images, root=root)
    told = _figures(session, ready) | {
        "report": str(shown),
        "version": written and str(written.folder),
        "missing": [str(sample.path) for sample in written.missing] if written else [],
    }
    if as_json:
        print(json.dumps(told))
        return
    _say(told, answers)
    if written is None:
        again = {"--classes": classes, "--model": model, "--root": root}
        words = ["ask", str(images), "--answers", str(answers)]
        words += [word for flag, value in again.items() if value for word in (flag, str(value))]
        words += ["--range-16bit", *map(str, range_16bit)] if range_16bit else []
        print(f"Next: pangu-cv {shlex.join([*words, '--no-ask', '--out', str(folder_for(images))])}")
    elif model and ready.learns_on:
        print(f"Next: {update_command(model, written.folder)}")
    else:
        spec = ready.subject.decode_spec
        print(f"Next: {finetune_command('classify', written.folder, spec.range_16bit)}")


def _pair(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise SettingsError(f"--rename '{text}': expected OLD=NEW")
    return old, new


def _figures(session: Session, ready: Prepared) -> dict[str, Any]:
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
        "answers_before_a_change": len(session.superseded),
        "about_images_not_here": session.elsewhere,
        "gone": session.gone,
        "unreadable": len(ready.skipped),
        "notes": list(ready.dataset.notes),
        "stopped": session.stopped,
    }


def _say(told: dict[str, Any], answers: Path) -> None:
    print(f"answers           {told['answers']}, {told['human_seconds']:.0f} human seconds")
    print(f"labelled          {told['labelled']} of {told['images']} images")
    print(f"taken over        {told['pseudo_labels']} by the machine, {told['open']} open")
    if checked := told["checked_right"] + told["checked_wrong"]:
        print(f"checked           {told['checked_right']} of {checked} of the machine's labels right")
    for key, words in (
        ("disputed", "images of which people disagree"),
        ("unsure", "images that somebody could not tell"),
        ("none_of_the_classes", "images that show none of the classes"),
        ("answers_before_a_change", "answers do not count: the version has another label since"),
        ("about_images_not_here", "images that were answered but are not here; their answers are kept"),
        ("unreadable", "unreadable images, named in the report"),
    ):
        if told[key]:
            print(f"! {told[key]} {words}")
    if told["gone"]:
        print(f"! {len(told['gone'])} images are gone since, first {told['gone'][0]}")
    for note in told["notes"]:
        print(f"! {note}")
    if told["missing"]:
        print(f"! {len(told['missing'])} of them stay in the version as missing, with their labels")
    print(f"\nanswers  {answers}\nreport   {told['report']}")
    if told["version"] is not None:
        print(f"version  {told['version']}")
