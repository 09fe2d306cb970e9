"""Dynamic freezing as a run goes on: our reading of the regulariser of Pangu's language models."""

from collections.abc import Sequence
from typing import Any

from lightning.pytorch.callbacks import Callback

from pangu_cv.models.adapt import Group


class Freezing(Callback):  # type: ignore[misc]
    """The shallowest learning block is frozen once its relative gradient norm has settled below a share of its highest.

    Only the shallowest may go: the gradient of a deeper one costs nothing less while a shallower one still learns.
    """

    def __init__(self, groups: Sequence[Group], settled: float, *, warm: int) -> None:
        self.learning = [group for group in groups if group.parameters]
        self.total, self.settled, self.warm = len(self.learning), settled, warm
        self.mean, self.highest = [0.0] * self.total, [0.0] * self.total
        self.steps = self.spared = 0

    @property
    def saved(self) -> float:
        """Share of the blocks' steps that were spared."""
        return self.spared / (self.steps * self.total) if self.steps and self.total else 0.0

    def on_before_optimizer_step(self, *_: Any) -> None:
        """Take in the gradients."""
        for number, group in enumerate(self.learning):
            norms = [(float(p.grad.norm()), float(p.detach().norm())) for p in group.parameters if p.grad is not None]
            gradient, weight = (sum(one[i] ** 2 for one in norms) ** 0.5 for i in (0, 1))
            self.mean[number] = 0.9 * self.mean[number] + 0.1 * gradient / max(weight, 1e-12)
            self.highest[number] = max(self.highest[number], self.mean[number])

    def on_train_batch_end(self, *_: Any) -> None:
        """Freeze one, where it has settled."""
        self.steps += 1
        self.spared += self.total - len(self.learning)
        if self.steps <= self.warm + 10 or len(self.learning) < 2:
            return
        last = len(self.learning) - 1
        if self.mean[last] < self.settled * self.highest[last]:
            self._freeze_shallowest()

    def _freeze_shallowest(self) -> None:
        for parameter in self.learning.pop().parameters:
            parameter.requires_grad_(False)
            parameter.grad = None

    def state(self) -> dict[str, Any]:
        """What a resumed training needs."""
        names = ("mean", "highest", "steps", "spared")
        return {"learning": len(self.learning)} | {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any] | None) -> None:
        """Go on from there, if anything was kept."""
        if state:
            while len(self.learning) > state["learning"]:
                self._freeze_shallowest()
            self.mean, self.highest = state["mean"], state["highest"]
            self.steps, self.spared = state["steps"], state["spared"]
