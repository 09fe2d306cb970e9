"""Images nobody has looked at, as vectors: what mining and asking start from."""

from pangu_cv.iterate.pool.embed import Pool, embed_pool, kept_home
from pangu_cv.iterate.pool.sight import Sight

__all__ = ["Pool", "Sight", "embed_pool", "kept_home"]
