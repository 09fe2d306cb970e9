import pytest
import torch
from pydantic import ValidationError

from pangu_cv.pretrain.relations import UNKNOWN
from pangu_cv.pretrain.soft_nce import soft_nce
from tests.pretrain import small

LABELS = [0, 0, 1, 1, UNKNOWN, UNKNOWN]
CAPTIONS = [UNKNOWN, UNKNOWN, UNKNOWN, 0, 1, UNKNOWN]


def test_unlabelled_labelled_and_captioned_images_go_through_one_call() -> None:
    objective = small.joint(small.texts())
    for known in (small.facts(6), small.facts(6, labels=LABELS), small.facts(6, captions=CAPTIONS)):
        losses = objective(small.batch(known))
        assert set(losses) == {"total", "contrast", "text", "hidden", "visible"}
        assert all(torch.isfinite(loss) for loss in losses.values())
        losses["total"].backward()
    without = objective(small.batch(small.facts(6)))
    assert without["text"].item() == 0


@pytest.mark.parametrize(
    ("off", "gone"),
    [
        ({"contrast": 0}, {"contrast"}),
        ({"texts": 0}, {"text"}),
        ({"repair": {"weight": 0}}, {"hidden", "visible"}),
        ({"hidden": 0}, {"hidden"}),
    ],
)
def test_a_weight_of_zero_switches_a_term_off(off: dict[str, object], gone: set[str]) -> None:
    every = set(small.joint(small.texts())(small.batch(small.facts(6))))
    assert set(small.joint(small.texts(), **off)(small.batch(small.facts(6)))) == every - gone


@pytest.mark.parametrize("term", ["neighbours", "labels", "depths", "same_image"])
def test_every_relation_matters_and_can_be_switched_off(term: str) -> None:
    known = small.batch(small.facts(6, labels=LABELS))
    plain = {"neighbours": {"weight": 0}, "labels": {"weight": 0}, "depths": 0.0}
    on: dict[str, dict[str, object]] = {
        "neighbours": {"neighbours": {"weight": 0.5}},
        "labels": {"labels": {"weight": 0.5}},
        "depths": {"depths": 0.5},
        "same_image": {"same_image": 0.2, "labels": {"weight": 0.5}},
    }
    base = small.joint(**plain)(known)["contrast"]
    assert not torch.isclose(base, small.joint(**(plain | on[term]))(known)["contrast"])


def test_no_more_neighbours_than_one_for_each_of_the_rest() -> None:
    with pytest.raises(ValidationError, match=r"less than or equal to 0\.5"):
        small.joint(neighbours={"batch_share": 0.6})


def test_slower_copy_follows_and_remembers() -> None:
    objective = small.joint(keys={"momentum": 0.9, "queue": 16})
    assert objective.keys is not None
    start = objective.keys.encoder.network.blocks[0].mlp.fc1.weight.clone()
    for step in range(2):
        objective(small.batch(small.facts(6), seed=step))
    assert objective.keys.written.item() == 24
    assert set(objective.keys.memory_facts_Q3[:, 0].tolist()) == set(range(6))
    with torch.no_grad():
        objective.encoder.network.blocks[0].mlp.fc1.weight.add_(1.0)
    objective.after_step()
    moved = objective.keys.encoder.network.blocks[0].mlp.fc1.weight - start
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1))


@pytest.mark.parametrize("name", ["test_vit", "test_efficientnet"])
def test_loss_falls(name: str) -> None:
    objective = small.joint(small.texts(), name=name).train()
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 2e-3)
    known = small.batch(small.facts(6, labels=LABELS, captions=CAPTIONS))
    losses = []
    for _ in range(25):
        loss = objective(known)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.85 * losses[0]


def test_likeness_is_not_rounded_where_the_rest_is(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def spy(similarity: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(similarity.dtype)
        return soft_nce(similarity, targets)

    monkeypatch.setattr("pangu_cv.pretrain.objectives.joint.soft_nce", spy)
    made = small.joint(small.texts(), texts=1.0)
    with torch.autocast("cpu", torch.bfloat16):
        losses = made(small.batch(small.facts(6, labels=LABELS, captions=CAPTIONS)))
    assert {"contrast", "text"} <= set(losses)
    assert set(seen) == {torch.float32}
