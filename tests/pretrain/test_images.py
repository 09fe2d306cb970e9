from pathlib import Path

import numpy as np

from pangu_cv.pretrain.images import SourceConfig, gather
from pangu_cv.pretrain.relations import UNKNOWN
from tests.pretrain import small


def two(folder: Path, *names: str) -> list[SourceConfig]:
    paths = [small.images(folder / name, count=2) for name in names]
    return [SourceConfig(path=path, labels=1) for path in paths]


def test_labels_of_sources_of_one_name_do_not_mix(tmp_path: Path) -> None:
    found = gather(two(tmp_path, "a/images", "b/images"), seed=0, text_template=None)
    assert found.labels == ("a/images: dots", "a/images: plain", "b/images: dots", "b/images: plain")
    assert not set(found.label_M[found.source_M == 0]) & set(found.label_M[found.source_M == 1])


def test_a_class_name_teaches_in_every_source(tmp_path: Path) -> None:
    found = gather(two(tmp_path, "first", "second"), seed=0, text_template="a photo of {label}")
    assert sorted(found.texts) == ["a photo of dots"] * 2 + ["a photo of plain"] * 2
    assert sorted(found.text_label_U) == [0, 1, 2, 3]  # each text names one label, and every label has one
    named = [found.labels[label] for label in found.text_label_U]
    assert [text.split()[-1] for text in found.texts] == [name.split()[-1] for name in named]


def test_labels_that_are_not_used_are_counted(tmp_path: Path) -> None:
    used, unused = two(tmp_path, "used", "unused")
    found = gather([used, unused.model_copy(update={"labels": 0})], seed=0, text_template=None)
    assert found.unused == ((tmp_path / "unused", 2),)
    assert np.all(found.label_M[found.source_M == 1] == UNKNOWN)
    assert found.without({found.paths[0]}).unused == found.unused
