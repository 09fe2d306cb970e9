import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pangu_cv.errors import DataError
from pangu_cv.pretrain.probes import Probe, TargetConfig, _Part, held_out, measure_all
from tests.pretrain import small


def target(path: Path, **changes: object) -> TargetConfig:
    settings = {"path": path, "image_px": small.SIDE, "shots": 2, "draws": 3, "images": 24} | changes
    return TargetConfig.model_validate(settings)


def test_classes_that_differ_are_told_apart_and_the_same_draws_come_again(tmp_path: Path) -> None:
    backbone = small.backbone()
    probe = Probe(target(small.images(tmp_path / "data"), shots=5), backbone)
    first, second = (measure_all([probe], backbone)[0] for _ in range(2))
    assert first == second
    assert first.mean > 0.75
    assert first.knn is not None
    assert first.knn > 0.9


def test_alike_classes_are_at_chance(tmp_path: Path) -> None:
    folder = small.images(tmp_path / "data", count=40, classes=("one", "two"))  # noise of one kind under two names
    backbone = small.backbone()
    score = Probe(target(folder, images=80, draws=10), backbone).measure(backbone)
    assert 0.35 < score.mean < 0.65


def test_defects_stand_out_from_good_images(tmp_path: Path) -> None:
    folder = small.images(tmp_path / "data", classes=("good", "dots"))
    backbone = small.backbone()
    score = Probe(target(folder, kind="anomaly"), backbone).measure(backbone)
    assert [len(fold.by_draw) for fold in score.folds] == [3]
    assert score.mean > 0.9
    assert score.knn is None


def test_kinds_of_defects_with_one_image_each_are_measured_on_too(tmp_path: Path) -> None:
    folder = small.images(tmp_path / "data", count=6, classes=("good", "dots"))
    for number, path in enumerate(sorted((folder / "dots").iterdir())):
        (folder / f"kind{number}").mkdir()
        path.rename(folder / f"kind{number}" / "0.png")
    (folder / "dots").rmdir()
    probe = Probe(target(folder, kind="anomaly"), small.backbone())
    assert {sample.label for sample in probe.held.samples} == {"good", "defect"}
    assert 0 <= probe.measure(small.backbone()).mean <= 1  # not a number where nothing is held out
    for number in range(1, 6):
        shutil.rmtree(folder / f"kind{number}")
    with pytest.raises(DataError, match="an anomaly target needs two of both"):
        Probe(target(folder, kind="anomaly"), small.backbone())


@pytest.mark.parametrize(("kind", "classes"), [("classify", ("dots", "plain")), ("anomaly", ("dots", "good"))])
def test_the_halves_have_images_of_their_own(kind: str, classes: tuple[str, str], tmp_path: Path) -> None:
    folder = small.images(tmp_path / "data", count=30, classes=classes)
    groups = tmp_path / "groups.csv"
    names = [f"{label}/{number}.png,{label}{number // 3}" for label in classes for number in range(30)]
    groups.write_text("\n".join(["file,group", *names]) + "\n")
    backbone = small.backbone()
    probe = Probe(target(folder, kind=kind, images=60, groups=groups, held_out=0.5), backbone)
    halves = [[probe.held.samples[row] for row in rows] for rows in probe.folds]
    first, second = ({sample.path for sample in half} for half in halves)
    assert first | second == {sample.path for sample in probe.held.samples}
    assert not first & second
    assert not {sample.group for sample in halves[0]} & {sample.group for sample in halves[1]}
    assert all(len({sample.label for sample in half}) == 2 for half in halves)
    score = probe.measure(backbone)
    assert score.is_apart
    assert [len(fold.by_image) for fold in score.folds] == [len(first), len(second)]
    assert len(first) != len(second) >= 9
    assert [len(fold.by_draw) for fold in score.folds] == [3, 3]
    assert all(fold.mean > 0.6 for fold in score.folds)
    assert score.mean_beside(0) == score.folds[1].mean
    probe.held = with_other_labels(probe.held, torch.tensor(probe.folds[1]))
    told = probe.measure(backbone)
    assert told.folds[0] == score.folds[0]  # what one fold chooses does not hang on the images of the other
    assert told.folds[1].mean == pytest.approx(1 - score.folds[1].mean)


