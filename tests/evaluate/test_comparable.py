from dataclasses import dataclass

import pytest

from pangu_cv.errors import SettingsError
from pangu_cv.evaluate import require_comparable


@dataclass(frozen=True)
class Model:
    task: str
    classes: tuple[str, ...]


def test_what_differs_is_said():
    one = Model("classify", ("a", "b"))
    require_comparable(one, Model("classify", ("b", "a")))
    with pytest.raises(SettingsError, match="'classify' and 'detect'"):
        require_comparable(one, Model("detect", ("a", "b")))
    with pytest.raises(SettingsError, match="only the model knows a; only the other knows c, d"):
        require_comparable(one, Model("classify", ("b", "c", "d")))
    with pytest.raises(SettingsError, match=r"differ: only the other knows c$"):
        require_comparable(one, Model("classify", ("a", "b", "c")))


def test_numbers_in_masks_must_mean_the_same():
    with pytest.raises(SettingsError, match="numbers in masks"):
        require_comparable(Model("segment", ("none", "a", "b")), Model("segment", ("none", "b", "a")))
