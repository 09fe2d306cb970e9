import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pangu_runtime import latency
from pangu_runtime.errors import BundleError, RuntimeLimitError
from pangu_runtime.latency import measure, operators, picture
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import Made, copy_of
from tests.runtime import forge


def test_figures_are_whole_and_can_be_written(classify: Made) -> None:
    seen = []
    found = measure(classify.bundle, width=90, height=70, runs=4, threads=1, progress=lambda *at: seen.append(at))
    assert (found.task, found.width, found.height) == ("classify", 90, 70)
    assert (found.tiles, found.threads, found.runs) == (1, 1, 4)
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for timing in (found.decision, found.file):
        assert 0 < timing.median_ms <= timing.p95_ms
    assert found.file.median_ms > found.decision.median_ms
    assert min(found.open_s, found.session_s, found.first_ms) > 0
    assert found.peak_memory_mb > 10
    plain = json.dumps(found.to_json(), allow_nan=False)
    assert platform.node() not in plain or platform.node() in json.dumps(found.machine["cpu"])


def test_what_takes_long_is_seen_where_it_is(classify: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    run, decode = Predictor.run, Predictor.decode

    def slow_run(self: Predictor, *images: Any, **more: Any) -> Any:
        time.sleep(0.05)
        return run(self, *images, **more)

    def slow_decode(self: Predictor, source: Any) -> Any:
        time.sleep(0.2)
        return decode(self, source)

    monkeypatch.setattr(Predictor, "run", slow_run)
    monkeypatch.setattr(Predictor, "decode", slow_decode)
    found = measure(classify.bundle, width=40, height=40, runs=2, threads=1)
    assert found.decision.median_ms >= 50
    assert found.file.median_ms >= 250
    assert found.file.median_ms - found.decision.median_ms >= 200
    assert found.first_ms >= 50


def test_operators_share_the_time_and_leave_nothing_behind(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latency.tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    found = operators(Predictor(classify.bundle).bundle, picture(200, 150), threads=1)
    assert sum(one.share for one in found) == pytest.approx(1)
    assert [one.share for one in found[:-1]] == sorted((one.share for one in found[:-1]), reverse=True)
    assert (len(found), found[-1].name) == (latency.TOP + 1, "others")
    counts = {one.name: one.nodes for one in found}
    assert counts["Conv"] == 17
    assert counts["Resize"] == 1
    assert list(tmp_path.iterdir()) == []


def test_only_images_after_the_first_are_counted(segment: Made, tmp_path: Path) -> None:
    bundle = copy_of(segment.bundle, tmp_path / "tiled")
    forge.state(tile={"px": 64, "overlap": 0.0})(bundle)
    forge.restate_everything(bundle)
    calls: list[list[dict[str, Any]]] = []
    by_type = latency._by_type
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(latency, "_by_type", lambda events: calls.append(events) or by_type(events))
        found = measure(bundle, width=128, height=64, runs=1, threads=1)
    assert found.tiles == 2
    resizes = [event for event in calls[0] if event["name"] == "node__upsample_bicubic2d_aa_kernel_time"]
    assert len(resizes) == 2 * latency.TRACED_RUNS


def test_the_picture_is_always_the_same_and_no_plain_one() -> None:
    image = picture(160, 120)
    assert image.shape == (120, 160, 3)
    assert np.array_equal(image, picture(160, 120))
    assert image.std() > 20


def test_what_cannot_be_measured_is_told(classify: Made, tmp_path: Path) -> None:
    with pytest.raises(RuntimeLimitError, match="this bundle takes up to"):
        measure(classify.bundle, width=99_999, height=99_999, runs=1)
    with pytest.raises(BundleError, match="is not a folder"):
        measure(tmp_path / "nowhere", width=9, height=9, runs=1)
