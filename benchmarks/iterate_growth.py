"""Growth: seconds and memory of embedding images nobody has looked at, and of mining many vectors that are there.

Embedding: real images under other names, each with other bytes (a number after the end of the file), against a plain
loop that decodes ahead, resizes and asks the same network in the same batches, in turns with it. Mining: made-up
vectors in clusters, in the store as if that many images had been embedded; then ``pangu-cv mine`` as it is, for what is
rare (with answers) and for what teaches (from nothing).
"""

import csv
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from PIL import Image

from benchmarks.latency import spread
from benchmarks.machine import peak_memory_mb
from pangu_cv.data.readers import read_dataset
from pangu_cv.features import read_ahead
from pangu_cv.freed_memory import keep_freed_blocks
from pangu_cv.iterate.mine.recipe import Find, Learn, MineRecipe
from pangu_cv.iterate.mine.stage import mine
from pangu_cv.iterate.pool import Sight, embed_pool
from pangu_cv.iterate.pool.embed import BATCH, REFERENCES, home_of
from pangu_cv.iterate.pool.unusual import References
from pangu_cv.iterate.pool.vector_store import StoredImage, VectorStore
from pangu_runtime.decode import DecodeSpec, decode

EMBEDDED = (1000, 5000)
MINED = (10_000, 30_000, 100_000)
GOALS = {"find": Find(), "learn": Learn()}
_SETS = ("xsdd", "neu_det")
_BARE = 60  # images of the plain loop each time
_TURNS = 20  # how often it runs meanwhile
_ANSWERED = 40
_CLUSTERS = 300
_BLOCK = 2000


