import shutil
from pathlib import Path

import pytest

from pangu_cv.data import pixel_cache
from pangu_cv.data.pixel_cache import PixelCache
from pangu_cv.pretrain.engine import make_fabric
from pangu_cv.pretrain.images import gather
from pangu_cv.pretrain.left_out import learnt_from
from pangu_runtime.decode import DecodeSpec
from tests.pretrain import small


@pytest.mark.parametrize("max_gb", [0.0, 1e-4, 1.0])
def test_an_image_is_decoded_once_whatever_the_room(
    max_gb: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 26 images one is a copy, and a target measures on 10 of them."""
    data = small.images(tmp_path / "data", count=13)
    shutil.copy(data / "dots" / "0.png", data / "dots" / "12.png")
    recipe = small.recipe(data, tmp_path / "run")
    decoded: list[str] = []
    real = pixel_cache.decode
    monkeypatch.setattr(pixel_cache, "decode", lambda path, **how: (decoded.append(path), real(path, **how))[1])
    for start in ("first", "again"):
        cache = PixelCache(tmp_path / "cache", short_px=64, spec=DecodeSpec(), max_gb=max_gb)
        images = gather(recipe.data, seed=0, text_template=None)
        apart, left_out = learnt_from(recipe, make_fabric(recipe.engine), images, cache)
        assert (len(left_out.copies), len(left_out.held_out)) == (1, 10), start
        assert len(apart.paths) == 15
        assert len(decoded) == len(set(decoded)) == 26
