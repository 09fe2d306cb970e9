from pathlib import Path

from pangu_cv.pretrain.titles import titles


def test_a_dataset_that_nobody_is_mistaken_for_keeps_its_title() -> None:
    assert titles([Path("/x/neu_det"), Path("/x/table.csv")]) == ["neu det", "table"]
    assert titles([]) == []


def test_datasets_are_told_apart() -> None:
    assert titles([Path("/a/images"), Path("/b/images"), Path("/b/other")]) == ["a/images", "b/images", "other"]
    assert titles([Path("/x/lot.2024"), Path("/x/lot.2025")]) == ["lot.2024", "lot.2025"]
    assert titles([Path("/one/a/images"), Path("/two/a/images")]) == ["one/a/images", "two/a/images"]
    assert titles([Path("/a/images")] * 2) == ["images", "images (2)"]
    every = [Path("/images"), Path("/images/images"), Path("/a_b"), Path("/x/a b"), Path("/images")]
    assert len(set(titles(every))) == 5
