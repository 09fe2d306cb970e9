"""Whether two models can be compared on the same images."""

from typing import Protocol

from pangu_cv.errors import SettingsError


class Model(Protocol):
    """What a comparison asks of a model."""

    @property
    def task(self) -> str:
        """Its kind."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names; none for anomaly detection."""
        ...


def require_comparable(first: Model, second: Model) -> None:
    """Raise SettingsError that says what differs where tasks or classes do, or the numbers that masks hold."""
    if first.task != second.task:
        raise SettingsError(f"--against: the tasks differ: '{first.task}' and '{second.task}'")
    only_first, only_second = (
        ", ".join(sorted(set(one.classes) - set(other.classes))) for one, other in ((first, second), (second, first))
    )
    if only_first or only_second:
        told = (("the model", only_first), ("the other", only_second))
        differing = "; ".join(f"only {which} knows {names}" for which, names in told if names)
        raise SettingsError(f"--against: the classes differ: {differing}")
    if first.task == "segment" and first.classes != second.classes:
        orders = " and ".join(", ".join(one.classes) for one in (first, second))
        raise SettingsError(f"--against: the numbers in masks mean different classes, in order: {orders}")
