"""``pangu-cv inspect``: a dataset beside a model's answers, in FiftyOne or on a page, and people's changes back."""

import hashlib
import json
import shlex
import sys
import tempfile
import time
import webbrowser
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from pangu_cv.data import versions
from pangu_cv.data.changes import in_words
from pangu_cv.data.check import read_or_list
from pangu_cv.data.config import dataset_title
from pangu_cv.data.sample import Dataset
from pangu_cv.data.versions import Version, content_digest, folder_for, newest, read_version, write_version
from pangu_cv.errors import DataError, PanguError, SettingsError
from pangu_cv.iterate.inspect.app import app
from pangu_cv.iterate.inspect.back import Collected, mark_collected, uncollected
from pangu_cv.iterate.inspect.back import collect as collect_changes
from pangu_cv.iterate.inspect.database import open_fiftyone
from pangu_cv.iterate.inspect.findings import Collector, Finding, is_multilabel
from pangu_cv.iterate.inspect.look import looks
from pangu_cv.iterate.inspect.model import Looker, open_looker
from pangu_cv.iterate.inspect.out import DOUBTFUL, Sender, kept
from pangu_cv.iterate.inspect.sheet import write_sheet
from pangu_cv.iterate.next_step import finetune_command
from pangu_cv.progress import bar
from pangu_runtime.sixteen_bit import FULL_RANGE_16BIT

_PAGE = Path("inspect.html")  # where there is no FiftyOne and none was asked for


@dataclass(frozen=True)
class _Subject:
    """What is looked at: as it is read now, the version it is (None: the source itself), its name in FiftyOne."""

    dataset: Dataset
    version: Version | None
    name: str


