import re
import sys
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from pangu_cv.errors import MissingExtraError
from pangu_cv.metrics import AnomalyOutcome, ClassificationOutcome, Interval, mean_interval
from pangu_cv.report import Page, Plot, plots
from pangu_cv.report.plots import _edges_around


def classified(classes=("ok", "scratch", "dent"), n=40):
    rng = np.random.default_rng(0)
    c = len(classes)
    scores_NC = rng.dirichlet(np.ones(c), n)
    return ClassificationOutcome(tuple(classes), tuple(map(str, range(n))), scores_NC, np.arange(n) % c)


def scored(n=30, defects=10):
    rng = np.random.default_rng(0)
    is_defect_N = np.arange(n) < defects
    scores_N = rng.uniform(size=n) + is_defect_N
    kinds = tuple("scratch" if d else "good" for d in is_defect_N)
    return AnomalyOutcome(tuple(map(str, range(n))), scores_N, is_defect_N, scores_N > 0.9, 0.9, kinds, 0.01)


DRAWINGS = {
    "confusion": lambda: plots.confusion_matrix(classified()),
    "reliability": lambda: plots.reliability_diagram(classified()),
    "recall": lambda: plots.per_class_recall(classified()),
    "scores": lambda: plots.score_distribution(scored()),
    "roc": lambda: plots.roc_curve(scored()),
    "defects": lambda: plots.recall_per_defect(scored()),
    "intervals": lambda: plots.intervals(["a", "b"], [mean_interval([1, 2, 3]), Interval(2, None, None, 1)]),
    "lines": lambda: plots.lines({"train": ([0, 1, 2], [3, np.nan, 1]), "_val": ([1], [2.0])}, log_y=True),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_drawings_are_svg_and_the_same_every_time(name):
    svg = DRAWINGS[name]()
    assert ET.fromstring(svg).tag.endswith("svg")
    assert svg == DRAWINGS[name]()
    assert "mathdefault" not in svg  # a formula that nobody set
    assert not re.search(r"<!DOCTYPE|<metadata|<\?xml|(src|href)=\"http", svg)


def test_all_drawings_on_one_page_share_no_id_and_lose_no_reference():
    page = Page("t")
    page.plots([Plot(draw(), name) for name, draw in DRAWINGS.items()])
    page.plot(DRAWINGS["roc"](), "once more")
    document = page.html()
    ids = re.findall(r'<[^>]* id="([^"]*)"', document)
    assert len(ids) == len(set(ids))
    references = set(re.findall(r'(?:href="|url\()#([^")]*)', document))
    assert references
    assert references <= set(ids)


def test_no_global_state_of_matplotlib_is_touched(monkeypatch):
    import matplotlib

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it now fails

    def settings():
        return {k: matplotlib.rcParams[k] for k in matplotlib.rcParams if k != "backend"}  # reading that imports pyplot

    before = settings()
    plots.roc_curve(scored())
    assert settings() == before


def test_hostile_class_names_are_text():
    names = ("<script>x</script>", "$\\frac{$", "_hidden", "划痕", "nul\x00 \udcff", "x" * 300)
    page = Page("t")
    page.plot(plots.confusion_matrix(classified(names)), "confusion")
    page.plot(plots.per_class_recall(classified(names)), "recall")
    page.plot(plots.lines({name: ([0, 1], [0, 1]) for name in names}), "lines")
    document = page.html()
    document.encode("utf-8")
    assert "<script" not in document
    for name in ("&lt;script&gt;x", "$\\frac{$", "_hidden", "划痕"):
        assert document.count(name) >= 3
    assert "x" * 40 not in document


def test_confusion_matrix_shows_counts_but_not_for_hundreds_of_classes():
    few = ClassificationOutcome(("a", "b"), ("x",) * 77, np.eye(2)[[0] * 77], np.array([0] * 74 + [1] * 3))
    assert re.findall(r">(\d+)</text>", plots.confusion_matrix(few)) == ["74", "3"]
    many = plots.confusion_matrix(classified([f"c{i}" for i in range(100)], n=300))
    assert "c17" not in many
    assert len(many) < 500_000


def test_absent_classes_have_no_bar():
    outcome = ClassificationOutcome(("here", "absent"), ("x",), np.array([[0.9, 0.1]]), np.array([0]))
    svg = plots.per_class_recall(outcome)
    assert "here (1)" in svg
    assert "absent" not in svg


def test_scores_of_one_kind_and_equal_scores_are_drawn():
    plots.score_distribution(scored(defects=0))
    flat = scored()
    plots.score_distribution(
        AnomalyOutcome(flat.paths, np.full(30, 0.9), flat.is_defect_N, flat.is_anomalous_N, 0.9, flat.defect_N, 0.01)
    )
    with pytest.raises(ValueError, match="normal and defective"):
        plots.roc_curve(scored(defects=0))


@pytest.mark.parametrize("threshold", [-3.0, 0.5, 0.77, 12.0])
def test_no_bin_lies_on_both_sides_of_the_threshold(threshold):
    scores_N = np.random.default_rng(0).uniform(size=50)
    edges = _edges_around(threshold, scores_N, 40)
    assert np.abs(edges - threshold).min() < 1e-12
    assert np.histogram(scores_N, edges)[0].sum() == 50
    assert len(edges) < 50


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match=r"pangu-cv\[train\]"):
        plots.lines({"a": ([0], [0])})
