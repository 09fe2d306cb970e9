"""The script that decides in Node without Python, against the Python runtime."""

import json
import shutil
import struct
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from pangu_cv import cli
from pangu_runtime.bundle import write_sums
from pangu_runtime.errors import ImageError
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import COLOURS, Made, copy_of, made, picture
from tests.runtime import forge, tile_vectors
from tests.runtime.forge import edit_json

END = Path(__file__).parents[3] / "export" / "end"
WEB = Path(__file__).parents[3] / "export" / "pangu_runtime" / "web"
KINDS = ("classify", "unknown", "multilabel", "anomaly", "segment", "detect")


@pytest.fixture
def node(engine: Path, tmp_path: Path) -> Path:
    """A folder with the script beside its packages."""
    if shutil.which("node") is None or not (END / "node_modules" / "sharp").is_dir():
        pytest.skip("no node, or no sharp")
    for name in ("bundle.mjs", "tiles.mjs", "decide.mjs"):
        shutil.copyfile(WEB / name, tmp_path / name)
    (tmp_path / "node_modules").symlink_to(END / "node_modules")
    return tmp_path / "decide.mjs"


def run(script: Path, bundle: Path, *images: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["node", script, bundle, *images], capture_output=True, text=True, check=False, timeout=120)


def test_node_refuses_what_it_would_decode_otherwise(classify: Made, node: Path, tmp_path: Path) -> None:
    image = Image.fromarray(picture(COLOURS["red"], 1))
    deep = Image.fromarray(np.full((20, 20), 40_000, np.uint16))
    others = [Image.fromarray(picture(COLOURS["blue"], 2))]
    paths = [tmp_path / name for name in ("deep.tiff", "cmyk.jpg", "pages.tiff", "film.gif", "film.webp", "film.png")]
    deep.save(paths[0])
    image.convert("CMYK").save(paths[1])
    for path in paths[2:]:
        image.save(path, save_all=True, append_images=others)
    image.save(tmp_path / "still.gif")
    told = [json.loads(line) for line in run(node, classify.bundle, *paths, tmp_path / "still.gif").stdout.splitlines()]
    assert all("error" in one for one in told[:-1]), told
    assert told[-1]["label"] == "red"
    image.save(tmp_path / "plain.jpg")
    script = tmp_path / "heads.mjs"  # what the page has before a browser decodes
    script.write_text(
        'import { readFileSync } from "node:fs"; import { checkedHeader } from "./bundle.mjs";'
        "for (const path of process.argv.slice(3)) { let said = 'ok';"
        "try { checkedHeader(readFileSync(path), { max_pixels: 1e6, max_bytes: 1e6 }); } catch (e) { said = e.message }"
        "console.log(said.split(/[ :]/)[0]) }"
    )
    names = ("cmyk.jpg", "film.gif", "film.webp", "film.png", "still.gif", "plain.jpg")
    said = run(script, classify.bundle, *(tmp_path / name for name in names)).stdout.split()
    assert said == ["CMYK", "holds", "holds", "holds", "ok", "ok"]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
    image.save(tmp_path / "profiled.png", icc_profile=profile.tobytes())
    agree(node, classify.bundle, [tmp_path / "profiled.png"])


@pytest.mark.parametrize("kind", KINDS)
def test_node_decides_as_python_does(kind: str, request: pytest.FixtureRequest, node: Path) -> None:
    bundle: Made = request.getfixturevalue(kind)
    agree(node, bundle.bundle, bundle.images[:6])


@pytest.mark.parametrize("tiled", ["segment", "detect"], indirect=True)
def test_node_cuts_and_merges_as_python_does(tiled: Made, node: Path) -> None:
    agree(node, tiled.bundle, tiled.images)


def test_node_decides_in_full_precision_where_there_are_others(precise: Made, node: Path, tmp_path: Path) -> None:
    agree(node, precise.bundle, precise.images[:2])
    bundle = copy_of(precise.bundle, tmp_path / "changed")
    (bundle / "model.int8.onnx").unlink()  # never fetched
    agree(node, bundle, precise.images[:2], reference=precise.bundle)
    forge.change_threshold(0.9)(bundle)
    assert "model.onnx is altered" in run(node, bundle).stderr


def agree(node: Path, bundle: Path, images: tuple[Path, ...], reference: Path | None = None) -> None:
    done = run(node, bundle, *images)
    assert done.returncode == 0, done.stderr
    assert "golden replay: 8 images" in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    for theirs, prediction in zip(found, Predictor(reference or bundle, precision="fp32").predict(images), strict=True):
        ours = prediction.to_json()
        assert theirs.keys() == ours.keys()
        for key, value in ours.items():
            if key in ("score", "threshold", "scores"):
                assert theirs[key] == pytest.approx(value, abs=2e-4)
            elif key == "boxes":
                assert [box["label"] for box in theirs[key]] == [box["label"] for box in value]
                for mine, other in zip(value, theirs[key], strict=True):
                    assert other["box_xyxy"] == pytest.approx(mine["box_xyxy"], abs=0.05)
            else:
                assert theirs[key] == value


