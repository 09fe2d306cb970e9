import re

import numpy as np
import pytest

from pangu_cv.metrics import ClassificationOutcome
from pangu_cv.report import Page, curves, plots
from pangu_cv.report.classification import classification_report

CLASSES = ("ok", "scratch", "<dent>", "never")


def outcome(n=90, wrong=30, confidence=0.7):
    truth_N = np.arange(n) % 3
    predicted_N = np.where(np.arange(n) < wrong, (truth_N + 1) % 3, truth_N)
    scores_NC = np.full((n, 4), (1 - confidence) / 3)
    scores_NC[np.arange(n), predicted_N] = confidence
    return ClassificationOutcome(CLASSES, tuple(f"/data/{i}.png" for i in range(n)), scores_NC, truth_N)


def report(o):
    loaded = []

    def load_image(path):
        loaded.append(path)
        return np.full((8, 8, 3), 50, np.uint8)

    page = Page("t")
    classification_report(page, o, load_image=load_image)
    return page.html(), loaded


@pytest.fixture
def no_drawing(monkeypatch):
    """For tests of words: matplotlib takes most of a report's time."""
    for name in ("confusion_matrix", "reliability_diagram", "per_class_recall"):
        monkeypatch.setattr(plots, name, lambda *_: '<svg xmlns="http://www.w3.org/2000/svg"/>')
    for name in ("precision_recall", "roc"):
        monkeypatch.setattr(curves, name, lambda *_: '<svg xmlns="http://www.w3.org/2000/svg"/>')


def test_figures_mistakes_and_successes_are_there():
    document, loaded = report(outcome())
    assert "66.7 %" in document
    assert "60 images of 90 right" in document
    assert "<b>ok → scratch</b>" in document
    assert "scratch → &lt;dent&gt;" in document
    assert "18 of 30 mistakes" in document
    assert "70.0 % · 0.png" in document
    assert len(loaded) == 18 + 2 * 3  # only what is shown, and two right ones of each class that has any
    assert document.count("<svg") == 5
    assert "Macro F1" in document


@pytest.mark.usefixtures("no_drawing")
def test_an_absent_class_is_said():
    assert "Of 1 class there is no image here" in report(outcome())[0]


@pytest.mark.usefixtures("no_drawing")
def test_frequent_confusions_come_first():
    o = outcome(wrong=31)  # one more ok → scratch than of the others
    rows = re.findall(r"<tr><td>(.*?)</td><td>(.*?)</td><td class=\"number\">(\d+)<", report(o)[0])
    assert rows[0] == ("ok", "scratch", "11")
    assert [int(row[2]) for row in rows] == [11, 10, 10]


def test_no_mistakes_is_said():
    document, _ = report(outcome(wrong=0, confidence=0.97))
    assert "None among 90 images." in document
    assert "Most frequent confusions" not in document


@pytest.mark.usefixtures("no_drawing")
def test_words_on_confidence_follow_the_numbers():
    assert "surer than it should be: on average 33 points above" in report(outcome(confidence=0.9999))[0]
    assert "more careful than it need be: on average 30 points below" in report(outcome(wrong=0))[0]
    assert "agree closely" in report(outcome(wrong=27))[0]


class Counted(np.ndarray):
    """An array that counts how often its best column is looked for."""

    looked = 0

    def argmax(self, *arguments, **named):
        Counted.looked += 1
        return np.asarray(self).argmax(*arguments, **named)


@pytest.mark.usefixtures("no_drawing")
def test_predictions_are_made_once_whatever_the_number_of_images(monkeypatch):
    made = outcome()
    monkeypatch.setattr(Counted, "looked", 0)
    counted = ClassificationOutcome(CLASSES, made.paths, made.scores_NC.view(Counted), made.truth_N)
    assert report(counted)[0] == report(made)[0]
    assert Counted.looked == 1
