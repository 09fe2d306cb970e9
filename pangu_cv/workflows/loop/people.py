"""Who answers: a person in the terminal, people on a page, or a table in a person's place."""

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pangu_cv.data.config import DataConfig
from pangu_cv.errors import DataError, ImageError
from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import Said
from pangu_cv.iterate.ask import Asked, Session
from pangu_cv.iterate.ask.page import page
from pangu_cv.iterate.ask.terminal import ask_in_terminal
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.workflows.loop.recipe import OracleConfig

ORACLE = "oracle"
_POLL_SECONDS = 0.3
_LAST_WORD_SECONDS = 1.0  # so that the phone that sent the last answer is told so


class People(Protocol):
    """Answers the questions of a session until it stops or they do."""

    @property
    def name(self) -> str:
        """For ledger and report."""

    def __call__(self, session: Session) -> None:
        """Every answer is kept at once."""


def is_answered(session: Session) -> bool:
    """Whether nothing is left to ask: what people disagree about stays without a label."""
    return session.stopped is not None or not (session.is_open_N.any() or session.doubted)


@dataclass(frozen=True)
class InTerminal:
    """One person, one key an answer."""

    name: str
    open_pictures: bool = False

    def __call__(self, session: Session) -> None:
        """Until the person quits."""
        ask_in_terminal(session, by=self.name, open_pictures=self.open_pictures)


@dataclass(frozen=True)
class OnPage:
    """Whoever has the link, which stays the same from round to round."""

    port: int
    address: str
    token: str
    name: str = "people on the page"

    def __call__(self, session: Session) -> None:
        """Until everything is answered, or Ctrl-C."""
        with page(session, port=self.port, address=self.address, token=self.token) as link:
            print(f"Open on the phone   {link}   (Ctrl-C pauses; every answer is kept at once)", flush=True)
            try:
                while not is_answered(session):
                    time.sleep(_POLL_SECONDS)
                time.sleep(_LAST_WORD_SECONDS)
            except KeyboardInterrupt:
                print()


@dataclass(frozen=True)
class Oracle:
    """A simulated person who knows ``truth``, by SHA-256 of the images, and takes as long as the prices say."""

    truth: Mapping[str, str]
    prices: PricesConfig
    wrong: float
    name: str = ORACLE

    @classmethod
    def read(cls, config: OracleConfig, prices: PricesConfig) -> "Oracle":
        """Raises DataError for a table without a label."""
        truth = {}
        for sample in DataConfig(path=config.path, root=config.root).read():
            if sample.label is not None:
                try:
                    truth[content_digest(sample.path)] = sample.label
                except ImageError:  # gone since
                    continue
        if not truth:
            raise DataError(f"oracle: '{config.path}' has no label; it answers in a person's place and needs the truth")
        return cls(truth, prices, config.wrong)

    def __call__(self, session: Session) -> None:
        """To the end. What the table does not know is answered 'not sure'."""
        while not is_answered(session) and (asked := session.next(self.name)) is not None:
            sha256 = session.subject.digests[asked.row]
            known = self._heard(sha256, asked, session.subject.classes)
            if asked.klass is None:
                is_known = known in session.subject.classes
                said: Said = "label" if is_known else "unsure"
                session.take(asked, said, seconds=self.prices.label_seconds, klass=known if is_known else None)
                continue
            said = "unsure" if known is None else "yes" if known == asked.klass else "no"
            session.take(asked, said, seconds=self.prices.bit_seconds)

    def _heard(self, sha256: str, asked: Asked, classes: tuple[str, ...]) -> str | None:
        """The truth, or for some questions, the same ones every time, another class."""
        known = self.truth.get(sha256)
        drawn = int.from_bytes(hashlib.sha256(f"{sha256} {asked.klass}".encode()).digest()[:8]) / 2**64
        if known is None or drawn >= self.wrong:
            return known
        if asked.klass is not None and known != asked.klass:
            return asked.klass
        return next(name for name in classes if name != known)
