"""The page of questions in a real browser, held like a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session, Subject
from pangu_cv.iterate.ask.page import page
from tests.finetune.tiny import COLOURS, picture, save
from tests.iterate.clusters import clusters

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Pictures of two colours that lie in two clusters."""
    features, labels = clusters(2, 12, spread=0.5)
    names = ("blue", "red")
    images = tuple(
        save(tmp_path / "images" / f"{at}.png", picture(COLOURS[names[label]], at)) for at, label in enumerate(labels)
    )
    subject = Subject(tmp_path / "images", images, tuple(content_digest(one) for one in images), features, names)
    return Session(subject, AnswerFile(tmp_path / "answers.jsonl"), AskConfig(relearn_every=1000))


@pytest.fixture
def phone() -> Iterator[tuple[Any, Any, list[str]]]:
    """A page of a browser, what waits for it to be so, and the errors of its script."""
    sync_api, browser = pytest.importorskip("playwright.sync_api"), shutil.which("chromium")
    if browser is None:
        pytest.skip("no chromium here")
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        shown, errors = chromium.new_context(**PHONE).new_page(), []
        shown.on("pageerror", lambda error: errors.append(str(error)))
        shown.on("dialog", lambda dialog: dialog.accept("anna"))
        yield shown, sync_api.expect, errors
        chromium.close()


def said(session: Session) -> list[tuple[str, str]]:
    """By whom, what."""
    return [(answer.by, answer.said) for answer in session.file.read()]


def test_one_thumb_answers_takes_back_and_names(session: Session, phone: tuple[Any, Any, list[str]]) -> None:
    shown, expect, errors = phone
    told, question = shown.locator("#told"), shown.locator("#ask")
    with page(session, port=0, address="127.0.0.1") as link:
        shown.goto(link)
        expect(question).to_contain_text("Is this")
        expect(shown.locator("#picture")).to_have_js_property("complete", value=True)
        assert shown.locator("#picture").evaluate("image => image.naturalWidth") > 0
        for button in ("#yes", "#no"):
            box = shown.locator(button).bounding_box()
            assert box["height"] >= 44  # what a thumb hits
            assert box["y"] > PHONE["viewport"]["height"] / 2  # and where it reaches
        shown.tap("#yes")
        expect(told).to_contain_text("1 of 24 known")
        shown.tap("#undo")
        expect(told).to_contain_text("0 of 24 known")
        asked = shown.locator("#picture").get_attribute("alt")
        shown.tap("#unsure")
        expect(shown.locator("#picture")).not_to_have_attribute("alt", str(asked))
        shown.tap("#name")
        shown.locator("#list button", has_text="red").tap()
        expect(told).to_contain_text("1 of 24 known")
    assert said(session) == [("anna", "yes"), ("anna", "withdrawn"), ("anna", "unsure"), ("anna", "label")]
    assert errors == []


def test_a_swipe_is_an_answer_and_one_sent_without_a_connection_arrives_once(
    session: Session, phone: tuple[Any, Any, list[str]]
) -> None:
    shown, expect, errors = phone
    with page(session, port=0, address="127.0.0.1") as link:
        shown.goto(link)
        expect(shown.locator("#ask")).to_contain_text("Is this")
        asked = shown.locator("#ask").text_content()
        shown.mouse.move(300, 300)
        shown.mouse.down()
        shown.mouse.move(100, 310, steps=4)
        shown.mouse.up()
        expect(shown.locator("#ask")).not_to_have_text(str(asked))
        assert said(session) == [("anna", "no")]
    shown.tap("#yes")  # nobody listens any more
    expect(shown.locator("#state")).to_contain_text("no connection")
    parts = urlsplit(link)
    with page(session, port=int(parts.port or 0), address="127.0.0.1", token=parts.path.strip("/")):
        expect(shown.locator("#told")).to_contain_text("1 of 24 known", timeout=15_000)
    assert said(session) == [("anna", "no"), ("anna", "yes")]
    assert errors == []
