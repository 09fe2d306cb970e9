from dataclasses import replace

import numpy as np
import pytest

from pangu_cv.metrics import AnomalyOutcome, PixelScores
from pangu_cv.report import Page, curves, plots
from pangu_cv.report.anomaly import anomaly_report


def outcome(normals=100, alarms=2, defects=20, missed=8, asked=0.01):
    """Scores in 0..1 below the threshold of 1, the rest above it."""
    n = normals + defects
    is_defect_N = np.arange(n) >= normals
    flagged_N = np.where(is_defect_N, np.arange(n) >= normals + missed, np.arange(n) < alarms)
    scores_N = np.linspace(0.1, 0.9, n) + flagged_N
    kinds = tuple("good" if not d else ("<crack>", "dent")[i % 2] for i, d in enumerate(is_defect_N))
    paths = tuple(f"/data/{i}.png" for i in range(n))
    return AnomalyOutcome(paths, scores_N, is_defect_N, flagged_N, 1.0, kinds, asked)


def report(o, **more):
    loaded = []

    def load_image(path):
        loaded.append(path)
        return np.full((8, 8, 3), 50, np.uint8)

    def load_mask(path):
        return np.eye(8) if int(path[6:-4]) % 2 else None

    page = Page("t")
    loaders = {"load_image": load_image, "load_map": lambda path: np.ones((4, 4)), "load_mask": load_mask}
    anomaly_report(page, o, **loaders, **more)
    return page.html(), loaded


@pytest.fixture
def no_drawing(monkeypatch):
    """For tests of words: matplotlib takes most of a report's time."""
    for name in ("score_distribution", "roc_curve", "recall_per_defect"):
        monkeypatch.setattr(plots, name, lambda *_: '<svg xmlns="http://www.w3.org/2000/svg"/>')
    monkeypatch.setattr(curves, "precision_recall", lambda *_: '<svg xmlns="http://www.w3.org/2000/svg"/>')


def test_figures_and_rows_are_there():
    document, loaded = report(replace(outcome(), pixels=PixelScores(0.9612, 0.5, 1e-6, 100, 10)))
    for words in ("60.0 %", "12 of 20", "asked 1 %", "0.961", "6 of 8", "2 of 2", "4 of 12", "&lt;crack&gt;"):
        assert words in document
    assert len(loaded) == 6 + 2 + 4
    assert document.count("heat map</figcaption>") == 12
    assert document.count("truth</figcaption>") < 12  # some have no mask
    assert document.count("<svg") == 4
    assert loaded[0] == "/data/119.png"  # the clearest detection
    assert loaded[4] == "/data/100.png"  # the least conspicuous miss


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize(
    ("alarms", "asked", "words", "tone"),
    [
        (2, 0.01, "in keeping with the 1 % asked for: 2 of 100 normal images", "good"),
        (30, 0.01, "More false alarms than asked for", "bad"),
        (0, 0.2, "Fewer false alarms than allowed", "good"),
    ],
)
def test_the_verdict_weighs_what_was_asked(alarms, asked, words, tone):
    document, _ = report(outcome(alarms=alarms, asked=asked))
    assert words in document
    assert f'class="verdict {tone}"' in document


@pytest.mark.usefixtures("no_drawing")
@pytest.mark.parametrize(
    ("alarms", "words"),
    [
        (9, "in keeping with the 9.09 % certified: 9 of 100"),
        (30, "More false alarms than certified: 30 of 100"),
        (0, "where 9.09 % was certified"),
    ],
)
def test_what_was_certified_is_not_called_asked(alarms, words):
    document, _ = report(outcome(alarms=alarms, asked=1 / 11), rate_is="certified")
    assert words in document
    assert "certified 9.09 %" in document
    assert "asked" not in document


def test_without_defects_the_rest_is_reported():
    document, loaded = report(outcome(defects=0, missed=0))
    assert "AUROC) is undefined" in document
    assert "Which defects are found" not in document
    assert "Strongest detections" not in document
    assert len(loaded) == 2
    assert document.count("<svg") == 1


def test_without_normal_images_false_alarms_are_not_claimed():
    document, _ = report(outcome(normals=0, alarms=0))
    assert "false alarms could not be measured" in document
    assert ">nan" not in document


@pytest.mark.usefixtures("no_drawing")
def test_undefined_pixel_scores_are_said():
    document, _ = report(replace(outcome(), pixels=PixelScores(None, None, None, 10, 0)))
    assert "No pixel AUROC" in document
