import json
import os
import shutil
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data import versions
from pangu_cv.data.changes import Change, in_words
from pangu_cv.data.config import DataConfig
from pangu_cv.data.readers import read_dataset
from pangu_cv.data.sample import Box, Dataset, Sample
from pangu_cv.data.versions import newest, read_version, same_content, write_version
from pangu_cv.errors import DataError
from tests.finetune import tiny


@pytest.mark.parametrize("layout", ["class_folders", "mvtec", "masked", "boxed", "tagged"])
def test_a_version_reads_as_its_source(layout: str, tmp_path: Path) -> None:
    source = read_dataset(getattr(tiny, layout)(tmp_path / "data"))
    version = write_version(tmp_path / "versions", source)
    read = DataConfig(path=version.folder).read()
    assert (version.name, version.missing, len(read)) == ("v0001", (), len(source))
    assert (read.samples, read.layout, read.mask_classes) == (source.samples, source.layout, source.mask_classes)
    assert not list(version.folder.glob("**/*.png")), "images and masks are referenced"


def test_any_name_label_and_number_comes_back(tmp_path: Path) -> None:
    names = ['a, "b"\nc.png', " leading.png", "ümlaut/ß.png", os.fsdecode(b"latin-\xe9.png"), "v0001"]
    boxes = (Box("a;b", (0.1, 1 / 3, 7.7, 2.2e-3 + 5)), Box(" 'x' ", (0.0, 0.0, 0.1 + 0.2, 9.999999999999998)))
    samples = []
    for number, name in enumerate(names):
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((10, 12, 3), number, np.uint8)).save(path, format="png")
        samples.append(Sample(path, f'l"{number},\n', "val", None, "a;\tb", " g ", boxes if number else ()))
    source = Dataset(tmp_path / "data", "csv", (*samples, replace(samples[0], path=tmp_path / "data" / "gone.png")))
    version = write_version(tmp_path / "versions", replace(source, samples=source.samples[:-1]))
    assert read_version(version.folder).dataset.samples == tuple(samples)


def test_parents_changes_and_masks_that_are_new(tmp_path: Path) -> None:
    source = read_dataset(tiny.masked(tmp_path / "data"))
    first = write_version(tmp_path / "versions", source, note="as it came")
    mask = tiny.save(tmp_path / "elsewhere" / "m.png", np.ones((64, 72), np.uint8))
    changed = replace(first.dataset, samples=(replace(source.samples[0], mask=mask), *source.samples[1:]))
    change = Change("images/test0.png", "mask", "abc", "def", by="ann")
    second = write_version(tmp_path / "versions", changed, parent=first, changes=[change], note="mended")
    mask.unlink()
    read = read_version(second.folder)
    assert (read.parent, read.changes, read.note) == ("v0001", (change,), "mended")
    kept = read.dataset.samples[0].mask
    assert kept is not None
    assert kept.is_relative_to(second.folder)
    assert np.asarray(Image.open(kept)).all()
    assert read.dataset.samples[1:] == source.samples[1:]
    third = write_version(tmp_path / "versions", read.dataset, parent=read)
    assert third.dataset.samples[0].mask == third.folder / "masks" / kept.name, "each version is whole"
    assert newest(tmp_path / "versions") == third.folder
    assert DataConfig(path=tmp_path / "versions").read().samples == third.dataset.samples
    manifest = json.loads((second.folder / "version.json").read_text())
    assert manifest["parent"]["digest"] == first.digest
    assert manifest["summary"] == ["1 masks changed"]


def test_images_that_are_gone_are_kept_in_the_tables(tmp_path: Path) -> None:
    source = read_dataset(tiny.class_folders(tmp_path / "data", test=0))
    gone = source.samples[0]
    gone.path.rename(tmp_path / "aside.png")
    version = write_version(tmp_path / "versions", replace(source, samples=source.samples[1:]), missing=[gone])
    assert (version.missing, version.dataset.samples) == ((gone,), source.samples[1:])
    assert any("1 images are gone since" in note for note in version.dataset.notes)
    (tmp_path / "aside.png").rename(gone.path)
    assert set(read_version(version.folder).dataset.samples) == set(source.samples)


def test_a_tree_that_moved_and_images_that_moved_alone(tmp_path: Path) -> None:
    source = read_dataset(tiny.class_folders(tmp_path / "old" / "data", test=0))
    version = write_version(tmp_path / "old" / "versions", source)
    (tmp_path / "old").rename(tmp_path / "new")
    folder = tmp_path / "new" / "versions" / version.name
    assert read_version(folder).dataset.samples[0].path == tmp_path / "new" / "data" / "blue" / "0.png"
    (tmp_path / "new" / "data").rename(tmp_path / "apart")
    with pytest.raises(DataError, match="none of its 8 images is below"):
        read_dataset(folder)
    assert len(read_dataset(folder, root=tmp_path / "apart")) == 8


@pytest.mark.parametrize("file", ["labels.csv", "version.json", "annotations.json"])
def test_what_was_edited_by_hand_is_refused(file: str, tmp_path: Path) -> None:
    version = write_version(tmp_path / "versions", read_dataset(tiny.boxed(tmp_path / "data")))
    path = version.folder / file
    path.write_text(path.read_text().replace("train", "tra1n", 1).replace("dark", "bark", 1))
    with pytest.raises(DataError, match=rf"{file}.* is not as it was written .*made, not edited"):
        read_version(version.folder)


