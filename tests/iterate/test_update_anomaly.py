import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from pangu_cv import cli
from pangu_cv.data.masks import read_mask
from pangu_cv.deploy import export
from pangu_cv.errors import DataError, RegressionError, SettingsError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.iterate import update_anomaly
from pangu_cv.iterate.ledger import Ledger
from pangu_cv.iterate.recipe import UpdateRecipe
from pangu_cv.iterate.update import UpdateResult, update
from pangu_cv.tasks.saved import load_model
from pangu_runtime.predictor import Predictor
from tests.finetune.test_classify import self_contained
from tests.finetune.tiny import COLOURS, Made, mvtec, picture, save

BLUE = COLOURS["blue"]


def spot(seed: int, *, side: int = 10, at: int = 12) -> np.ndarray:
    """A small teal spot: too faint and too small for the bank alone."""
    image = picture(BLUE, seed)
    image[at : at + side, at : at + side] = (60, 120, 160)
    return image


def frozen(root: Path, *, defects: int = 4) -> Path:
    for number in range(12):
        save(root / "test" / "good" / f"{number}.png", picture(BLUE, 50_000 + number))
    for number in range(defects):
        save(root / "test" / "spot" / f"{number}.png", spot(60_000 + number, at=10 + number))
    save(root / "train" / "good" / "x.png", picture(BLUE, 1))
    return root


def run(anomaly: Made, tmp_path: Path, **changes: object) -> UpdateResult:
    tree = {
        "model": anomaly.run,
        "output": tmp_path / "next",
        "gate": {"path": tmp_path / "gate"},
        "ledger": tmp_path / "ledger.jsonl",
        "by": "a test",
    }
    if not (tmp_path / "gate").exists():
        frozen(tmp_path / "gate")
    return update(UpdateRecipe.parse(tree | changes, origin="test"))


@pytest.fixture
def missed(tmp_path: Path) -> Path:
    """Three images and, beside them, masks."""
    for number in range(3):
        save(tmp_path / "missed" / f"{number}.png", spot(70_000 + number, at=8 + 4 * number))
        mask = np.zeros((40, 48), np.uint8)
        mask[8 + 4 * number : 18 + 4 * number, 8 + 4 * number : 18 + 4 * number] = 255
        save(tmp_path / "masks" / f"{number}_mask.png", mask)
    return tmp_path / "missed"


def test_a_missed_defect_moves_the_score_and_normals_keep_theirs(anomaly: Made, tmp_path: Path, missed: Path) -> None:
    result = run(anomaly, tmp_path, missed=missed, masks=tmp_path / "masks", max_drop=0.5)
    saved, before = load_model(result.model), load_model(anomaly.run / "model")
    assert saved.normality is not None
    assert saved.normality.defects is not None
    assert result.metrics["missed"]["images"] == 3
    old, new = TorchDecider(before.model), TorchDecider(saved.model)
    like = np.stack([spot(80_000 + n, at=8 + 4 * n) for n in range(3)])
    scores = [side.run(like)["score"] for side in (old, new)]
    assert bool((scores[1] >= scores[0]).all())
    assert int((scores[1] > 1.1 * scores[0]).sum()) >= 2
    normal = np.stack([picture(BLUE, 90_000 + n) for n in range(6)])
    patches = saved.model.patches(saved.model.prepare(torch.from_numpy(normal)))
    plain, raised = before.model.distances(patches), saved.model.distances(patches)
    near = (patches.flatten(0, 2)[:, None] - saved.normality.defects.vectors_KD).norm(dim=-1).amin(1).view_as(plain)
    away = near > plain
    assert bool(away.any())
    assert bool((plain[away] == raised[away]).all())  # to the last digit
    assert bool((raised >= plain).all())
    assert "known defects were weighed" in saved.model.calibration.explain()  # type: ignore[union-attr]
    assert self_contained(result.report.read_text())
    [_, entry] = Ledger(tmp_path / "ledger.jsonl").entries()
    assert entry.facts["missed"]["images"] == 3
    assert entry.facts["task"] == "anomaly"


