"""Every example runs as it stands, with fewer images."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pangu_cv.models import weights

EXAMPLES = Path(__file__).parents[1] / "examples"
OUT = "out #2: a"  # no comment, no mapping
ARGUMENTS = {
    "embedded_backbone.py": ["--scenes", "1", "--collages", "3", "--side-px", "48"],
    "power_line/three_rounds.py": [
        *("--images", "40", "--frozen", "12", "--count", "6"),
        *("--set", "rounds=2", "task.preprocess.image_px=64"),
    ],
    "few_shot_classify.py": ["--images", "2", "--shots", "2"],
    "anomaly_threshold.py": ["--normals", "18"],
    "pretrain_then_finetune.py": [
        *("--images", "8", "--shots", "2", "--steps", "2"),
        *("--backbone", "test_vit", "--weights", "random", "--image-px", "64"),
    ],
}
TOLD = {
    "embedded_backbone.py": ["wrote 6 scenes and 3 collages"],
    "few_shot_classify.py": ["balanced accuracy", "certified on 12 images", "flips=0"],
    "power_line/three_rounds.py": ["round_2: learning on, behind the gate", "certified bundle "],
    "pretrain_then_finetune.py": ["pretraining: ", "balanced accuracy"],
    "anomaly_threshold.py": [
        "18 normal images: 18 normal images cannot certify 5.00% false alarms",
        "19 normal images: at most 5.00% false alarms, certified by 19 normal images",
    ],
}


def test_every_example_is_tested() -> None:
    assert sorted(p.relative_to(EXAMPLES).as_posix() for p in EXAMPLES.rglob("*.py")) == sorted(ARGUMENTS)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_example_runs(name: str, tmp_path: Path) -> None:
    entry = weights.known("tf_efficientnet_lite0.in1k")
    assert entry is not None
    assert entry.package_file is not None
    if weights.packaged(entry.package_file) is None:
        pytest.skip(f"{entry.package} is not installed")
    command = [sys.executable, str(EXAMPLES / name), str(tmp_path / OUT), *ARGUMENTS[name]]
    calm = os.environ | {"OMP_NUM_THREADS": "1"}  # threads that wait are a burden on a busy machine
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=calm)
    assert done.returncode == 0, done.stderr
    for words in TOLD[name]:
        assert words in done.stdout
    assert [p.name for p in tmp_path.iterdir()] == [OUT]
