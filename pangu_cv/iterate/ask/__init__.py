"""Questions to people, one bit at a time."""

from pangu_cv.iterate.ask.config import AskConfig
from pangu_cv.iterate.ask.session import Asked, Session
from pangu_cv.iterate.ask.subject import Subject

__all__ = ["AskConfig", "Asked", "Session", "Subject"]
