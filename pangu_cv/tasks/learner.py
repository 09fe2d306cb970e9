"""What is trained of a model whose head was solved in closed form."""

from torch import nn

from pangu_cv.tasks.classify import ClassifyModel
from pangu_cv.tasks.multilabel import MultilabelModel


class Learner(nn.Module):
    """The model's own backbone, and a head that learns and starts from its solved one."""

    def __init__(self, model: ClassifyModel | MultilabelModel) -> None:
        super().__init__()
        self.backbone, self.head = model.backbone, model.head.learnable()

    def train(self, mode: bool = True) -> "Learner":
        """The backbone's statistics stay as they are: a handful of images must not move them."""
        super().train(mode)
        self.backbone.eval()
        return self
