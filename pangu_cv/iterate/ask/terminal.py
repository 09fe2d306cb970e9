"""Questions in the terminal: one line each, one key an answer."""

import sys
import time
import webbrowser
from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from pangu_cv.iterate.ask import Asked, Session
from pangu_cv.report.text import readable

_HELP = "y yes · n no · u unsure · the number of a class · o open the picture · b back · q quit"


def ask_in_terminal(
    session: Session,
    *,
    by: str,
    read: Callable[[str], str] = input,
    console: Console | None = None,
    open_pictures: bool = False,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Ask until the session stops or the person does; an end of the input is a quit, and nothing is lost."""
    console = console or Console(file=sys.stdout, highlight=False)
    _classes(session, console)
    asked = session.next(by)
    while asked is not None:
        if open_pictures:
            webbrowser.open(session.subject.images[asked.row].resolve().as_uri())
        began = clock()
        try:
            asked = _one(session, asked, by, read, console, began, clock)
        except (EOFError, KeyboardInterrupt):
            asked = None
    _end(session, console)


def _one(
    session: Session,
    asked: Asked,
    by: str,
    read: Callable[[str], str],
    console: Console,
    began: float,
    clock: Callable[[], float],
) -> Asked | None:
    """Show one question until a key answers it; returns the next."""
    _show(session, asked, console)
    while True:
        key = read("> ").strip().lower()
        seconds = clock() - began
        if key == "q":
            return None
        if key == "b":
            if (again := session.undo(by)) is not None:
                return again
            console.print("there is nothing to take back")
        elif key == "o":
            webbrowser.open(session.subject.images[asked.row].resolve().as_uri())
        elif key == "u":
            session.take(asked, "unsure", seconds=seconds)
            return session.next(by)
        elif key in ("y", "n") and asked.klass is not None:
            session.take(asked, "yes" if key == "y" else "no", seconds=seconds)
            return session.next(by)
        elif key.isascii() and key.isdigit() and 1 <= int(key) <= len(session.subject.classes):
            session.take(asked, "label", seconds=seconds, klass=session.subject.classes[int(key) - 1])
            return session.next(by)
        else:
            console.print(_HELP)


def _show(session: Session, asked: Asked, console: Console) -> None:
    told = int((session.label_N >= 0).sum())
    where = escape(readable(session.subject.images[asked.row]))
    console.print(f"\n[dim]{told} of {len(session.label_N)} known, {session.known.seconds:.0f} s[/dim]  {where}")
    if asked.klass is None:
        _classes(session, console)
        console.print("[bold]Which class is it?[/bold] (its number)")
    else:
        again = "People disagree. " if asked.is_disputed else "Another look. " if asked.kind == "second look" else ""
        console.print(f"{again}[bold]Is this '{escape(readable(asked.klass))}'?[/bold] y/n")


def _classes(session: Session, console: Console) -> None:
    names = "   ".join(f"{at} {escape(readable(name))}" for at, name in enumerate(session.subject.classes, start=1))
    console.print(f"{names}\n[dim]{_HELP}[/dim]")


def _end(session: Session, console: Console) -> None:
    reason = session.stopped or "stopped by you; go on any time with the same command"
    console.print(f"\n{reason}: {session.known.answers} answers, {session.known.seconds:.0f} human seconds")
