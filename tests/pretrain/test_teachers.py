import torch
from torch import nn

from pangu_cv.pretrain.teachers import Standard, Teacher
from tests.pretrain import small

TEACHER = {"backbone": {"name": "test_efficientnet", "weights": "random"}}


def test_standard_numbers_have_the_mean_and_spread_of_all_batches() -> None:
    """Each batch from another dataset: what lies between them counts too."""
    scale = Standard(3).train()
    random = torch.Generator().manual_seed(0)
    spread, middle = torch.tensor([1.0, 5.0, 0.1]), torch.tensor([0.0, 10.0, 1.0])
    batches = [spread * torch.randn(64, 3, generator=random) + middle * (number % 2) for number in range(400)]
    for batch in batches:
        scale(batch)
    every = torch.cat(batches)
    torch.testing.assert_close(scale.mean_D, every.mean(0), rtol=0.05, atol=0.05)
    torch.testing.assert_close(scale.variance_D, every.var(0), rtol=0.05, atol=0.01)
    kept = scale.mean_D.clone()
    scale.eval()(batches[0] + 100)
    assert torch.equal(scale.mean_D, kept)


def test_pupil_learns_what_its_teacher_sees_and_the_teacher_stays() -> None:
    objective = small.joint(hidden=0, contrast=0, repair={"weight": 0}, teachers=[TEACHER]).train()
    (teacher,) = objective.teachers
    assert isinstance(teacher, Teacher)
    assert not teacher.network.training
    before = {name: value.clone() for name, value in teacher.network.state_dict().items()}
    known = small.batch(small.facts(6))
    for _ in range(5):  # the scales settle
        objective(known)
    optimiser = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 3e-3)
    losses = []
    for _ in range(30):
        loss = objective(known)["teacher"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.network.state_dict().items())
    assert all(p.grad is None for p in teacher.network.parameters())


def test_hidden_patches_are_not_asked_about() -> None:
    objective = small.joint(contrast=0, repair={"weight": 0}, teachers=[TEACHER])
    (teacher,) = objective.teachers
    assert isinstance(teacher, Teacher)
    asked: list[tuple[int, ...]] = []
    teacher.grid_head.register_forward_hook(lambda _, inputs, __: asked.append(tuple(inputs[0].shape)))
    assert torch.isfinite(objective(small.batch(small.facts(6)))["total"])
    assert asked == [(12, 8, small.backbone().network.num_features)]  # half of 16 patches


def test_two_teachers_are_weighed() -> None:
    def loss(*weights: float) -> float:
        teachers = [TEACHER | {"weight": weight} for weight in weights]
        objective = small.joint(hidden=0, contrast=0, repair={"weight": 0}, teachers=teachers)
        for module in objective.teachers.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.weight)
                nn.init.zeros_(module.bias)
        return objective(small.batch(small.facts(6)))["total"].item()

    assert abs(loss(3.0, 1.0) - 4 * loss(1.0)) < 0.2 * loss(1.0)