def test_golden_vectors_of_tiles() -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    script = [Path(__file__).with_name("tiles_test.mjs"), WEB / "tiles.mjs", tile_vectors.PATH]
    done = subprocess.run(["node", *script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert int(done.stderr.split()[0]) > 90


def test_every_file_is_fetched_once_for_its_sum_and_its_use(classify: Made) -> None:
    if shutil.which("node") is None:
        pytest.skip("no node")
    script = [Path(__file__).with_name("reads_test.mjs"), WEB / "bundle.mjs", classify.bundle]
    done = subprocess.run(["node", *script], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert set(told["reads"].values()) == {1}
    assert {"model.onnx", "golden/expected.json", "golden/0.png", "bundle.json"} <= told["reads"].keys()
    assert told["ran"] == (classify.bundle / "model.onnx").stat().st_size


@pytest.mark.parametrize(
    ("kind", "tile"), [("classify", {"px": 64, "overlap": 0.2}), ("detect", {"px": 8, "overlap": 0.2})]
)
def test_tiles_that_are_none_are_refused(kind: str, tile: dict, node: Path, tmp_path: Path) -> None:
    bundle = copy_of(made(kind).bundle, tmp_path / "changed")
    forge.state(tile=tile)(bundle)
    write_sums(bundle)
    assert "is none" in run(node, bundle).stderr


def test_mutants_are_refused(classify: Made, node: Path, tmp_path: Path) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "changed")
    forge.other_normalisation(bundle)
    write_sums(bundle)
    assert "recorded with another model.onnx" in run(node, bundle).stderr
    forge.restate_model(bundle)
    assert "does not give the certified answer" in run(node, bundle).stderr
    sums = (bundle / "SHA256SUMS").read_text().splitlines(keepends=True)
    (bundle / "SHA256SUMS").write_text("".join(line for line in sums if "model.onnx" not in line))
    assert "does not list model.onnx" in run(node, bundle).stderr


def test_images_without_boxes_tell_by_their_best_score(detect: Made, node: Path, tmp_path: Path) -> None:
    bundle = copy_of(detect.bundle, tmp_path / "changed")
    forge.change_threshold_everywhere(0.999)(bundle)  # so that no golden image shows a box
    forge.restate_everything(bundle)
    assert "golden replay: 8 images" in run(node, bundle).stderr

    def change(record: dict) -> None:
        assert record["answers"]["0.png"]["count"] == [0]
        record["answers"]["0.png"]["scores"][0][0] += 0.01

    edit_json(bundle / "golden" / "expected.json", change)
    write_sums(bundle)
    assert "does not give the certified answer" in run(node, bundle).stderr


def test_changed_bundles_are_refused(classify: Made, node: Path, tmp_path: Path) -> None:
    changed = copy_of(classify.bundle, tmp_path / "changed")
    (changed / "bundle.json").write_text((changed / "bundle.json").read_text().replace('"red"', '"rot"'))
    assert "bundle.json is altered" in run(node, changed).stderr
    write_sums(changed)  # signed again, and still not what was certified
    told = run(node, changed)
    assert (told.returncode, told.stdout) == (2, "")
    assert "other classes" in told.stderr
    swapped = copy_of(classify.bundle, tmp_path / "swapped")
    expected = json.loads((swapped / "golden" / "expected.json").read_text())
    first = expected["answers"]["0.png"]
    first["scores"] = [first["scores"][0][::-1]]
    (swapped / "golden" / "expected.json").write_text(json.dumps(expected))
    write_sums(swapped)
    assert "does not give the certified answer" in run(node, swapped).stderr


def test_an_image_that_cannot_be_read_is_told_and_the_others_go_on(classify: Made, node: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    deep = tmp_path / "deep.png"
    Image.new("I;16", (32, 32)).save(deep)
    done = run(node, classify.bundle, tmp_path / "bad.png", deep, classify.images[0])
    bad, sixteen, good = map(json.loads, done.stdout.splitlines())
    assert "error" in bad
    assert sixteen["error"] == "unsupported"
    assert "16 bits" in sixteen["message"]
    assert good["label"] == "blue"
    assert done.returncode == 0


def test_node_names_what_cannot_be_read_as_python_does(classify: Made, node: Path, tmp_path: Path) -> None:
    names = ("missing", "empty", "text", "cut", "header", "pages", "huge")
    paths = [tmp_path / f"{name}.png" for name in names]
    sound, image = classify.images[0].read_bytes(), Image.fromarray(picture(COLOURS["red"], 1))
    huge = b"IHDR" + struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    huge = sound[:8] + struct.pack(">I", 13) + huge + struct.pack(">I", zlib.crc32(huge)) + sound[33:]
    for path, content in zip(paths[1:], (b"", b"no image", sound[:-300], sound[:20], b"", huge), strict=True):
        path.write_bytes(content)
    image.save(paths[5], "TIFF", save_all=True, append_images=[image])
    done = run(node, classify.bundle, *paths)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    expected = [one for one in Predictor(classify.bundle).predict(paths) if isinstance(one, ImageError)]
    assert [(one["image"], one["error"]) for one in told] == [(one.path, one.reason) for one in expected]
    assert len({one["error"] for one in told}) == 5
    assert all(one["message"].startswith(f"{one['image']}: ") and one.keys() == told[0].keys() for one in told)
    assert all(f"skipped: {one['message']}" in done.stderr for one in told)
    with pytest.raises(SystemExit) as ended:
        cli.main(["predict", str(classify.bundle), str(paths[2])])
    assert done.returncode == ended.value.code == 2
    assert "error: none of the 7 images could be read" in done.stderr


def test_node_decides_nothing_that_python_does_not_read(classify: Made, node: Path, tmp_path: Path) -> None:
    (tmp_path / "drawn.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>')
    assert json.loads(run(node, classify.bundle, tmp_path / "drawn.svg").stdout)["error"] == "unsupported"