def test_what_shows_nothing_was_not_missed(tmp_path: Path, missed: Path) -> None:
    """Annotated as empty, as those that are sorted into 'good'."""
    for file in sorted(missed.glob("*.png")):
        label = missed.parent / "set" / "labels" / f"{file.stem}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        label.write_text("0 0.5 0.5 0.5 0.5\n" if file.stem != "0" else "")
        (missed.parent / "set" / "images").mkdir(exist_ok=True)
        shutil.copyfile(file, missed.parent / "set" / "images" / file.name)
    recipe = UpdateRecipe.parse(
        {"model": "m", "output": tmp_path / "next", "missed": missed.parent / "set", "gate": {"path": "g"}},
        origin="test",
    )
    assert [one.path.stem for one in update_anomaly._missed(recipe)] == ["1", "2"]


def test_the_bundle_decides_the_same(anomaly: Made, tmp_path: Path, missed: Path) -> None:
    result = run(anomaly, tmp_path, missed=missed, masks=tmp_path / "masks", max_drop=0.5)
    images = sorted(missed.iterdir()) + sorted((tmp_path / "gate" / "test" / "good").iterdir())
    exported = export(result.model, tmp_path / "bundle", images)
    assert exported.certificate.holds
    model, bundle = TorchDecider(load_model(result.model).model), Predictor(tmp_path / "bundle")
    shown = np.stack([spot(80_000 + n) for n in range(3)])
    for name, value in model.run(shown).items():
        np.testing.assert_allclose(bundle.run(shown)[name], value, atol=2e-3)


def test_a_missed_defect_can_be_forgotten_again(anomaly: Made, tmp_path: Path, missed: Path) -> None:
    first = run(anomaly, tmp_path, missed=missed, masks=tmp_path / "masks", max_drop=0.5)
    known = load_model(first.model).normality
    assert known is not None
    assert known.defects is not None
    later = {"model": first.folder, "output": tmp_path / "later", "gate": None, "max_drop": 0.99}
    result = run(anomaly, tmp_path, forget=known.defects.names, **later)
    after, before = load_model(result.model), load_model(anomaly.run / "model")
    assert after.normality is not None
    assert after.normality.defects is None
    image = spot(80_000)[None]
    np.testing.assert_array_equal(
        TorchDecider(after.model).run(image)["map"], TorchDecider(before.model).run(image)["map"]
    )


