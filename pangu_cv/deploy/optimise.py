"""The exported graph made faster where that changes no decision; measured, so that it is never slower than it was."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from pangu_cv.deploy.attention import fuse_attention
from pangu_cv.deploy.decider import GraphDecider, Kind, Pixels
from pangu_cv.deploy.lean import lean
from pangu_cv.deploy.onnx_graph import Graph, stripped
from pangu_cv.deploy.timing import Timing, in_turn
from pangu_runtime.compare import Limits, compare, worst

SAME = Limits(flips=0, score=1e-4, map=1e-4, mask=1e-2, box=1e-3)
_ROUNDS = 30


@dataclass(frozen=True)
class Optimised:
    """``chosen`` is what stays ``model.onnx``, in standard operators; ``fused`` is what int8 starts from.

    Both keep the exporter's notes on where a node is from. ``rewritings`` says what was found, also where it was not
    worth it; ``timings`` are of ``plain``, ``lean`` and ``fused`` as far as they decide alike.
    """

    chosen: onnx.ModelProto
    fused: onnx.ModelProto
    is_lean: bool
    rewritings: dict[str, int]
    timings: dict[str, Timing]


def optimise(plain: onnx.ModelProto, images: Sequence[Pixels], kind: Kind) -> Optimised:
    """Rewrite, compare on ``images``, time on the first; the plain graph is chosen where nothing is gained."""
    leaner = _copy(plain)
    found = lean(Graph(leaner))
    fused = _copy(leaner)
    found["attention in one operator"] = fuse_attention(Graph(fused))
    with tempfile.TemporaryDirectory() as folder:
        files = {"plain": plain, "lean": leaner, "fused": fused}
        paths = {name: Path(folder) / f"{name}.onnx" for name in files}
        for name, proto in files.items():
            paths[name].write_bytes(stripped(proto, keeps_shapes=True).SerializeToString())
        alike = {name: path for name, path in paths.items() if _decides_alike(paths["plain"], path, images, kind)}
        timings = in_turn(alike, images[0], kind, rounds=_ROUNDS)
    # Only where it is surely faster: on other processors the same rewriting was 9 % slower, and a tie is a mood.
    is_lean = "lean" in timings and timings["lean"].ratio < 0.99 and timings["lean"].ratio_high < 1
    start = next((files[name] for name in ("fused", "lean") if name in timings), plain)
    return Optimised(leaner if is_lean else plain, start, is_lean, found, timings)


def _decides_alike(plain: Path, other: Path, images: Sequence[Pixels], kind: Kind) -> bool:
    if other == plain:
        return True
    try:
        first, second = GraphDecider(plain, kind), GraphDecider(other, kind)
        return worst(compare(first.run(i[None]), second.run(i[None])) for i in images).within(SAME)
    except Exception:  # onnxruntime's own kinds: a rewriting that does not run is one that is not made
        return False


def _copy(proto: onnx.ModelProto) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    return copy