def with_other_labels(held: _Part, rows: torch.Tensor) -> _Part:
    """Each of these images under the other of two labels."""
    label_M, samples = held.label_M.clone(), list(held.samples)
    one, other = sorted({str(sample.label) for sample in samples})
    for row in rows.tolist():
        label_M[row] = 1 - label_M[row]
        samples[row] = replace(samples[row], label=other if samples[row].label == one else one)
    return replace(held, label_M=label_M, samples=tuple(samples))


def test_few_images_choose_the_round_and_judge_it(tmp_path: Path) -> None:
    backbone = small.backbone()
    score = Probe(target(small.images(tmp_path / "data", count=20), images=40), backbone).measure(backbone)
    assert not score.is_apart  # 16 are held out
    assert [len(fold.by_image) for fold in score.folds] == [16]
    assert score.mean_beside(0) == score.mean


def test_halves_of_one_defect_each_are_not_parted(tmp_path: Path) -> None:
    folder = small.images(tmp_path / "data", count=50, classes=("good", "dots"))
    for number in range(6, 50):
        (folder / "dots" / f"{number}.png").unlink()
    backbone = small.backbone()
    probe = Probe(target(folder, kind="anomaly", images=100), backbone)
    assert sum(sample.label == "defect" for sample in probe.held.samples) == 2
    assert not probe.measure(backbone).is_apart


def test_anomaly_wants_good_images(tmp_path: Path) -> None:
    folder = small.images(tmp_path / "data")
    with pytest.raises(DataError, match="has no 'good' images; found dots, plain"):
        Probe(target(folder, kind="anomaly"), small.backbone())


def test_defects_in_the_test_part_alone_have_a_way_out(tmp_path: Path) -> None:
    good, other = tmp_path / "set" / "train" / "good", tmp_path / "set" / "test"
    small.images(tmp_path / "made", count=20, classes=("good", "dots"))
    good.parent.mkdir(parents=True)
    other.mkdir()
    (tmp_path / "made" / "good").rename(good)
    (tmp_path / "made" / "dots").rename(other / "dots")
    with pytest.raises(DataError, match=r"has 1 class.*split: anew draws"):
        Probe(target(tmp_path / "set", kind="anomaly"), small.backbone())
    probe = Probe(target(tmp_path / "set", kind="anomaly", split="anew"), small.backbone())
    assert {sample.label for sample in probe.held.samples} == {"good", "defect"}


def test_many_classes_get_the_images_that_shots_ask_for(tmp_path: Path) -> None:
    """Of 12 images for 4 classes two would be left to draw three shots from."""
    folder = small.images(tmp_path / "data", classes=("a", "b", "c", "d"))
    assert [len(rows) for rows in Probe(target(folder, images=12, shots=3), small.backbone()).draws] == [12] * 3


def test_groups_of_what_is_measured_are_held_out_with_it(tmp_path: Path) -> None:
    folder = small.images(tmp_path / "data", count=40)
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))
    groups = tmp_path / "groups.csv"
    groups.write_text("file,group\n" + "".join(f"{name},{name[:6]}\n" for name in names))  # a few of one group
    asked = target(folder, groups=groups)
    kept = {path.relative_to(folder.resolve()).as_posix()[:6] for path in held_out(asked)}
    rest = set(names) - {path.relative_to(folder.resolve()).as_posix() for path in held_out(asked)}
    assert rest
    assert not kept & {name[:6] for name in rest}


def test_probe_leaves_the_network_as_it_was(tmp_path: Path) -> None:
    backbone = small.backbone()
    backbone.network.train()
    before = {name: tensor.clone() for name, tensor in backbone.network.state_dict().items()}
    measure_all([Probe(target(small.images(tmp_path / "data")), backbone)], backbone)
    assert backbone.network.training
    assert all(torch.equal(before[name], tensor) for name, tensor in backbone.network.state_dict().items())
