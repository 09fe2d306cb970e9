from pathlib import Path

from pangu_cv.data.sample import Sample
from pangu_cv.finetune.kin import kin_of


def test_groups_and_copies_are_joined_by_chains(tmp_path: Path) -> None:
    shown = {"a": ("one", "burst"), "b": ("two", "burst"), "c": ("two", None), "d": ("three", None), "e": ("two", "x")}
    samples = []
    for name, (content, group) in shown.items():
        (tmp_path / name).write_text(content)
        samples.append(Sample(tmp_path / name, label="red", group=group))
    a, b, c, d, e = kin_of(samples)
    assert a == b == c == e
    assert d != a
    assert kin_of([]) == []
