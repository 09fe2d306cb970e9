"""The page of a session: what was asked, what it cost, what remains doubtful."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from pangu_cv.errors import ImageError
from pangu_cv.features import Skipped
from pangu_cv.iterate.answers import Said
from pangu_cv.iterate.ask import Session
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.picture import Picture
from pangu_cv.report.skipped import add_skipped
from pangu_cv.report.text import percent, shortened
from pangu_runtime.decode import decode

_SHOWN = 24


def ask_report(path: Path, session: Session, skipped: Sequence[Skipped]) -> None:
    """Write it."""
    known, subject = session.known, session.subject
    page = Page("Questions and answers", f"{len(subject.images)} images, {len(subject.classes)} classes")
    stopped = session.stopped
    page.verdict(
        f"{stopped[0].upper()}{stopped[1:]}." if stopped else "Not finished.", "good" if stopped else "neutral"
    )
    labelled = int((session.label_N >= 0).sum())
    page.tiles(
        [
            Tile("Answers", str(known.answers)),
            Tile("Human seconds", f"{known.seconds:.0f}"),
            Tile("Labelled by people", f"{labelled}", f"of {len(subject.images)} images"),
            Tile("Taken over by the machine", str(len(session.pseudo_labels)), "no labels unless --pseudo"),
            Tile("Checked by people", *_checked(session)),
            Tile("Open", str(int(session.is_open_N.sum()))),
        ]
    )
    _counts(page, session)
    _disputes(page, session)
    doubtful = session.doubtful[:_SHOWN]
    if doubtful:
        page.section("What remains doubtful", "The most doubtful images without a label.")
        page.gallery([picture for row in doubtful if (picture := _picture(session, row))])
    for name in session.gone[:_SHOWN]:
        page.note(f"gone since the session began: {name}; its answers are kept")
    if session.elsewhere:
        page.note(f"{session.elsewhere} images were answered but are not among these; their answers are kept")
    add_skipped(page, tuple(skipped))
    page.write(path)


def _checked(session: Session) -> tuple[str, str]:
    """Labels of the machine that a person was shown by chance, and how many wrong ones that leaves possible."""
    found = session.checks
    count = found.right + found.wrong
    if not count:
        return "none", "people check once the fronts have met"
    from scipy.stats import binomtest  # type: ignore[import-untyped]

    most = binomtest(found.wrong, count).proportion_ci(0.95).high
    return f"{found.right} of {count} right", f"at most {percent(float(most))} wrong (95 %)"


def _counts(page: Page, session: Session) -> None:
    answers = session.file.read()
    said = Counter((answer.klass, answer.said) for answer in answers)
    seconds: Counter[str] = Counter()
    for answer in answers:
        seconds[answer.klass] += answer.seconds  # type: ignore[assignment]
    page.section("What was asked")
    rows = [
        (shortened(name, 40), *(said[(name, word)] for word in get_args(Said)), f"{seconds[name]:.0f}")
        for name in session.subject.classes
    ]
    page.table(["class", "yes", "no", "not sure", "named", "taken back", "seconds"], rows)
    people: Counter[str] = Counter(answer.by for answer in answers)
    page.table(["who", "answers"], [(shortened(name, 40), count) for name, count in people.most_common()])


def _disputes(page: Page, session: Session) -> None:
    disputed = session.known.disputed
    if not disputed:
        return
    names = dict(zip(session.subject.digests, map(session.subject.name, range(len(session.label_N))), strict=True))
    page.section("Where people disagree", "Neither a label nor struck out until somebody decides.")
    rows = [(shortened(names.get(key, key), 60), ", ".join(sorted(classes))) for key, classes in disputed.items()]
    page.table(["image", "classes"], rows)


def _picture(session: Session, row: int) -> Picture | None:
    shares = session.shares_NC[row]
    best = shares.argsort()[::-1][:2]
    told = ", ".join(f"{session.subject.classes[at]} {percent(float(shares[at]))}" for at in best if shares[at] > 0)
    subject = session.subject
    try:
        image = decode(subject.images[row], spec=subject.decode_spec)
        return Picture(image, subject.name(row), told or "none of the classes")
    except ImageError:
        return None
