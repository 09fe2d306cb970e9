from pangu_cv.report.page import Page
from pangu_cv.report.training import training_curves


def test_what_freezing_spared_is_told() -> None:
    for saved, told in ((0.25, True), (0.0, False)):
        page = Page("title", "subtitle")
        training_curves(page, {"total": [1.0, 0.5]}, seconds=3.0, saved=saved)
        assert ("spared 25% of" in page.html()) is told


def test_nothing_is_shown_where_nothing_was_trained() -> None:
    page = Page("title", "subtitle")
    training_curves(page, {"total": []}, seconds=0.0)
    assert "Training" not in page.html()
