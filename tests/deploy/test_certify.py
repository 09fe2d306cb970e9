import json
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.deploy.certify import certify
from pangu_cv.errors import CertificateError
from pangu_cv.evaluate import TorchDecider
from pangu_cv.tasks.saved import load_model
from pangu_runtime.bundle import file_sha256
from pangu_runtime.certificate import recheck
from pangu_runtime.compare import Limits, compare
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import Made

SIZES_HW = [(1, 1), (1, 500), (7, 900), (600, 3), (64, 64), (63, 65), (301, 217), (480, 640)]


@pytest.mark.parametrize("kind", ["classify", pytest.param("unknown", marks=pytest.mark.slow), "multilabel", "anomaly"])
def test_graph_decides_like_the_model_at_every_size(kind: str, request: pytest.FixtureRequest) -> None:
    made: Made = request.getfixturevalue(kind)
    trained, exported = TorchDecider(load_model(made.run / "model").model), Predictor(made.bundle)
    rng = np.random.default_rng(0)
    for size in SIZES_HW:
        image = rng.integers(0, 256, (1, *size, 3), dtype=np.uint8)
        assert compare(trained.run(image), exported.run(image)).within(Limits()), size
    pair = rng.integers(0, 256, (2, 50, 70, 3), dtype=np.uint8)
    expected, found = trained.run(pair), exported.run(pair)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, atol=1e-3)
    for row in (0, 1):
        alone = exported.run(pair[row : row + 1])
        for name in set(alone) - {"threshold_applied"}:
            np.testing.assert_allclose(found[name][row], alone[name][0], atol=1e-5)


def test_certificate_names_images_by_digest_and_counts_decisions(classify: Made) -> None:
    parity = json.loads((classify.bundle / "parity.json").read_text())
    assert parity["holds"] is True
    assert [image["sha256"] for image in parity["images"]] == [file_sha256(path) for path in classify.images]
    assert {name: group["images"] for name, group in parity["per_decision"].items()} == {"blue": 4, "red": 4}
    assert parity["precisions"]["fp32"]["images"] == len(classify.images)
    assert parity["model_sha256"] == file_sha256(classify.bundle / "model.onnx")
    assert parity["limits"] == Limits().to_json()
    assert str(classify.data) not in json.dumps(parity)


def test_decisions_are_counted_under_what_they_are(unknown: Made, multilabel: Made) -> None:
    unsure, tags = (json.loads((made.bundle / "parity.json").read_text()) for made in (unknown, multilabel))
    answers = [image["answer"]["label"][0] for image in unsure["images"]]
    assert unsure["per_decision"]["unknown"]["images"] == answers.count(-1) > 0
    assert set(tags["per_decision"]) == {"nothing", "dark", "light", "dark, light"}
    manifest = json.loads((unknown.bundle / "bundle.json").read_text())["thresholds"]["threshold"]
    assert manifest["false_alarm_rate"] == 0.2
    assert "at most 20.00% unknown answers to images of known classes" in manifest["statement"]


def test_unreadable_images_are_counted_and_none_at_all_is_refused(classify: Made, tmp_path: Path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    saved, predictor = load_model(classify.run / "model"), Predictor(classify.bundle)
    certificate = certify(saved, predictor, [bad, classify.images[0]], limits=Limits())
    assert certificate.holds
    assert (certificate.images, certificate.record["unreadable"]) == (1, 1)
    with pytest.raises(CertificateError, match="none of the images"):
        certify(saved, predictor, [bad], limits=Limits())
    with pytest.raises(CertificateError, match="none of the images"):
        certify(saved, predictor, [], limits=Limits())


def test_recheck_compares_with_the_recorded_answers(
    classify: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = Predictor(classify.bundle)
    stranger = tmp_path / "stranger.png"
    stranger.write_bytes(b"x")
    found = recheck(predictor, [*classify.images, stranger])
    assert found.holds
    assert (found.checked, found.unknown) == (len(classify.images), 1)
    assert not recheck(predictor, [stranger]).holds
    run = predictor.run
    monkeypatch.setattr(predictor, "run", lambda image: run(255 - image))
    assert not recheck(predictor, classify.images).holds
