import collections
import os
import pickle
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from pangu_cv.errors import WeightsError
from pangu_cv.models import fetch_weights, weights
from pangu_cv.models.backbone import BackboneConfig
from pangu_cv.models.weights import KnownWeights, WeightsFile, load_state, locate

TINY, KNOWN = "test_efficientnet", "test_efficientnet.known"


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    return timm.create_model(TINY, pretrained=False, num_classes=0)


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("PANGU_CV_WEIGHTS", raising=False)


def put(path: Path, tensors: dict[str, torch.Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


def file(path: Path) -> WeightsFile:
    return WeightsFile(TINY, path, "path", "", "unknown")


def test_places_are_searched_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = {"a": torch.zeros(1)}
    entry = KnownWeights(KNOWN, "Apache-2.0", (), "a test's", package="some-package", package_file="some_package/w.pth")
    monkeypatch.setattr(weights, "KNOWN", (entry,))
    (tmp_path / "site" / "some_package").mkdir(parents=True)
    (tmp_path / "site" / "some_package" / "__init__.py").write_text("raise RuntimeError('a data package is never run')")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setenv("PANGU_CV_WEIGHTS", str(tmp_path / "mine"))
    places = {
        "hub cache": tmp_path / "hf/hub" / f"models--timm--{KNOWN}" / "snapshots/1/model.safetensors",
        "package": tmp_path / "site/some_package/w.pth",
        "pangu_cv folder": tmp_path / "xdg/pangu_cv/weights" / f"{KNOWN}.safetensors",
        "PANGU_CV_WEIGHTS": tmp_path / "mine" / f"{KNOWN}.safetensors",
    }
    with pytest.raises(WeightsError, match="no weights for"):
        locate(KNOWN)
    for place, path in places.items():  # each is searched before those that were filled already
        put(path, tensors)
        found = locate(KNOWN)
        assert (found.place, found.path) == (place, path)
    mine = put(tmp_path / "named.safetensors", tensors)
    assert locate(KNOWN, str(mine)).place == "path"


def test_nothing_found_says_how_to_get_it() -> None:
    with pytest.raises(WeightsError) as caught:
        locate("vit_tiny_patch16_224.augreg_in21k_ft_in1k")
    for way in ("PANGU_CV_WEIGHTS", "pangu-cv weights get vit_tiny", "backbone.weights="):
        assert way in str(caught.value)


def test_named_file_that_is_missing_gives_the_nearest(tmp_path: Path) -> None:
    put(tmp_path / "weights.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"nearest is .*weights\.safetensors"):
        locate(TINY, str(tmp_path / "weigths.safetensors"))


def test_altered_file_is_refused_unless_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = KnownWeights(KNOWN, "Apache-2.0", ("0" * 64,), "a test's")
    monkeypatch.setattr(weights, "KNOWN", (entry,))
    monkeypatch.setenv("PANGU_CV_WEIGHTS", str(tmp_path))
    path = put(tmp_path / f"{KNOWN}.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(WeightsError, match=r"SHA-256 .* is not a known file"):
        locate(KNOWN)
    assert locate(KNOWN, str(path)).licence == "unknown"
    monkeypatch.setattr(weights, "KNOWN", (KnownWeights(KNOWN, "Apache-2.0", (weights.sha256(path),), ""),))
    assert locate(KNOWN).licence == "Apache-2.0"


def test_weights_that_the_project_does_not_name_are_taken_without_a_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Module
) -> None:
    monkeypatch.setenv("PANGU_CV_WEIGHTS", str(tmp_path))
    put(tmp_path / f"{TINY}.safetensors", network.state_dict())
    backbone = BackboneConfig(name=TINY).build()
    assert backbone.source is not None
    assert (backbone.source.licence, backbone.source.place) == ("unknown", "PANGU_CV_WEIGHTS")
    for key, value in network.state_dict().items():
        assert torch.equal(backbone.network.state_dict()[key], value)


class Spring:
    """What a hostile pickle does when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".safetensors"])
@pytest.mark.parametrize("way", ["torch", "pickle"])
def test_pickle_with_code_is_refused_and_never_run(tmp_path: Path, network: nn.Module, suffix: str, way: str) -> None:
    trap = {"a": torch.zeros(1), "b": Spring(tmp_path / "sprung")}
    path = tmp_path / f"weights{suffix}"
    if way == "torch":
        torch.save(trap, path)
    else:
        path.write_bytes(pickle.dumps(trap))
    with pytest.raises(WeightsError, match=r"not loaded|not a safetensors file"):
        load_state(network, file(path))
    assert not (tmp_path / "sprung").exists()
    pickle.loads(pickle.dumps(trap))
    assert (tmp_path / "sprung").exists()  # the trap itself does spring


@pytest.mark.parametrize("content", [b"", b"\x80\x04garbage", b"PK\x03\x04 torn"])
def test_torn_file_is_refused(tmp_path: Path, network: nn.Module, content: bytes) -> None:
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"w{suffix}"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=path.name):
            load_state(network, file(path))


@pytest.mark.parametrize("value", [[torch.zeros(1)], {"a": 3}, torch.zeros(2)])
def test_what_is_no_mapping_of_tensors_is_refused(tmp_path: Path, network: nn.Module, value: object) -> None:
    torch.save(value, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="is not a mapping"):
        load_state(network, file(tmp_path / "w.pth"))


def test_classifier_and_wrapper_are_no_hindrance(tmp_path: Path, network: nn.Module) -> None:
    state = {k: v.half() for k, v in network.state_dict().items()} | {"classifier.weight": torch.zeros(5, 256)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "w.pth")
    other = timm.create_model(TINY, pretrained=False, num_classes=0)
    load_state(other, file(tmp_path / "w.pth"))
    assert next(other.parameters()).dtype == torch.float32
    torch.testing.assert_close(next(other.parameters()), next(network.parameters()), atol=1e-3, rtol=1e-3)


def test_other_names_in_the_same_order_are_taken(tmp_path: Path, network: nn.Module) -> None:
    renamed = collections.OrderedDict((f"layer{n}.x", v) for n, v in enumerate(network.state_dict().values()))
    renamed = collections.OrderedDict((k, v) for k, v in renamed.items() if v.ndim or v.dtype == torch.float32)
    torch.save(renamed, tmp_path / "w.pth")
    other = timm.create_model(TINY, pretrained=False, num_classes=0)
    load_state(other, file(tmp_path / "w.pth"))
    for key, value in network.state_dict().items():
        if "num_batches_tracked" not in key:
            assert torch.equal(other.state_dict()[key], value), key


def test_other_order_and_other_models_are_refused(tmp_path: Path, network: nn.Module) -> None:
    values = [v for k, v in network.state_dict().items() if "num_batches_tracked" not in k]
    torch.save({f"layer{n}.x": v for n, v in enumerate(reversed(values))}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match=f"is not '{TINY}': it lacks"):
        load_state(network, file(tmp_path / "w.pth"))
    torch.save({f"layer{n}.x": v for n, v in enumerate(values[:-1])}, tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="it lacks"):
        load_state(network, file(tmp_path / "w.pth"))


def test_wrong_shape_names_the_tensor_and_both_shapes(tmp_path: Path, network: nn.Module) -> None:
    state = dict(network.state_dict())
    state["conv_stem.weight"] = torch.zeros(8, 1, 3, 3)
    put(tmp_path / "w.safetensors", state)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    with pytest.raises(
        WeightsError, match=r"first 'conv_stem\.weight' \(needs \(\d+, 3, 3, 3\), found \(8, 1, 3, 3\)\)"
    ):
        load_state(network, file(tmp_path / "w.safetensors"))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


def test_package_holds_the_tensors_of_timms_file(shared_weights: Path) -> None:
    entry = weights.known("tf_efficientnet_lite0.in1k")
    assert entry is not None
    assert entry.package_file is not None
    path = weights.packaged(entry.package_file)
    if path is None:
        pytest.skip("the weights package is not installed")
    assert weights.sha256(path) in entry.sha256
    network = timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    load_state(network, WeightsFile(entry.name, path, "package", "", ""))
    expected = load_file(shared_weights / "tf_efficientnet_lite0.in1k.safetensors")
    own = {k: v for k, v in network.state_dict().items() if "num_batches_tracked" not in k}
    assert len(own) > 200
    for key, value in own.items():
        torch.testing.assert_close(value, expected[key].float(), atol=2e-3, rtol=2e-3)  # timm's file is half precision


def test_shared_files_are_the_known_ones(shared_weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PANGU_CV_WEIGHTS", str(shared_weights))
    for name in ("tf_efficientnet_lite0.in1k", "vit_tiny_patch16_224.augreg_in21k_ft_in1k"):
        found = locate(name)
        assert (found.place, found.licence) == ("PANGU_CV_WEIGHTS", "Apache-2.0")


def test_fetch_keeps_what_is_here_under_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: nn.Module
) -> None:
    monkeypatch.setenv("PANGU_CV_WEIGHTS", str(tmp_path / "mine"))
    put(tmp_path / "mine" / f"{TINY}.safetensors", network.state_dict())
    found = fetch_weights.fetch(TINY, tmp_path / "kept")
    assert found.path == tmp_path / "kept" / f"{TINY}.safetensors"
    assert sorted(p.name for p in (tmp_path / "kept").iterdir()) == [f"{TINY}.safetensors", f"{TINY}.sha256"]
    assert torch.equal(load_file(found.path)["conv_stem.weight"], network.state_dict()["conv_stem.weight"])


def test_fetch_without_hub_or_index_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def unreachable(name: str, *, pretrained: bool, **options: object) -> nn.Module:
        if pretrained:
            raise OSError("no route to host")
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(WeightsError, match=r"could not be fetched \(OSError\).*set PANGU_CV_WEIGHTS"):
        fetch_weights.fetch(TINY, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
