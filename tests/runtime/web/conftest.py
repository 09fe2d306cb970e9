"""What the tests of page and script share: the engine, and bundles that work in tiles."""

from pathlib import Path

import pytest

from tests.finetune.tiny import COLOURS, Made, copy_of, made, picture, save
from tests.runtime import forge

ENGINE = Path(__file__).parents[3] / "export" / "end" / "node_modules" / "onnxruntime-web"


@pytest.fixture
def engine() -> Path:
    if not (ENGINE / "dist").is_dir():
        pytest.skip("onnxruntime-web is not here")
    return ENGINE


@pytest.fixture
def tiled(request: pytest.FixtureRequest, tmp_path: Path) -> Made:
    """A bundle that works in tiles, and images of several of them."""
    bundle = copy_of(made(request.param).bundle, tmp_path / "tiled")
    forge.state(tile={"px": 96, "overlap": 0.25})(bundle)
    forge.restate_everything(bundle)
    images = []
    for number, (height, width) in enumerate(((150, 201), (96, 96), (70, 230))):
        image = picture(COLOURS["blue"], number, height=height, width=width)
        image[20:44, 30:54], image[36:60, 100:124], image[:, 80:86] = 10, 250, (250, 240, 230)
        images.append(save(tmp_path / "images" / f"{number}.png", image))
    return Made(tmp_path, bundle, tmp_path / "images", tuple(images))