def inspect(
    data: Path,
    *,
    model: Path | None = None,
    root: Path | None = None,
    range_16bit: tuple[int, int] | None = None,
    name: str | None = None,
    port: int = 5151,
    address: str = "127.0.0.1",
    open: bool = True,
    serve: bool = True,
    renew: bool = False,
    page: Path | None = None,
    collect: bool = False,
    out: Path | None = None,
    note: str = "",
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Show a dataset beside a model's answers in FiftyOne, or on a page where that is not installed.

    Labels, answers, heat maps, doubts, duplicates, likely label errors and a flat view of all images. What people
    change there comes back with --collect as a new version of the dataset; no file of yours is written to.

    Tags on images: accept (the model is right), reject (it is wrong), relabel:CLASS, unlabel, remove, unsure. On single
    boxes: accept, reject, relabel:CLASS. Labels and boxes can also be edited in place.

    Parameters
    ----------
    data
        Any dataset that 'pangu-cv data check' reads, a dataset version, or a folder of images.
    model
        A bundle, a run or a checkpoint, of any task.
    root
        Folder that the files of a table are relative to; of a version: where its images are, if they have moved.
    range_16bit
        The 16-bit values that are black and white, 0 4095 of a 12-bit camera; default: the model's, or 0 65535. The App
        shows files as a browser does; the page shows them so.
    name
        The dataset's name in FiftyOne; default: the folder's.
    port
        Where the App listens.
    address
        The App has no password: any other address than this machine's own shows your images to all who reach it.
    open
        Open a browser.
    serve
        Start the App; --no-serve only sends.
    renew
        Send anew although people's changes in FiftyOne have not been collected; they are lost then.
    page
        Write a page with the most suspicious images to this file, beside FiftyOne.
    collect
        Bring the changes back instead of sending: into the folder of versions that --out names.
    out
        Folder of this dataset's versions: v0001, v0002 …
    note
        A sentence about why, kept in the version.
    as_json
        Print JSON.
    """
    if collect and out is None:
        raise SettingsError("--collect needs --out: the folder of the dataset's versions")
    if out is not None and not collect:
        raise SettingsError("--out is for --collect; to write a page use --page")
    subject = _subject(data, root, name)
    if collect and out is not None:
        return _collect(subject, out, note, data, range_16bit or FULL_RANGE_16BIT, as_json=as_json)
    fiftyone, problem = _fiftyone()
    looker = open_looker(model, range_16bit=range_16bit)
    target = None if fiftyone is None else _room(fiftyone, subject, looker, renew=renew)
    sheet = page or (_PAGE if fiftyone is None else None)
    told: dict[str, Any] = {"images": len(subject.dataset), "name": subject.name, "page": str(sheet) if sheet else None}
    is_sent = fiftyone is not None and target is None
    if is_sent or sheet:
        findings, notes = _look(subject, looker, fiftyone if is_sent else None)
        told |= _counts(findings) | {"notes": [*subject.dataset.notes, *notes]}
        if sheet:
            title = f"A look at {dataset_title(data)}"
            write_sheet(
                sheet, findings, subject.dataset, spec=looker.spec, title=title, features=looker.features, notes=notes
            )
    _say(told, data, as_json=as_json)
    if problem is not None:
        print(f"no FiftyOne: {problem}", file=sys.stderr)
        if not isinstance(problem, ImportError) and problem.__class__.__name__ != "MissingExtraError":
            raise SystemExit(problem.exit_code)
    elif serve:
        back = ["inspect", str(data), *(["--root", str(root)] if root else []), "--name", subject.name]
        shown = looker.spec.range_16bit
        back += ["--range-16bit", *map(str, shown)] if shown != FULL_RANGE_16BIT else []
        command = shlex.join(["pangu-cv", *back, "--collect", "--out", str(folder_for(data))])
        _serve(subject.name, port, address, command, is_opened=open)


def _subject(data: Path, root: Path | None, name: str | None) -> _Subject:
    version = None
    if data.is_dir() and versions.recognises(data):
        version = read_version(newest(data) or data, images=root)
        dataset, own = versions.read(version.folder, root=root), f"{version.dataset.root.stem}-{version.name}"
    else:
        dataset, own = read_or_list(data, root=root), data.resolve().stem
    return _Subject(dataset, version, name or own)


def _fiftyone() -> tuple[Any, PanguError | None]:
    """FiftyOne, or why there is none: the page is written all the same."""
    try:
        return open_fiftyone(), None
    except PanguError as error:
        return None, error


def _room(fiftyone: Any, subject: _Subject, looker: Looker, *, renew: bool) -> Any:
    """The dataset that FiftyOne has of this very subject already; None where it is to be sent."""
    found = kept(fiftyone, subject.name)
    if found is None:
        return None
    if found.root != str(subject.dataset.root):
        raise DataError(
            f"FiftyOne's dataset '{subject.name}' is of other images ({found.root}); choose another with --name"
        )
    target = fiftyone.load_dataset(subject.name)
    if found.is_complete and found.fingerprint == _fingerprint(subject, looker) and not renew:
        return target
    if not renew and (count := uncollected(target)):
        raise DataError(
            f"FiftyOne's dataset '{subject.name}' has changes of people on {'at least ' if count >= 20 else ''}{count} "
            "images that were not collected, and data or model are others by now. Bring them back with --collect --out "
            "VERSIONS, send beside them with --name, or give them up with --renew"
        )
    return None


def _fingerprint(subject: _Subject, looker: Looker) -> str:
    return hashlib.sha256(f"{content_digest(subject.dataset)} {looker.fingerprint}".encode()).hexdigest()


def _look(subject: _Subject, looker: Looker, fiftyone: Any) -> tuple[tuple[Finding, ...], list[str]]:
    """One pass over the images, into FiftyOne where it is given."""
    dataset, collector = subject.dataset, Collector(subject.dataset, looker)
    sender = None
    if fiftyone is not None:
        mark = _fingerprint(subject, looker)
        sender = Sender(fiftyone, dataset, subject.name, fingerprint=mark, task=looker.task)
    with bar("looking at images") as progress:
        for done, look in enumerate(looks(dataset, looker), start=1):
            collector.take(look)
            if sender is not None:
                sender.take(look)
            progress(done, len(dataset))
    findings = collector.done()
    if sender is not None:
        sender.finish(findings)
    return findings, collector.notes


def _counts(findings: tuple[Finding, ...]) -> dict[str, int]:
    return {
        "unreadable": sum(bool(one.faults) for one in findings),
        "likely_label_errors": sum(one.suspicion > 0 for one in findings),
        "doubtful": sum((one.doubt or 0) >= DOUBTFUL for one in findings),
        "groups_of_like_pictures": len({one.group for one in findings if one.group}),
    }


def _say(told: dict[str, Any], data: Path, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(told))
        return
    print(f"{told['images']} images of {data}")
    for key in ("likely_label_errors", "doubtful", "groups_of_like_pictures", "unreadable"):
        if key in told:
            print(f"  {key.replace('_', ' '):24} {told[key]}")
    for line in told.get("notes", ()):
        print(f"! {line}")
    if told["page"]:
        print(f"wrote {told['page']}")


def _serve(name: str, port: int, address: str, back: str, *, is_opened: bool) -> None:
    with app(name, port=port, address=address) as url:
        print(f"App       {url}   (ends with Ctrl-C; what was changed is kept)", flush=True)
        print(f"Next: {back}", flush=True)
        if is_opened:
            webbrowser.open(url)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print()


def _collect(
    subject: _Subject, out: Path, note: str, data: Path, range_16bit: tuple[int, int], *, as_json: bool
) -> None:
    fiftyone = open_fiftyone()
    found = kept(fiftyone, subject.name)
    if found is None:
        raise DataError(
            f"FiftyOne has no dataset '{subject.name}'; it has {', '.join(fiftyone.list_datasets()) or 'none'}. "
            f"Send it first: pangu-cv inspect {data}"
        )
    if found.root != str(subject.dataset.root):
        raise DataError(f"FiftyOne's dataset '{subject.name}' is of other images: {found.root}; give their dataset")
    target = fiftyone.load_dataset(subject.name)
    with tempfile.TemporaryDirectory() as scratch:
        collected = collect_changes(target, subject.dataset, scratch=Path(scratch), by=versions.writer())
        version, is_new = _keep(collected, subject, out, note)
    mark_collected(target, collected)
    told = {
        "version": None if version is None else str(version.folder),
        "is_new": is_new,
        "images": len(collected.dataset),
        "missing": [str(sample.path) for sample in collected.missing],
        "changes": len(collected.changes),
        "in_words": list(in_words(collected.changes)),
        "conflicts": list(collected.conflicts),
        "notes": list(collected.notes),
    }
    if as_json:
        print(json.dumps(told))
        return
    for line in (*in_words(collected.changes), *collected.notes):
        print(f"  {line}")
    for line in collected.conflicts:
        print(f"! {line}")
    if version is None:
        print("nothing was changed: no new version")
    else:
        print(f"{'wrote' if is_new else 'is already in'} {version.folder}")
        print(f"Next: {finetune_command(recipe_for(collected.dataset), version.folder, range_16bit)}")


def recipe_for(dataset: Dataset) -> str:
    """Of 'pangu-cv finetune', for labels like these."""
    if dataset.layout == "mvtec":
        return "anomaly"
    if any(sample.boxes is not None for sample in dataset):
        return "detect"
    if any(sample.mask is not None for sample in dataset):
        return "segment"
    return "multilabel" if is_multilabel(dataset, None) else "classify"


def _keep(collected: Collected, subject: _Subject, out: Path, note: str) -> tuple[Version | None, bool]:
    """The new version, or the newest one where that says the same, or None where nothing was changed."""
    known = {sample.path for sample in (*collected.dataset, *collected.missing)}
    before = subject.version.missing if subject.version else ()
    missing = (*collected.missing, *(sample for sample in before if sample.path not in known))
    if not collected.changes and not collected.missing:
        return None, False
    last = newest(out)
    if last is not None:
        version = read_version(last, images=collected.dataset.root)
        parent = subject.version.name if subject.version else None
        images = sorted(str(one.path) for one in (*version.dataset, *version.missing))
        same = sorted(str(one.path) for one in (*collected.dataset, *missing))
        if (version.changes, version.parent, images) == (collected.changes, parent, same):
            return version, False
    dataset = replace(collected.dataset, notes=())
    return write_version(
        out, dataset, missing=missing, parent=subject.version, changes=collected.changes, note=note
    ), True
