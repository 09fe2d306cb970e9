"""Which part of a network learns."""

import pytest

from pangu_cv.errors import SettingsError
from pangu_cv.models.adapt import Full, Partial
from pangu_cv.models.backbone import BackboneConfig


@pytest.mark.parametrize(("name", "last"), [("test_resnet", "layer4."), ("regnetx_002", "s4.")])
def test_the_last_stage_of_a_cnn_learns_and_no_other(name: str, last: str) -> None:
    backbone = BackboneConfig(name=name, weights="random").build()
    groups = Partial(blocks=1).prepare(backbone)
    assert [group.scale for group in groups] == [1.0]
    assert {key[: len(last)] for key, p in backbone.network.named_parameters() if p.requires_grad} == {last}


def test_shallow_stages_learn_slowly() -> None:
    backbone = BackboneConfig(name="test_resnet", weights="random").build()
    assert [group.scale for group in Full(layer_decay=0.5).prepare(backbone)] == [1.0, 0.5, 0.25, 0.125, 0.0625]


def test_partial_is_refused_where_there_are_no_blocks() -> None:
    backbone = BackboneConfig(name="densenet121", weights="random").build()
    with pytest.raises(SettingsError, match=r"adapt\.kind: partial finds no blocks or stages in 'densenet121'"):
        Partial().prepare(backbone)
