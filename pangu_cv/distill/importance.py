"""What of a ViT matters on unlabelled images: heads and hidden units by their gradients, blocks by their absence.

A head's or unit's score is the mean square of the loss's derivative by a factor on it (Taylor; Michel et al. 2019,
arXiv 1905.10650; the local term of SnapViT, 2510.17700). The loss needs no label: two variants of an image are to be
told from those of other images (self-supervised), and are to be decided alike (the task). Blocks are let go one by one,
each time the one whose absence moves the features least: what gradients at the whole network cannot know is how blocks
stand in for each other. Our reading of Pangu CV's model extraction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from pangu_cv.distill.decisions import apart, say
from pangu_cv.distill.teaching import Lesson
from pangu_cv.models.backbone import Backbone, BackboneFeatures
from pangu_cv.tasks import TaskModel

_TEMPERATURE = 0.1
_BATCHES, _BATCH = 3, 12


@dataclass(frozen=True)
class Importance:
    """Scores float32[blocks,heads] and [blocks,hidden]; ``order`` are the blocks, the one to let go first first."""

    heads_BH: Tensor
    hidden_BM: Tensor
    order: tuple[int, ...]

    def blocks(self, count: int) -> list[int]:
        """The blocks that stay, from the first to the last."""
        return sorted(self.order[len(self.order) - count :])

    def heads(self, block: int, count: int) -> Tensor:
        """The heads of a block that stay, in their order."""
        return _best(self.heads_BH[block], count)

    def hidden(self, block: int, count: int) -> Tensor:
        """The hidden units of its MLP that stay, in their order."""
        return _best(self.hidden_BM[block], count)


def _best(scores: Tensor, count: int) -> Tensor:
    return scores.topk(count).indices.sort().values


class _Gates:
    """Factors of 1 on every head and hidden unit, put in by hooks and taken out again."""

    def __init__(self, blocks: Sequence[Any]) -> None:
        self.heads = [torch.ones(block.attn.num_heads, requires_grad=True) for block in blocks]
        self.hidden = [torch.ones(block.mlp.fc2.in_features, requires_grad=True) for block in blocks]
        self._hooks = []
        for number, block in enumerate(blocks):
            self._hooks.append(block.attn.proj.register_forward_pre_hook(self._on_heads(number)))
            self._hooks.append(block.mlp.fc2.register_forward_pre_hook(self._on_hidden(number)))

    def _on_heads(self, number: int) -> Callable[..., tuple[Tensor]]:
        def gate(layer: nn.Linear, given: tuple[Tensor]) -> tuple[Tensor]:
            gates = self.heads[number]
            return (given[0] * gates.repeat_interleave(given[0].shape[-1] // len(gates)),)

        return gate

    def _on_hidden(self, number: int) -> Callable[..., tuple[Tensor]]:
        return lambda layer, given: (given[0] * self.hidden[number],)

    def __enter__(self) -> "_Gates":
        return self

    def __exit__(self, *_: Any) -> None:
        for hook in self._hooks:
            hook.remove()


def importance(
    backbone: Backbone,
    pairs: Sequence[tuple[Tensor, Tensor]],
    answers_apart: Callable[[BackboneFeatures, BackboneFeatures, Tensor, Tensor], Tensor],
    *,
    depth: int,
) -> Importance:
    """Scores of the first ``depth`` blocks; ``pairs`` are batches of two variants [B,3,S,S] of the same images.

    ``answers_apart(one, other, prepared, prepared)`` is how far the task's answers to the two differ.
    """
    blocks = backbone.network.blocks[:depth]
    with _Gates(blocks) as gates, torch.enable_grad():
        factors = [*gates.heads, *gates.hidden]
        squares = [torch.zeros_like(factor) for factor in factors]
        for one, other in pairs:
            a, b = backbone(one), backbone(other)
            for loss in (_told_apart(a, b), answers_apart(a, b, one, other)):
                if not loss.requires_grad:
                    continue
                found = torch.autograd.grad(loss, factors, retain_graph=True, allow_unused=True)
                for square, gradient in zip(squares, found, strict=True):
                    square += 0 if gradient is None else (gradient / (loss.detach().abs() + 1e-6)).square()
    return Importance(
        torch.stack(squares[:depth]), torch.stack(squares[depth:]), _by_absence(backbone, pairs[0][0], depth)
    )


def _told_apart(a: BackboneFeatures, b: BackboneFeatures) -> Tensor:
    """Each image's other variant is to be found among those of all images (InfoNCE, arXiv 1807.03748)."""
    one, other = (nn.functional.normalize(f.vector_BD - f.vector_BD.mean(0), dim=1) for f in (a, b))
    return nn.functional.cross_entropy(one @ other.T / _TEMPERATURE, torch.arange(len(one)))


@torch.no_grad()
def _by_absence(backbone: Backbone, prepared_B3SS: Tensor, depth: int) -> tuple[int, ...]:
    """Greedy: all blocks in the order in which they go."""
    blocks = backbone.network.blocks
    start = backbone.network._pos_embed(backbone.network.patch_embed(prepared_B3SS))

    def run(kept: Sequence[int]) -> Tensor:
        x = start
        for number in kept:
            x = blocks[number](x)
        return nn.functional.layer_norm(x, x.shape[-1:])

    whole, kept, gone = run(range(depth)), list(range(depth)), []
    while len(kept) > 1:
        moved = {block: float((run([k for k in kept if k != block]) - whole).square().mean()) for block in kept}
        least = min(moved, key=moved.__getitem__)
        kept.remove(least)
        gone.append(least)
    return (*gone, *kept)


def importance_on(teacher: TaskModel, lesson: Lesson, depth: int) -> Importance:
    """From pairs of an image of the lesson and itself in another light, which a dense answer can follow."""
    pairs = []
    for start in range(0, min(_BATCHES * _BATCH, lesson.learnt), _BATCH):
        places = range(start, min(start + _BATCH, lesson.learnt))
        if len(places) > 1:
            one, other = (
                torch.cat(
                    [
                        teacher.preprocess(torch.from_numpy(lesson.views.shaken(place, seed=seed))[None])
                        for place in places
                    ]
                )
                for seed in (1, 2)
            )
            pairs.append((one, other))

    def answers_apart(a: BackboneFeatures, b: BackboneFeatures, one: Tensor, other: Tensor) -> Tensor:
        said, wanted = say(teacher, a, one), say(teacher, b, other)
        return apart(teacher.config.kind, said, tuple(part.detach() for part in wanted))

    return importance(teacher.backbone, pairs, answers_apart, depth=depth)
