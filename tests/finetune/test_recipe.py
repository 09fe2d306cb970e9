from pathlib import Path

from pangu_cv.data.config import DataConfig
from pangu_cv.finetune.recipe import remarks
from pangu_cv.models.weights import WeightsFile


def test_weights_that_their_own_probes_advise_against_are_doubted() -> None:
    source = WeightsFile("x", Path("x"), "path", "0", "MIT", no_gain_on=("my steel",))
    steel, rail = (DataConfig(path=Path(f"data/my_{name}")) for name in ("steel", "rail"))
    assert "no gain on 'my steel'" in remarks(source, steel, [])["doubts"][0]
    assert remarks(source, rail, ["seen"]) == {"notes": ["seen"], "doubts": []}
    assert remarks(None, steel, []) == {"notes": [], "doubts": []}
