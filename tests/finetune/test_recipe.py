from pathlib import Path

from pangu_cv.data.config import DataConfig
from pangu_cv.finetune.recipe import doubts
from pangu_cv.models.weights import WeightsFile


def test_weights_that_their_own_probes_advise_against_are_doubted() -> None:
    source = WeightsFile("x", Path("x"), "path", "0", "MIT", no_gain_on=("my steel",))
    assert "no gain on 'my steel'" in doubts(source, DataConfig(path=Path("data/my_steel")))[0]
    assert doubts(source, DataConfig(path=Path("data/my_rail"))) == []
    assert doubts(None, DataConfig(path=Path("data/my_steel"))) == []
