import torch

from pangu_cv.pretrain.relations import UNKNOWN
from tests.pretrain import small

LABELS, CAPTIONS = [0, 1, 2, UNKNOWN], [UNKNOWN, 5, UNKNOWN, 7]


def test_past_views_are_candidates_with_all_that_is_known_of_them() -> None:
    """Two steps of four images in one view, with room for six."""
    keys = small.joint(keys={"momentum": 0.9, "queue": 6}).keys
    assert keys is not None
    known = small.facts(4, labels=LABELS, captions=CAPTIONS)
    views, keep = torch.rand(4, 3, small.SIDE, small.SIDE), [None]
    found = [keys.candidates([], known, views, keep) for _ in range(2)]
    assert found[0].facts.label_N.tolist() == LABELS
    past = found[1].facts
    assert past.image_N.tolist() == [0, 1, 2, 3] * 2
    assert past.label_N.tolist() == LABELS * 2
    assert past.text_N.tolist() == CAPTIONS * 2
    assert past.near_NK[4:].unique().tolist() == [UNKNOWN]
    assert all(torch.equal(level_ME[:4], level_ME[4:]) for level_ME in found[1].embeddings_LME)
    assert not found[1].own_NM[:, 4:].any()
    assert keys.memory_facts_Q3[:, 1].tolist() == [2, UNKNOWN, 2, UNKNOWN, 0, 1]  # the oldest two are overwritten