def embedding(*, data: str, is_quick: bool, count: int, backbone: dict[str, str] | None = None) -> dict[str, Any]:
    """Images a second of both, what oddity takes of it, and peak memory."""
    count = 24 if is_quick else count
    with tempfile.TemporaryDirectory() as scratch:
        images = _copies(Path(data), Path(scratch) / "images", count)
        sight = _sight(_recipe(images[0].parent, backbone))
        keep_freed_blocks()  # for the plain loop too
        some = spread(images, _BARE)
        _bare(sight, some[:BATCH])
        before = peak_memory_mb()
        turns: list[float] = []

        def in_turns(number: int, count: int) -> None:
            if number % max(1, count // _TURNS) == 0:
                turns.append(_seconds(lambda: _bare(sight, some)))

        first = _seconds(lambda: _bare(sight, some))
        whole = _seconds(lambda: embed_pool(images, sight, folder=Path(scratch) / "store", progress=in_turns))
        whole -= sum(turns)
        after = peak_memory_mb()
        bare = [seconds / len(some) for seconds in (first, *turns, _seconds(lambda: _bare(sight, some)))]
        odd = _oddity(sight, some)
    return {
        "images": count,
        "seconds": whole,
        "images_per_s": {"ours": count / whole, "bare": 1 / float(np.mean(bare))},
        "ratio": float(np.mean(bare)) * count / whole,
        "ratio_without_oddity": float(np.mean(bare)) * count / (whole - odd * count),
        "bare_seconds_an_image": bare,
        "oddity_seconds_an_image": odd,
        "peak_memory_mb": {"before": before, "after": after},
    }


def mining(*, data: str, is_quick: bool, count: int, backbone: dict[str, str] | None = None) -> dict[str, Any]:
    """Seconds and memory of every goal; ``own_mb`` is without pages of files, which the system may take back."""
    count = 600 if is_quick else count
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        recipe = _recipe(folder / "images", backbone).model_copy(update={"store": folder / "store"})
        sight = _sight(recipe)
        answered = _fill(folder, sight, count)
        for name, goal in GOALS.items():
            labels = {"labels": answered} if name == "find" else {}
            asked = recipe.model_copy(update={"goal": goal, "output": folder / name, **labels})
            with _OwnMemory() as memory:
                seconds = _seconds(lambda asked=asked: mine(asked))  # type: ignore[misc]
            found[name] = {"seconds": seconds, "own_mb": memory.peak_mb - memory.before_mb}
        stored = 2 * (sum(sight.groups) + sight.patch_features)
    return {"images": count, "bytes_a_vector": stored, "peak_memory_mb": peak_memory_mb(), "goals": found}


def _recipe(images: Path, backbone: dict[str, str] | None) -> MineRecipe:
    return MineRecipe.model_validate({"images": images, **({"backbone": backbone} if backbone else {})})


def _sight(recipe: MineRecipe) -> Sight:
    return Sight(recipe.backbone, recipe.preprocess)


def _copies(data: Path, folder: Path, count: int) -> list[Path]:
    """``count`` files of other bytes each, the pictures over and over."""
    folder.mkdir()
    sources = [sample.path for name in _SETS for sample in read_dataset(data / "splits" / f"{name}.csv")]
    contents = [path.read_bytes() for path in spread(sources, min(count, 500))]
    made = []
    for number in range(count):
        at = number % len(contents)
        made.append(folder / f"{number:06}{sources[0].suffix}")
        made[-1].write_bytes(contents[at] + f"{number}".encode())
    return made


@torch.inference_mode()
def _bare(sight: Sight, images: Sequence[Path]) -> None:
    """The loop that anybody would write, with decoding ahead."""
    batch = []
    for image in read_ahead(images, lambda path: decode(path, spec=DecodeSpec())):
        batch.append(sight.prepare(torch.from_numpy(image)[None]))
        if len(batch) == BATCH:
            sight.backbone(torch.cat(batch))
            batch = []
    if batch:
        sight.backbone(torch.cat(batch))


def _oddity(sight: Sight, images: Sequence[Path]) -> float:
    """Seconds an image, against as many references as a large pool has."""
    shown = [torch.from_numpy(decode(path, spec=DecodeSpec()))[None] for path in images[:64]]
    patches = torch.cat([sight(sight.prepare(image)).patches_BPF for image in shown])
    drawn = patches.repeat(-(-REFERENCES // len(patches)), 1, 1)[:REFERENCES]
    drawn = torch.nn.functional.normalize(drawn + 0.02 * torch.randn(drawn.shape), dim=-1)
    references = References(drawn, [str(number) for number in range(REFERENCES)])
    references(patches, names := ["new"] * len(patches))
    return _seconds(lambda: references(patches, names)) / len(patches)


def _fill(folder: Path, sight: Sight, count: int) -> Path:
    """Files, their vectors in the store, references, and a list with answers: the first cluster is what is wanted."""
    random = np.random.default_rng(0)
    (folder / "images").mkdir()
    home = home_of(folder / "store", sight, DecodeSpec())
    width = sum(sight.groups) + sight.patch_features
    centres = random.normal(0, 1, (_CLUSTERS, width)).astype(np.float32)
    picture = folder / "picture.png"
    Image.fromarray(random.integers(0, 255, (16, 16, 3), np.uint8)).save(picture)
    pixels, rows = picture.read_bytes(), []
    with VectorStore(home, width=width) as store:
        for start in range(0, count, _BLOCK):
            kinds = random.integers(0, _CLUSTERS, min(_BLOCK, count - start))
            vectors = centres[kinds] + random.normal(0, 1, (len(kinds), width)).astype(np.float32)
            odd = random.random(len(kinds))
            images = [_stored(folder / "images" / f"{start + at:06}.png", pixels, odd[at]) for at in range(len(kinds))]
            store.append(images, vectors)
            rows += [
                (image.sha256, "wanted" if kind == 0 else "good") for image, kind in zip(images, kinds, strict=True)
            ]
    patches = random.normal(0, 1, (2, 4, sight.patch_features)).astype(np.float16)
    np.savez(home / "references.npz", patches=patches, names=np.array(["a", "b"]))
    wanted = [row for row in rows if row[1] == "wanted"][: _ANSWERED // 4]
    others = [row for row in rows if row[1] == "good"][: _ANSWERED - len(wanted)]
    with (folder / "answers.csv").open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("sha256", "label"), *wanted, *others])
    return folder / "answers.csv"


def _stored(path: Path, pixels: bytes, odd: float) -> StoredImage:
    path.write_bytes(pixels)
    status = path.stat()
    return StoredImage(str(path.absolute()), status.st_size, status.st_mtime_ns, f"{path.stem:0>64}", float(odd))


class _OwnMemory:
    """The most memory of this process's own, looked at fifty times a second."""

    def __init__(self) -> None:
        self.before_mb = self.peak_mb = _own_mb()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.02):
            self.peak_mb = max(self.peak_mb, _own_mb())


def _own_mb() -> float:
    """Anonymous memory: what the process allocated, without pages of files that it maps."""
    for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start
