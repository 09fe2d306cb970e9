from pathlib import Path

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.shown import classes_shown
from tests.finetune.tiny import boxed, class_folders, picture, save


def names(shown: dict) -> dict[str, frozenset[str]]:
    return {sample.path.name: classes for sample, classes in shown.items()}


def test_a_table_names_any_number_of_classes(tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / f"{number}.png", picture((0, 0, 0), number))
    lines = ["file,label", "0.png,missing_hole;spur", "1.png, spur ; spur;", "2.png,", "3.png,hole"]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    assert names(classes_shown(read_dataset(tmp_path))) == {
        "0.png": frozenset({"missing_hole", "spur"}),
        "1.png": frozenset({"spur"}),
        "2.png": frozenset(),
        "3.png": frozenset({"hole"}),
    }


def test_boxes_name_what_is_there_and_none_is_nothing(tmp_path: Path) -> None:
    shown = names(classes_shown(read_dataset(boxed(tmp_path / "data"))))
    assert shown["train0.png"] == frozenset()
    assert shown["train1.png"] == frozenset({"dark", "light"})


def test_class_folders_show_one_class_each(tmp_path: Path) -> None:
    dataset = read_dataset(class_folders(tmp_path / "data"))
    assert {s.label for s in dataset} == {"blue", "red"}
    assert all(classes == {s.label} for s, classes in classes_shown(dataset).items())
