import numpy as np
import pytest

from pangu_cv.data.readers import read_dataset
from pangu_cv.data.shown import classes_shown
from pangu_cv.errors import DataError
from pangu_cv.evaluate import TorchDecider, evaluate_multilabel, truth_of
from pangu_cv.tasks.saved import load_model
from pangu_runtime.decode import DecodeSpec
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import Made

CLASSES = ("dark", "light")


def test_model_and_bundle_are_measured_alike(multilabel: Made) -> None:
    shown = {s: c for s, c in classes_shown(read_dataset(multilabel.images[0].parent)).items() if s.split == "test"}
    deciders = (TorchDecider(load_model(multilabel.run / "model").model), Predictor(multilabel.bundle))
    model, bundle = (
        evaluate_multilabel(decider, shown, classes=CLASSES, decode_spec=DecodeSpec()).outcome for decider in deciders
    )
    np.testing.assert_allclose(model.scores_NC, bundle.scores_NC, atol=1e-4)
    assert model.paths == bundle.paths
    assert model.truth_NC.tolist() == truth_of(list(shown.values()), CLASSES).tolist()
    assert model.truth_NC.sum(0).tolist() == [4, 4]
    assert model.exact_match == 1.0
    assert model.threshold == 0.5


def test_class_that_the_model_does_not_know_is_named(multilabel: Made) -> None:
    shown = classes_shown(read_dataset(multilabel.images[0].parent))
    with pytest.raises(DataError, match=r"does not know the class\(es\) light; it knows: dark"):
        evaluate_multilabel(Predictor(multilabel.bundle), shown, classes=("dark",), decode_spec=DecodeSpec())
