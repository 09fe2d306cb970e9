from pathlib import Path

import pytest

from pangu_cv.data.sample import Sample
from pangu_cv.errors import DataError
from pangu_cv.evaluate import TorchDecider, evaluate_classify
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import DecodeSpec
from tests.finetune.tiny import Made


def samples(made: Made, *classes: str) -> list[Sample]:
    return [Sample(path, label=path.parent.name) for path in made.images if path.parent.name in classes]


def test_other_classes_should_be_unknown_and_are_no_error(unknown: Made) -> None:
    decider = TorchDecider(load_model(unknown.run / "model").model)
    shown = samples(unknown, "blue", "red", "white")
    outcome = evaluate_classify(
        decider, shown, classes=("blue", "red"), decode_spec=DecodeSpec(), unknown_rate=0.2
    ).outcome
    assert outcome.unknown
    assert len(outcome.paths) == 8  # accuracy and the rest are of known classes
    assert len(outcome.unknown.paths) == 12
    assert outcome.unknown.recognised
    assert outcome.unknown.recognised.mean == 1.0
    assert outcome.unknown.auroc == 1.0
    assert (outcome.unknown.answer_N == -1).tolist() == (
        outcome.unknown.confidence_N < outcome.unknown.threshold
    ).tolist()
    assert outcome.summary()["unknown"]["should_be_unknown"] == 4  # type: ignore[index]


def test_without_the_answer_other_classes_are_refused(classify: Made, unknown: Made) -> None:
    decider = TorchDecider(load_model(classify.run / "model").model)
    with pytest.raises(DataError, match=r"does not know the class\(es\) white.*unknown_rate"):
        evaluate_classify(decider, samples(unknown, "blue", "white"), classes=("blue", "red"), decode_spec=DecodeSpec())
    plain = evaluate_classify(
        decider, samples(classify, "blue", "red"), classes=("blue", "red"), decode_spec=DecodeSpec()
    ).outcome
    assert plain.unknown is None
    assert "unknown" not in plain.summary()


def test_no_image_of_a_known_class(unknown: Made, tmp_path: Path) -> None:
    decider = TorchDecider(load_model(unknown.run / "model").model)
    with pytest.raises(DataError, match="no image shows a class the model knows: blue, red"):
        evaluate_classify(
            decider, samples(unknown, "white"), classes=("blue", "red"), decode_spec=DecodeSpec(), unknown_rate=0.2
        )
