import json
from pathlib import Path

import pytest
import yaml

from pangu_cv import cli, recipes
from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.errors import DataError
from pangu_cv.workflows import demo
from pangu_runtime import golden
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import class_folders, mvtec


@pytest.fixture(autouse=True)
def _tiny_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped recipes on a tiny network with random weights."""
    find = recipes.find

    def tiny(stage: str, name: str) -> Path:
        tree = yaml.safe_load(find(stage, name).read_text())
        tree["task"]["backbone"] |= {"name": "test_efficientnet", "weights": "random"}
        tree["task"]["preprocess"]["image_px"] = 64
        path = tmp_path / "recipes" / f"{name}.yaml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(tree))
        return path

    monkeypatch.setattr(recipes, "find", tiny)


@pytest.mark.parametrize("kind", ["classify", "anomaly"])
def test_demo_on_own_images_ends_with_a_verified_bundle(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = (class_folders if kind == "classify" else mvtec)(tmp_path / "data \U0001f600 #2: a")
    out = tmp_path / "out"
    with pytest.raises(SystemExit) as stopped:
        cli.main(["demo", "--data", str(data), "--out", str(out)])
    assert not stopped.value.code
    told = capsys.readouterr().out
    assert f"pangu-cv predict {out / 'bundle'}" in told
    assert "0 flips" in told
    (part,) = json.loads((out / "summary.json").read_text())["parts"]
    assert part["task"] == kind
    assert part["certificate"]["flips"] == 0
    assert len(part["predictions"]) == 3
    golden.replay(Predictor(out / "bundle"))
    assert (out / "report.html").is_file()


def test_built_in_scenes_run_both_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which images and which jobs; the jobs themselves are tested above."""
    done = []

    def job(kind: str, data: Path, out: Path, *, shots: int | None, say: demo.Say) -> demo.DemoPart:
        done.append((kind, data.is_dir(), shots))
        return demo.DemoPart(kind, out, {}, {}, [], {})  # type: ignore[arg-type]

    monkeypatch.setattr(demo, "write_class_folders", lambda folder, **_: folder.mkdir(parents=True))
    monkeypatch.setattr(demo, "write_mvtec", lambda folder, **_: folder.mkdir(parents=True))
    monkeypatch.setattr(demo, "_job", job)
    parts = demo.run_demo(tmp_path / "out", data=None, say=lambda _: None)
    assert done == [("classify", True, demo.SHOTS), ("anomaly", True, None)]
    assert parts[0].bundle != parts[1].bundle
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["data"] == "built-in power-line scenes"


def dataset(**counts: int) -> Dataset:
    samples = [Sample(Path(f"/d/{n}/{i}.png"), label=n) for n, count in counts.items() for i in range(count)]
    return Dataset(Path("/d"), "class_folders", tuple(samples))


@pytest.mark.parametrize(("counts", "shots"), [((9, 9), 5), ((9, 3), 2), ((2, 9), 1)])
def test_shots_leave_an_image_of_every_class_to_measure_on(counts: tuple[int, int], shots: int) -> None:
    assert demo._shots(dataset(a=counts[0], b=counts[1])) == shots


def test_single_class_and_single_image_are_told() -> None:
    with pytest.raises(DataError, match="found 1"):
        demo._shots(dataset(a=9))
    with pytest.raises(DataError, match="a single image"):
        demo._shots(dataset(a=9, b=1))