def test_an_easy_defect_does_not_weaken_what_was_taught_before(
    anomaly: Made, tmp_path: Path, missed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(update_anomaly, "BOOSTS", (4.0, 8.0))
    first = run(anomaly, tmp_path, missed=missed, masks=tmp_path / "masks", max_drop=0.5)
    assert first.metrics["boost"] >= 4
    monkeypatch.undo()
    easy = picture(BLUE, 75_000)
    easy[8:32, 8:32] = 255
    save(tmp_path / "easy" / "white.png", easy)
    later = {"model": first.folder, "output": tmp_path / "later", "gate": None, "max_drop": 0.99}
    result = run(anomaly, tmp_path, missed=tmp_path / "easy", **later)
    assert result.metrics["missed"]["flagged_now"] == 1
    assert result.metrics["boost"] >= first.metrics["boost"]


def test_corrected_masks_are_another_update(anomaly: Made, tmp_path: Path, missed: Path) -> None:
    for number in range(3):
        save(tmp_path / "wrong" / f"{number}.png", np.eye(40, 48, dtype=np.uint8) * 255)
    run(anomaly, tmp_path, missed=missed, masks=tmp_path / "wrong", max_drop=0.99)
    again = {"missed": missed, "max_drop": 0.99, "output": tmp_path / "again", "fork": True}
    with pytest.raises(DataError, match="this very update was given before"):
        run(anomaly, tmp_path, masks=tmp_path / "wrong", **again)
    assert run(anomaly, tmp_path, masks=tmp_path / "masks", **again).metrics["accepted"]


def test_normals_are_added_once_and_taken_out(anomaly: Made, tmp_path: Path) -> None:
    for number in range(4):
        save(tmp_path / "new" / "good" / f"{number}.png", picture(BLUE, 30_000 + number))
    result = run(anomaly, tmp_path, data={"path": tmp_path / "new"}, max_drop=0.5)
    normality = load_model(result.model).normality
    assert normality is not None
    assert len(normality.digests) == 24
    later = {"model": result.folder, "output": tmp_path / "later", "gate": None, "max_drop": 0.5}
    with pytest.raises(DataError, match="all normal images are in the bank already"):
        run(anomaly, tmp_path, data={"path": tmp_path / "new"}, **later)
    gone = run(anomaly, tmp_path, forget=("good/0.png",), **later)
    left = load_model(gone.model).normality
    assert left is not None
    assert len(left.digests) == 23
    with pytest.raises(DataError, match=r"holds no image 'nothing\.png'"):
        run(anomaly, tmp_path, model=gone.folder, gate=None, forget=("nothing.png",), output=tmp_path / "last")


def test_a_gate_that_holds_a_normal_image_learnt_before_is_refused(anomaly: Made, tmp_path: Path) -> None:
    gate = frozen(tmp_path / "gate") / "test" / "good" / "learnt.png"
    shutil.copyfile(anomaly.data / "train" / "good" / "0.png", gate)
    with pytest.raises(DataError, match=r"1 images .* among the normal images learnt before .*learnt\.png"):
        run(anomaly, tmp_path, forget=("good/1.png",))


def test_defects_learnt_as_normal_are_refused(anomaly: Made, tmp_path: Path) -> None:
    gate = mvtec(tmp_path / "gate", normals=1, test=6, defects=6)
    for number in range(6):
        image = picture(BLUE, 40_000 + number)
        image[8:28, 8:28] = COLOURS["red"]
        save(tmp_path / "wrong" / "good" / f"{number}.png", image)
    for path in (gate / "test").rglob("*.png"):  # other pictures than the model was measured on
        mask = gate / "ground_truth" / "stain" / f"{path.stem}_mask.png"
        image = picture(BLUE, 45_000 + int(path.stem) + 100 * (path.parent.name == "stain"))
        if path.parent.name == "stain":
            image[read_mask(mask)] = COLOURS["red"]
        save(path, image)
    with pytest.raises(RegressionError, match="makes the model worse"):
        run(anomaly, tmp_path, data={"path": tmp_path / "wrong"}, gate={"path": gate})
    assert not (tmp_path / "next" / "model").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"hard": {"path": "x"}}, "--hard is for classifiers"),
        ({"masks": "x"}, "--masks are of missed defects"),
        ({}, "there is nothing to learn"),
        ({"rename": {"a": "b"}}, "--rename is for classifiers"),
    ],
)
def test_wishes_that_make_no_sense(anomaly: Made, tmp_path: Path, changes: dict, told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        run(anomaly, tmp_path, **changes)


def test_the_root_of_tables_holds_for_missed_defects_too(
    anomaly: Made, tmp_path: Path, missed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = tmp_path / "tables" / "of" / "missed.csv"
    table.parent.mkdir(parents=True)
    table.write_text("file,label,mask\n" + "".join(f"missed/{n}.png,spot,masks/{n}_mask.png\n" for n in range(3)))
    places = ["--gate", frozen(tmp_path / "gate"), "--out", tmp_path / "next", "--ledger", tmp_path / "ledger.jsonl"]
    wish = ["--missed", table, "--root", tmp_path, "--max-drop", 50]
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(one) for one in ("update", anomaly.run, *places, *wish, "--json")])
    assert not stopped.value.code
    assert json.loads(capsys.readouterr().out)["missed"]["images"] == len(list(missed.iterdir()))


def test_masks_that_do_not_fit(anomaly: Made, tmp_path: Path, missed: Path) -> None:
    (tmp_path / "masks" / "1_mask.png").unlink()
    with pytest.raises(DataError, match=r"holds no mask for 1.png"):
        run(anomaly, tmp_path, missed=missed, masks=tmp_path / "masks")
    save(tmp_path / "masks" / "1.png", np.zeros((4, 4), np.uint8))
    with pytest.raises(DataError, match="4 x 4 pixels, its image is 48 x 40"):
        run(anomaly, tmp_path, missed=missed, masks=tmp_path / "masks")
    with pytest.raises(DataError, match="does not exist"):
        run(anomaly, tmp_path, missed=tmp_path / "gone")
