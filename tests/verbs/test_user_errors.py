"""What a user gets wrong ends with exit code 2 and one readable text, never with a traceback."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pangu_cv import cli
from tests.finetune.tiny import COLOURS, NETWORK, Made, class_folders, mvtec, picture, save


def shell(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main([str(a) for a in arguments])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, classify: Made, anomaly: Made) -> Path:
    """A folder with one of everything."""
    path = tmp_path_factory.mktemp("here")
    class_folders(path / "classes")
    mvtec(path / "normals")
    (path / "empty").mkdir()
    (path / "kit").mkdir()
    (path / "kit" / "probes.json").write_text("{}")
    (path / "text.txt").write_text("nothing here")
    (path / "broken.yaml").write_text("task: [")
    save(path / "one" / "red" / "0.png", picture(COLOURS["red"], 0))
    for name, made in (("classify", classify), ("anomaly", anomaly)):
        shutil.copytree(made.run, path / f"{name}_run")
        shutil.copytree(made.bundle, path / f"{name}_bundle")
    return path


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """That folder, where wrong lines are run; what they write is swept up."""
    monkeypatch.chdir(folder)
    before = set(folder.iterdir())
    yield folder
    for path in set(folder.iterdir()) - before:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


TINY = " ".join(NETWORK)
CLASSIFY = f"finetune classify {TINY} few_shot.shots=2 data.path=classes output=run"
ANOMALY = f"finetune anomaly {TINY} data.path=normals output=run"
WRONG = [
    "predict nowhere classes",
    "predict classify_bundle nowhere",
    "predict classify_bundle empty",
    "predict classify_bundle text.txt",
    "predict classify_run classes",
    "predict text.txt classes",
    "predict classify_bundle classes --out empty",
    "predict classify_bundle classes --out text.txt/inside",
    "predict classify_bundle classes --threshold inf",
    "predict anomaly_bundle classes --threshold nan",
    "verify nowhere",
    "verify empty",
    "verify text.txt",
    "verify classify_bundle --images nowhere",
    "verify classify_bundle --images empty",
    "profile nowhere",
    "profile empty",
    "profile text.txt",
    "profile classify_bundle --size 0x3",
    "profile classify_bundle --size wide",
    "profile classify_bundle --size 99999x99999",
    "profile classify_bundle --threads 0",
    "profile classify_bundle --runs 0",
    "profile kit",
    "profile classify_bundle --runs 1 --size 20x20 --out empty",
    "verify classify_bundle --sha256 12",
    "export classify_run --out bundle --profile cloud --images nowhere",
    "data check nowhere",
    "data check empty",
    "data check text.txt",
    "data check classes --report empty",
    "data check classes --report text.txt/inside.html",
    "recipe copy finetune nothing mine.yaml",
    "recipe copy nowhere classify mine.yaml",
    "recipe copy finetune classify text.txt",
    "recipe copy finetune classify text.txt/mine.yaml",
    "weights get no_such_model",
    "finetune nothing",
    "finetune empty",
    "finetune broken.yaml",
    "finetune text.txt",
    "finetune classify",
    "finetune classify data.path=nowhere",
    "finetune classify data.path=empty task.backbone.weights=random",
    f"{CLASSIFY} data.path=one",
    f"{CLASSIFY} data.path=text.txt",
    f"{CLASSIFY} few_shot.shots=100",
    f"{CLASSIFY} few_shot.shots=-1",
    f"{CLASSIFY} few_shot.seeds=[-1]",
    f"{CLASSIFY} task.backbone.name=no_such_model",
    f"{CLASSIFY} task.backbone.levels=[9]",
    f"{CLASSIFY} task.backbone.weights=nowhere.pth",
    f"{CLASSIFY} task.backbone.weights=text.txt",
    f"{CLASSIFY} task.preprocess.image_px=0",
    f"{CLASSIFY} task.preprocess.image_px=-8",
    f"{CLASSIFY} task.backbone.name=test_vit task.preprocess.image_px=50",
    f"{CLASSIFY} task.fit_views=[]",
    f"{CLASSIFY} task.decision_views=[]",
    f"{CLASSIFY} task.head.penalty=-1",
    f"{CLASSIFY} data.range_16bit=[9,3]",
    f"{CLASSIFY} data.max_pixels=0",
    f"{CLASSIFY} data.layout=coco",
    f"{CLASSIFY} output=text.txt",
    f"{CLASSIFY} output=text.txt/inside",
    f"{CLASSIFY} misspelt=1",
    f"{ANOMALY} data.path=classes",
    f"{ANOMALY} task.false_alarm_rate=0",
    f"{ANOMALY} task.false_alarm_rate=1.5",
    f"{ANOMALY} task.false_alarm_rate=-0.1",
    f"{ANOMALY} task.top_share=5",
    f"{ANOMALY} task.top_share=-1",
    f"{ANOMALY} task.bank.max_mb=0",
    f"{ANOMALY} few_shot.shots=1",
    f"{ANOMALY} few_shot.seeds=[0,1]",
    f"{ANOMALY} grow_from=nowhere",
    f"{ANOMALY} grow_from=text.txt",
    f"{ANOMALY} grow_from=classify_run/model",
    f"{ANOMALY} forget=[a]",
    "evaluate nowhere classes",
    "evaluate classify_bundle nowhere",
    "evaluate classify_bundle normals",
    "evaluate anomaly_bundle empty",
    "evaluate empty classes",
    "evaluate text.txt classes",
    "evaluate classify_bundle classes --out text.txt",
    "evaluate classify_bundle classes --against anomaly_bundle",
    "evaluate classify_bundle classes --against nowhere",
    "evaluate classify_bundle classes --good green",
    "evaluate anomaly_bundle normals --good good",
    "evaluate classify_bundle classes --recall 1.5",
    "evaluate classify_bundle classes --escape-cost 100",
    "evaluate classify_bundle classes --escape-cost -1 --overkill-cost 1",
    "export nowhere --out bundle",
    "export empty --out bundle",
    "export text.txt --out bundle",
    "export classify_run --out bundle --images nowhere",
    "export classify_run --out bundle --images empty",
    "export classify_run --out bundle --images text.txt",
    "export classify_run/model --out text.txt/bundle",
    "export classify_bundle --out bundle",
    "demo --data nowhere --out demo",
    "demo --data empty --out demo",
    "demo --data one --out demo",
    "demo --data classes --out text.txt",
]


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("line", WRONG, ids=[line.replace(f" {TINY}", "") for line in WRONG])
def test_wrong_line_is_told(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = shell(*line.split())
    told = capsys.readouterr().err
    assert code == 2
    last_words = [line for line in told.splitlines() if not line.startswith("skipped: ")]
    assert last_words[0].startswith("error: "), told
    assert "Traceback" not in told
    assert Path("text.txt").read_text() == "nothing here"
    assert not list(Path("empty").iterdir())
    assert not list(Path().glob(".*")), "something half-made is left behind"


@pytest.mark.parametrize(
    "line", ["nothing", "predict", "predict --colour a b", "predict a b --threshold much", "recipe copy", "data"]
)
def test_line_that_is_no_command_is_told(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    code = shell(*line.split())
    out, told = capsys.readouterr()
    assert "Traceback" not in told
    assert code == 2 or (line == "data" and "check" in out)


def test_data_that_must_be_mended_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = class_folders(tmp_path)
    (data / "train" / "red" / "0.png").write_bytes(b"cut")
    assert shell("data", "check", data) == 1
    assert "not ok" in capsys.readouterr().out


def test_reader_of_a_pipe_that_leaves_is_no_error() -> None:
    command = [sys.executable, "-c", "from pangu_cv.cli import main; main(['recipe', 'list'])"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
