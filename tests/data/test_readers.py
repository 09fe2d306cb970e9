from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pangu_cv.data.readers import read_dataset, require_same_classes
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError

SHARED = Path(__file__).parents[2] / ".." / "shared" / "data"


def image(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((4, 4, 3), value, np.uint8)).save(path)
    return path


def named(dataset: Dataset) -> list[tuple[str, str | None, str | None]]:
    return [(s.path.relative_to(dataset.root).as_posix(), s.label, s.split) for s in dataset]


def test_class_folders_in_natural_order(tmp_path: Path) -> None:
    for name in ("b/10.png", "b/9.PNG", "a/deep/1.jpg", "a/._1.jpg", "__MACOSX/a/1.jpg", ".cache/1.jpg", "loose.png"):
        image(tmp_path / name)
    (tmp_path / "empty").mkdir()
    dataset = read_dataset(tmp_path)
    assert named(dataset) == [("a/deep/1.jpg", "a", None), ("b/9.PNG", "b", None), ("b/10.png", "b", None)]
    assert dataset.layout == "class_folders"
    assert dataset.notes == (
        "no image in the folder empty",
        "1 images lie beside the class folders: not read",
    )


def test_class_folders_with_splits(tmp_path: Path) -> None:
    for name in ("test/a/1.png", "train/a/2.png", "valid/b/3.png", "train/b/4.png", "spare/a/5.png"):
        image(tmp_path / name)
    dataset = read_dataset(tmp_path)
    assert [s.split for s in dataset] == ["train", "train", "val", "test"]
    assert dataset.classes == ("a", "b")
    assert dataset.notes == ("not read, beside the splits: spare",)


def test_one_class_only_is_noted(tmp_path: Path) -> None:
    image(tmp_path / "scratch" / "1.png")
    assert "one class only: 'scratch'" in read_dataset(tmp_path).notes[0]


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no layout recognised.*looked for.*found nothing"):
        read_dataset(tmp_path)
    with pytest.raises(DataError, match="no image in a class folder"):
        read_dataset(tmp_path, layout="class_folders")


@pytest.mark.parametrize(
    ("names", "advice"),
    [
        (("1.png", "2.png"), "Unlabelled images need no layout"),
        (("images/1.png",), "Unlabelled images need no layout"),
        (("masks/1.png",), "looks like half of a layout"),
        (("train/images/1.png", "train/labels/1.png", "data.yaml"), "data.yaml must say 'names'"),
        (("JPEGImages/1.png",), "looks like half of a layout"),
    ],
)
def test_other_layouts_are_named_not_misread(tmp_path: Path, names: tuple[str, ...], advice: str) -> None:
    for name in names:
        if name.endswith("png"):
            image(tmp_path / name)
        else:
            (tmp_path / name).touch()
    with pytest.raises(DataError, match=advice):
        read_dataset(tmp_path)


def test_path_that_does_not_exist(tmp_path: Path) -> None:
    image(tmp_path / "raw" / "a" / "1.png")
    with pytest.raises(DataError, match=r"raww' does not exist; nearest is '.*raw'"):
        read_dataset(tmp_path / "raww")
    with pytest.raises(DataError, match=r"raww' does not exist; nearest is '.*raw'"):
        read_dataset(tmp_path / "raww" / "deeper")
    with pytest.raises(DataError, match="zzz' does not exist; the folder"):
        read_dataset(tmp_path / "zzz")


def test_mvtec(tmp_path: Path) -> None:
    for name in ("train/good/0.png", "test/good/0.png", "test/hole/0.png", "test/hole/1.png", "test/hole/2.png"):
        image(tmp_path / name)
    for name in ("hole/0_mask.png", "hole/1.png", "hole/7_mask.png", "hole/8_mask.png"):
        image(tmp_path / "ground_truth" / name, 255)
    dataset = read_dataset(tmp_path)
    assert dataset.layout == "mvtec"
    assert [(s.split, s.label, s.mask.name if s.mask else None) for s in dataset] == [
        ("train", "good", None),
        ("test", "good", None),
        ("test", "hole", "0_mask.png"),
        ("test", "hole", "1.png"),
        ("test", "hole", None),
    ]
    assert dataset.notes == (
        "1 defective images have no mask, first test/hole/2.png",
        "2 masks have no image, first ground_truth/hole/7_mask.png",
    )


def test_mvtec_faults(tmp_path: Path) -> None:
    image(tmp_path / "train" / "good" / "0.png")
    with pytest.raises(DataError, match="no image in test"):
        read_dataset(tmp_path, layout="mvtec")
    image(tmp_path / "test" / "good" / "0.png")
    image(tmp_path / "train" / "hole" / "0.png")
    assert read_dataset(tmp_path).layout == "class_folders"
    with pytest.raises(DataError, match="holds hole; anomaly training"):
        read_dataset(tmp_path, layout="mvtec")


def table(folder: Path, text: str, *, encoding: str = "utf-8", images: str = "a.png b.png c.png") -> Path:
    for name in images.split():
        image(folder / name)
    path = folder / "labels.csv"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def test_table_with_everything(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "File,label,SPLIT,camera,mask,caption,group\n"
        'a.png,ok,pool,7,,"fine, smooth",p1\nb.png,bad,valid,7,c.png,,p2\nc.png,bad,,7,,,\n',
    )
    dataset = read_dataset(path)
    first, second, third = dataset
    assert first == Sample(tmp_path / "a.png", "ok", "train", None, "fine, smooth", "p1")
    assert (second.split, second.mask, second.caption) == ("val", tmp_path / "c.png", None)
    assert (third.split, third.group) == (None, None)
    assert read_dataset(tmp_path) == dataset


