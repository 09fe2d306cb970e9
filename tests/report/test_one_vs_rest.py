import re

import numpy as np
import pytest

from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.report import Page, curves
from pangu_cv.report.one_vs_rest import one_vs_rest


@pytest.fixture
def drawn(monkeypatch):
    """The classes of each drawing, which is left out."""
    asked = []

    def draw(rankings):
        asked.append(list(rankings))
        return '<svg xmlns="http://www.w3.org/2000/svg"/>'

    monkeypatch.setattr(curves, "precision_recall", draw)
    monkeypatch.setattr(curves, "roc", draw)
    return asked


def outcome(classes, n=300):
    random = np.random.default_rng(0)
    truth_N = random.integers(0, classes - 1, n)  # the last class does not occur
    ease_C = np.linspace(0, 4, classes)
    logits_NC = random.normal(size=(n, classes)) + ease_C * np.eye(classes)[truth_N]
    scores_NC = np.exp(logits_NC) / np.exp(logits_NC).sum(1, keepdims=True)
    return ClassificationOutcome(tuple(f"c{i}" for i in range(classes)), tuple(map(str, range(n))), scores_NC, truth_N)


def rows(o):
    page = Page("t")
    one_vs_rest(page, o)
    return re.findall(r"<tr><td>(c\d+)</td>(.*?)</tr>", page.html()), page.html()


def test_the_weakest_class_comes_first_and_an_absent_one_last(drawn):
    found, document = rows(outcome(5))
    names = [name for name, _ in found]
    assert (names[0], names[-1]) == ("c0", "c4")
    assert "–" in found[-1][1]
    assert drawn[0] == drawn[1] == names[:4]
    assert f"{outcome(5).ranking(0).auroc:.3f}" in found[0][1]
    assert "the 4 weakest classes" in document


def test_hundreds_of_classes_stay_legible(drawn):
    found, document = rows(outcome(100, n=900))
    assert len(found) == 60
    assert "The 60 weakest of 100 classes" in document
    assert len(drawn[0]) == curves.MOST_CURVES


def test_one_class_has_no_rest(drawn):
    lonely = ClassificationOutcome(("a",), ("x", "y"), np.ones((2, 1)), np.zeros(2, int))
    page = Page("t")
    one_vs_rest(page, lonely)
    assert "against the rest" not in page.html()
    assert drawn == []
