"""``pangu-cv data check``."""

import csv
import io
import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.table import Table
from rich.text import Text

from pangu_cv.data.check import DataCheck, check_dataset
from pangu_cv.data.contact_sheet import class_rows
from pangu_cv.data.duplicates import Duplicates
from pangu_cv.data.near_duplicates import groups_of
from pangu_cv.data.readers import Layout, read_dataset
from pangu_cv.errors import DataError
from pangu_cv.progress import bar
from pangu_cv.report.long_table import long_table, some_of
from pangu_cv.report.page import Page, Tile
from pangu_cv.report.picture import Picture
from pangu_cv.report.text import readable
from pangu_cv.staging import write_text

_WHOLE = "'pangu-cv data check --json'"


def check(
    path: Path,
    *,
    layout: Layout = "auto",
    root: Path | None = None,
    report: Path | None = None,
    groups: Path | None = None,
    objects: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Read every image once and say what was found: layout, sizes, classes, splits, duplicates, unreadable files.

    Ends with exit code 1 where something would stop training or falsify a test.

    Parameters
    ----------
    path
        Class folders, the MVTec AD, COCO, YOLO, VOC or labelme layout, images beside masks, a CSV table, or any images.
    layout
        How to read it, as data.layout of 'pangu-cv finetune'; auto recognises it.
    root
        Folder that the files of a CSV table or a COCO file are relative to.
    report
        Also write an HTML page with pictures of every class.
    groups
        Also write a table of pictures that look the same, to give as data.groups, so that they stay on one side.
    objects
        Also look for the same object in several pictures, such as composites of one part on many backgrounds.
        Compares every pair of images: minutes for hundreds.
    as_json
        Print JSON.
    """
    with bar("reading images") as progress:
        found = check_dataset(path, layout=layout, root=root, with_objects=objects, progress=progress)
    if report is not None:
        _write_report(found, path, layout, root, report)
    if groups is not None:
        _write_groups(found, groups)
    if as_json:
        print(json.dumps(found.to_json()))
    else:
        _print(found)
        as_said = "" if layout == "auto" else f" --layout {layout}"
        print(f"report    {report}" if report else f"Next: pangu-cv data check {path}{as_said} --report check.html")
    if not found.ok:
        raise SystemExit(1)


def _write_groups(found: DataCheck, target: Path) -> None:
    rows = io.StringIO()
    table = csv.writer(rows, lineterminator="\n")
    table.writerow(["file", "group"])
    for number, paths in enumerate(_joined(found), start=1):
        table.writerows([path, f"alike-{number}"] for path in paths)
    write_text(target, rows.getvalue())


def _joined(found: DataCheck) -> list[list[str]]:
    """Pictures that are alike in any way, those of overlapping findings in one group."""
    groups = [d.paths for d in (*found.duplicates, *found.look_alikes, *found.object_copies)]
    names = sorted({path for paths in groups for path in paths})
    at = {name: number for number, name in enumerate(names)}
    chains = [[at[path] for path in paths] for paths in groups]
    return [[names[number] for number in group] for group in groups_of(chains)]


def _print(found: DataCheck) -> None:
    # Names of classes and files are anybody's: nothing in them is markup, an emoji's name or a control of the terminal.
    console = Console(markup=False, emoji=False, highlight=False)
    console.print(
        Text.assemble(f"{found.images} images, layout ", (found.layout, "bold"), f", in {readable(found.root)}")
    )
    table = Table("class", *found.counts, box=None, header_style="bold")
    for label in sorted({name for counts in found.counts.values() for name in counts}):
        table.add_row(readable(label) or "(no label)", *(str(counts.get(label, 0)) for counts in found.counts.values()))
    console.print(table)
    for line in _facts(found):
        console.print(f"  {readable(line)}")
    for line in (*found.notes, *found.advice):
        console.print(f"! {readable(line)}")
    console.print("ok" if found.ok else "not ok: mend what is said above before training", style="bold")


def _facts(found: DataCheck) -> list[str]:
    lines = []
    if found.sizes is not None:
        width, height = found.sizes.width_px, found.sizes.height_px
        lines.append(
            f"sizes: width {width[0]} to {width[2]} px (median {width[1]}), height {height[0]} to {height[2]} px "
            f"(median {height[1]}), {found.sizes.distinct} different"
        )
    lines.append("kinds: " + ", ".join(f"{kind} ({count})" for kind, count in found.kinds.items()))
    lines.append(
        f"unreadable: {len(found.unreadable)}, duplicate groups: {len(found.duplicates)}, "
        f"look-alike groups: {len(found.look_alikes)}, groups of one object: {len(found.object_copies)}, "
        f"mask faults: {len(found.mask_faults)}, boxes of another size: {len(found.box_faults)}"
    )
    return lines


def _told(found: Duplicates) -> tuple[str, str, str]:
    return found.kind, some_of(found.paths), some_of(found.splits)


def _write_report(found: DataCheck, path: Path, layout: Layout, root: Path | None, target: Path) -> None:
    page = Page(f"What is in {path.resolve().stem}", f"{found.images} images, layout {found.layout}")
    bad = sum(d.leaks for d in found.duplicates)
    page.tiles(
        [
            Tile("Images", str(found.images), f"layout {found.layout}"),
            Tile("Unreadable", str(len(found.unreadable)), "", "bad" if found.unreadable else "good"),
            Tile("Duplicates", str(len(found.duplicates)), f"{bad} across splits", "bad" if bad else "neutral"),
        ]
    )
    page.verdict(
        "Ready to train on." if found.ok else "Mend what is listed below first.", "good" if found.ok else "bad"
    )
    for line in (*found.notes, *found.advice):
        page.note(line)
    page.section("Classes and splits")
    labels = sorted({name for counts in found.counts.values() for name in counts})
    rows = [[label or "(no label)", *(counts.get(label, 0) for counts in found.counts.values())] for label in labels]
    page.table(["class", *found.counts], rows)
    for line in _facts(found):
        page.note(line)
    if faulty := (*found.unreadable, *found.mask_faults, *found.box_faults):
        page.section("Files that cannot be used")
        long_table(page, ["file", "why"], faulty, lambda one: (one.path, one.message), whole=_WHOLE)
    for title, pictures in (
        ("Identical pictures", found.duplicates),
        ("Look-alikes", found.look_alikes),
        ("One object in several pictures", found.object_copies),
    ):
        if pictures:
            page.section(title)
            long_table(page, ["kind", "files", "splits"], pictures, _told, whole=_WHOLE)
    try:
        examples = class_rows(read_dataset(path, layout=layout, root=root), thumb_px=160)
    except DataError:
        examples = ()
    for row in examples:
        page.section(row.label or "No label")
        page.gallery([Picture(thumbnail, row.label or "image") for thumbnail in row.thumbnails])
    page.write(target)