@pytest.mark.parametrize(("encoding", "delimiter", "end"), [("utf-8-sig", ";", "\r\n"), ("utf-8", "\t", "\n")])
def test_table_as_spreadsheets_write_it(tmp_path: Path, encoding: str, delimiter: str, end: str) -> None:
    rows = ["file,label", "sub\\a.png,Kratzer-ä", "", "b.png,ok", ""]
    path = table(tmp_path, end.join(rows).replace(",", delimiter), encoding=encoding, images="sub/a.png b.png")
    assert [(s.path.name, s.label) for s in read_dataset(path)] == [("a.png", "Kratzer-ä"), ("b.png", "ok")]


def test_table_finds_its_files(tmp_path: Path) -> None:
    image(tmp_path / "data" / "x" / "a.png")
    text = "file,label\nx/a.png,ok\n"
    beside = table(tmp_path / "data" / "splits", text, images="")
    assert read_dataset(beside).root == tmp_path / "data"
    far = table(tmp_path / "elsewhere" / "deep", text, images="")
    with pytest.raises(DataError, match=r"labels.csv:2: 'x/a.png' does not exist \(1 of 1 files.*as root"):
        read_dataset(far)
    assert read_dataset(far, root=tmp_path / "data").samples[0].path == tmp_path / "data" / "x" / "a.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "file,label,split\na.png,ok,train\nb.png,ok,trian\n",
            r":3: split 'trian' is unknown; allowed are train, pool",
        ),
        ("file,label\na.png,ok\nb.png,ok\na.png,bad\n", r":4: 'a.png' has the label 'bad', but 'ok' on line 2"),
        (
            "file,label,split\na.png,ok,pool\n./a.png,ok,test\n",
            r":3: 'a.png' has the split 'test', but 'train' on line 2",
        ),
        ("file,label\na.png,ok\nno.png,ok\nno2.png,ok\n", r":3: 'no.png' does not exist \(2 of 3 files are missing\)"),
        ("file,label,mask\na.png,ok,no.png\n", r":2: 'no.png' does not exist"),
        ("file,label\na.png,ok\n../../etc/passwd,ok\n", r":3: '../../etc/passwd' leaves the folder"),
        ("file,label\n/etc/passwd,ok\n", r":2: '/etc/passwd' leaves the folder"),
        ("file,label\nx/../../a.png,ok\n", r":2: 'x/../../a.png' leaves the folder"),
        ("file,label\nC:\\a.png,ok\n", r":2: 'C:\\a.png' leaves the folder"),
        ("file,label,mask\na.png,ok,../m.png\n", r":2: '../m.png' leaves the folder"),
        ("file,label,split\na.png,ok\n", r":2: 2 cells, the header has 3"),
        ("file,label\na.png,ok,extra\n", r":2: 3 cells, the header has 2"),
        ('file,label\n"a.png","two\nlines"\n,ok\n', r":4: the cell 'file' is empty"),
        ("file,label\n", "has a header but no row"),
    ],
)
def test_table_faults_name_the_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_dataset(table(tmp_path, text))


def test_table_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no table whose header names the columns file and label"):
        read_dataset(table(tmp_path, "path,class\na.png,ok\n"))
    with pytest.raises(DataError, match=r":1: no column file and label; found path, class"):
        read_dataset(tmp_path / "labels.csv", layout="csv")
    with pytest.raises(DataError, match="is not UTF-8"):
        read_dataset(table(tmp_path, "file,label\na.png,Kratzer-ä\n", encoding="cp1252"), layout="csv")


def test_repeated_rows_and_bare_rows_are_noted(tmp_path: Path) -> None:
    dataset = read_dataset(table(tmp_path, "file,label\na.png,ok\na.png,ok\nb.png,\n"))
    assert len(dataset) == 2
    assert dataset.notes == ("1 rows repeat an earlier one: kept once", "1 rows have no label")


def test_several_tables_want_a_choice(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("file,label\n")
    with pytest.raises(DataError, match=r"holds 2 tables \(a.csv, b.csv\); name one"):
        read_dataset(tmp_path)


def test_require_same_classes() -> None:
    samples = {name: Sample(Path(name), name) for name in "abc"}
    require_same_classes([samples["a"], samples["b"]], [samples["a"]])
    with pytest.raises(DataError, match=r"train lacks 2 of the test classes: b, c; it has a"):
        require_same_classes([samples["a"]], samples.values())


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
@pytest.mark.parametrize(
    ("name", "layout", "images", "classes"),
    [
        ("xsdd", "class_folders", 1360, 7),
        ("rsscn7_subset", "class_folders", 252, 7),
        ("magnetic_tile", "mvtec", 792, 6),
        ("cookies_ad", "mvtec", 63, 2),
        ("powerline_ir_vl", "csv", 1600, 2),
        ("splits/neu_det.csv", "csv", 1798, 6),
    ],
)
def test_real_layouts(name: str, layout: str, images: int, classes: int) -> None:
    dataset = read_dataset(SHARED / name)
    assert (dataset.layout, len(dataset), len(dataset.classes)) == (layout, images, classes)
    assert dataset.notes == ()