@pytest.mark.parametrize("text", ["[]", "{", '{"format": "x"}', "[" * 100_000])
def test_what_is_no_version_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "version.json").write_text(text)
    with pytest.raises(DataError, match=r"version\.json"):
        read_dataset(tmp_path)


def test_names_may_not_leave_the_images(tmp_path: Path) -> None:
    version = write_version(tmp_path / "versions", read_dataset(tiny.class_folders(tmp_path / "data", test=0)))
    table = version.folder / "labels.csv"
    table.write_text(table.read_text().replace("blue/0.png", "../../etc/passwd"))
    manifest = json.loads((version.folder / "version.json").read_text())
    manifest["files"] = versions._sums(version.folder)
    manifest["digest"] = versions._digest(manifest)
    (version.folder / "version.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="leaves the folder"):
        read_version(version.folder)


def test_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    source = read_dataset(tiny.class_folders(tmp_path / "data", train=1, test=0))
    threads = [
        threading.Thread(target=write_version, args=(tmp_path / "versions", source), kwargs={"note": str(number)})
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folders = sorted((tmp_path / "versions").iterdir())
    assert [folder.name for folder in folders] == [f"v000{number}" for number in range(1, 9)]
    assert sorted(read_version(folder).note for folder in folders) == [str(number) for number in range(8)]


def test_an_image_twice_and_none_at_all(tmp_path: Path) -> None:
    source = read_dataset(tiny.class_folders(tmp_path / "data", test=0))
    with pytest.raises(DataError, match=r"1 images are in the dataset more than once, first 'blue/0\.png'"):
        write_version(tmp_path / "versions", source, missing=source.samples[:1])
    with pytest.raises(DataError, match="without an image"):
        write_version(tmp_path / "versions", replace(source, samples=()))
    assert not list((tmp_path / "versions").glob("*"))


def test_contents_are_compared_whatever_the_order(tmp_path: Path) -> None:
    source = read_dataset(tiny.class_folders(tmp_path / "data", test=0))
    turned = replace(source, samples=source.samples[::-1], layout="csv")
    assert same_content(source, turned)
    assert not same_content(
        source, replace(source, samples=(replace(source.samples[0], label="x"), *source.samples[1:]))
    )


def test_changes_in_words() -> None:
    box = {"label": "a", "xyxy": [0, 0, 1, 1]}
    changes = [
        *(Change(str(at), "label", "a", "b") for at in range(3)),
        Change("4", "label", None, "c"),
        Change("5", "box", box, {**box, "xyxy": [0, 0, 2, 2]}),
        Change("5", "box", box, {**box, "label": "b"}),
        Change("6", "box", None, box),
        Change("7", "box", box, None),
        Change("8", "image", "there", None),
        Change("9", "rejected", None, "b"),
    ]
    assert in_words(changes) == (
        "4 labels changed ('a' to 'b': 3, nothing to 'c': 1)",
        "1 boxes added",
        "1 boxes moved",
        "1 boxes relabelled",
        "1 boxes removed",
        "1 images left out",
        "1 images do not show 'b'",
    )


def test_a_folder_holds_versions_of_one_dataset(tmp_path: Path) -> None:
    source = read_dataset(tiny.class_folders(tmp_path / "data", test=0))
    other = read_dataset(tiny.mvtec(tmp_path / "other"))
    first = write_version(tmp_path / "versions", source)
    with pytest.raises(DataError, match=r"v0001, is of images in '.*data'.*'.*other' is among them.*another folder"):
        write_version(tmp_path / "versions", other)
    assert [entry.name for entry in (tmp_path / "versions").iterdir()] == ["v0001"]
    write_version(tmp_path / "versions", other, parent=first)  # who says so has read the one before
    assert write_version(tmp_path / "mine", source).name == "v0001"
    part = replace(source, samples=source.samples[-1:])
    assert write_version(tmp_path / "mine", part).name == "v0002"
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    copied = read_dataset(tmp_path / "copy")
    assert write_version(tmp_path / "mine", copied).name == "v0003", "the same pictures elsewhere"
    write_version(tmp_path / "gone", source)
    (tmp_path / "data").rename(tmp_path / "moved")
    assert write_version(tmp_path / "gone", read_dataset(tmp_path / "moved")).name == "v0002"
    shutil.rmtree(tmp_path / "moved")
    with pytest.raises(DataError, match="another folder"):
        write_version(tmp_path / "gone", other)


def test_no_more_is_hashed_than_tells_whether_images_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def of(folder: str, **contents: str) -> Dataset:
        (tmp_path / folder).mkdir()
        for name, text in contents.items():
            (tmp_path / folder / name).write_text(text)
        return Dataset(tmp_path / folder, "images", tuple(Sample(tmp_path / folder / name) for name in contents))

    write_version(tmp_path / "versions", of("data", a="1", b="22", c="333"))
    hashed: list[str] = []
    monkeypatch.setattr(versions, "_sum", lambda path, real=versions._sum: hashed.append(path.name) or real(path))
    versions.require_kin(tmp_path / "versions", of("copy", d="22", e="4444", f="55555"))
    assert [name for name in hashed if len(name) == 1] == ["b", "d"]
    hashed.clear()
    versions.require_kin(tmp_path / "versions", of("whole", a="1", b="22", c="333"))
    assert len([name for name in hashed if len(name) == 1]) == 2, "one match is enough"
    hashed.clear()
    with pytest.raises(DataError, match="another folder"):
        versions.require_kin(tmp_path / "versions", of("other", g="9", h="666666"))
    assert [name for name in hashed if len(name) == 1] == ["a", "g"]
