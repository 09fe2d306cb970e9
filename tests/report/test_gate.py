import re
from dataclasses import replace

import numpy as np

from pangu_cv.metrics.gate import gate
from pangu_cv.metrics.inspection import Costs, Inspection
from pangu_cv.report import Page
from pangu_cv.report.gate import gate_headline, gate_report


def inspection(n=80, gap=0.5):
    is_defect_N = np.arange(n) % 4 == 0
    scores_N = np.random.default_rng(0).uniform(size=n) + gap * is_defect_N
    return Inspection(scores_N, is_defect_N, "likeness to <nothing>", 0.8)


def written(found):
    page = Page("t")
    gate_headline(page, found)
    gate_report(page, found)
    return page.html()


def test_all_choices_are_told_with_where_they_were_made():
    found = gate(inspection(), recall=0.9, costs=Costs(20, 1))
    document = written(found)
    for words in (
        "20 defective images, 60 good",
        "25.0 %",
        "for recall 90 %",
        "for least cost, 20 : 1",
        "cost of 1000",
    ):
        assert words in document
    assert document.count("<td>cross-fitted</td>") == document.count("<td>the same images</td>") == 2
    assert "flatters itself" in document
    assert "&lt;nothing&gt;" in document
    honest = found.measured.at_recall.cross_fitted
    assert f"{100 * honest.overkill.mean:.1f} % of good images are rejected" in document
    assert document.count("<svg") == 2


def test_without_costs_there_is_no_cost():
    document = written(gate(inspection(), recall=0.9))
    assert "cost" not in re.sub(r"<style>.*?</style>", "", document, flags=re.DOTALL)
    assert document.count("<svg") == 1


def test_what_cannot_be_measured_is_said():
    only_good = replace(inspection(), is_defect_N=np.zeros(80, bool))
    assert "Not measured: there is no defective image here" in written(gate(only_good, recall=0.9))
    assert "--good CLASS" in written(None)


def test_rejecting_everything_is_no_gate():
    silent = replace(inspection(), scores_N=np.zeros(80), own_threshold=None)
    assert "by rejecting every image only" in written(gate(silent, recall=0.9))
    assert "by rejecting every image only" not in written(gate(inspection(gap=2), recall=0.9))


def test_one_defect_is_too_few_to_cross_fit():
    few = replace(inspection(), is_defect_N=np.arange(80) < 1)
    document = written(gate(few, recall=0.9, costs=Costs(1, 1)))
    assert document.count("too few images to cross-fit") == 2
    assert "was chosen on the images it is measured on" in document


def test_overkill_and_escapes_stand_in_their_columns():
    found = gate(inspection(), recall=0.9)
    own, document = found.measured.at_own, written(found)
    headers = re.findall(r"<th\b[^>]*>(.*?)</th>", document)
    row = next(row for row in re.findall(r"<tr>(.*?)</tr>", document, re.DOTALL) if "by the model" in row)
    cells = dict(zip(headers, re.findall(r"<td[^>]*>(.*?)</td>", row), strict=True))
    assert own.overkill.mean != own.escapes.mean
    assert cells["overkill, 95 %"].startswith(f"{100 * own.overkill.mean:.1f} % (")
    assert cells["escapes, 95 %"].startswith(f"{100 * own.escapes.mean:.1f} % (")
