"""A ViT cut in two at a block: what the frozen shallow part says of an image is worked out once, the rest many times.

Shapes: B images, N tokens, D channels, h×w a grid.
"""

from collections.abc import Sequence

from timm.models import VisionTransformer
from torch import Tensor

from pangu_cv.models.backbone import Backbone, BackboneFeatures


class Cut:
    """The two parts of a backbone; together they give what the backbone gives."""

    def __init__(self, backbone: Backbone, *, deep: int) -> None:
        """``deep`` is how many of the last blocks are in the deep part."""
        self.backbone = backbone
        self.at = max(0, len(backbone.network.blocks) - deep)

    @staticmethod
    def is_possible(backbone: Backbone) -> bool:
        """Whether this is one of timm's plain ViTs; others carry more than tokens from block to block."""
        return type(backbone.network) is VisionTransformer

    def shallow(self, images_BCHW: Tensor) -> tuple[Tensor, ...]:
        """Tokens [B,N,D] where the deep part begins, then the grids [B,D,h,w] of levels passed on the way."""
        network = self.backbone.network
        tokens_BND = network.patch_embed(images_BCHW)
        tokens_BND = network.norm_pre(network.patch_drop(network._pos_embed(tokens_BND)))
        tokens_BND, grids = self._through(tokens_BND, range(self.at), images_BCHW)
        return tokens_BND, *grids

    def deep(self, kept: Sequence[Tensor], images_BCHW: Tensor) -> BackboneFeatures:
        """What the backbone would say of the images, of which ``kept`` is what ``shallow`` said."""
        blocks = range(self.at, len(self.backbone.network.blocks))
        tokens_BND, grids = self._through(kept[0], blocks, images_BCHW)
        return BackboneFeatures(self.backbone.pooled(self.backbone.network.norm(tokens_BND)), (*kept[1:], *grids))

    def _through(self, tokens_BND: Tensor, blocks: range, images_BCHW: Tensor) -> tuple[Tensor, list[Tensor]]:
        network, grids = self.backbone.network, []
        grid_hw = network.patch_embed.dynamic_feat_size(images_BCHW.shape[2:])
        for number in blocks:
            tokens_BND = network.blocks[number](tokens_BND)
            if number in self.backbone.indices:
                patches_BND = tokens_BND[:, network.num_prefix_tokens :]
                grids.append(patches_BND.transpose(1, 2).reshape(len(patches_BND), -1, *grid_hw))
        return tokens_BND, grids
