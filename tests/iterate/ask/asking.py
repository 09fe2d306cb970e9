"""Images of made-up clusters to ask about, and who answers what is so."""

import hashlib
from pathlib import Path

import numpy as np

from pangu_cv.iterate.ask import Asked, Session, Subject
from tests.iterate.clusters import clusters


def subject(root: Path, *, classes: int = 4, each: int = 25, spread: float = 0.5) -> tuple[Subject, np.ndarray]:
    features, labels = clusters(classes, each, spread=spread)
    images = tuple(root / f"{at}.png" for at in range(len(labels)))
    for path in images:
        path.write_bytes(path.name.encode())
    digests = tuple(hashlib.sha256(path.name.encode()).hexdigest() for path in images)
    return Subject(root, images, digests, features, tuple("abcdefgh"[:classes])), labels


def honest(session: Session, asked: Asked, labels: np.ndarray) -> None:
    truth = session.subject.classes[labels[asked.row]]
    if asked.klass is None:
        session.take(asked, "label", seconds=5, klass=truth)
    else:
        session.take(asked, "yes" if asked.klass == truth else "no", seconds=1.5)
