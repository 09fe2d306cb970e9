"""How many images a person looks at until most of the rare ones are found: mining with feedback against other orders.

One kind of image of a set is thinned to a share π of the pool, the others are the normal ones; images are looked at in
rounds of ten, and the truth is the answer. Random order finds k of P among N after k(N+1)/(P+1) looks on average. No
order can be more than about 1/π times as quick. Nothing is trained, so all images of a set are used.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pangu_cv.data.readers import read_dataset
from pangu_cv.features import read_ahead
from pangu_cv.iterate.mine.find import find_reasons
from pangu_cv.iterate.mine.ranking import best_first, mixed
from pangu_cv.iterate.mine.recipe import Find, MineRecipe
from pangu_cv.iterate.mine.wanted import Wanted
from pangu_cv.iterate.pool.embed import REFERENCES, reference_order
from pangu_cv.iterate.pool.neighbours import Neighbours
from pangu_cv.iterate.pool.sight import Sight
from pangu_cv.iterate.pool.space import Space
from pangu_cv.iterate.pool.unusual import References
from pangu_cv.metrics.interval import mean_interval
from pangu_cv.models.backbone import BackboneConfig
from pangu_runtime.decode import DecodeSpec, decode

SETS = ("magnetic_tile", "xsdd", "neu_det")
PREVALENCES = (0.01, 0.02, 0.05)
RECALLS = (0.8, 0.95)
ROUND = 10
ORDERS = ("mining", "outliers alone", "raw pixels, same feedback", "raw pixels, outliers alone")
_RAW_PX = 32
_BATCH = 64
Array = NDArray[Any]


@dataclass(frozen=True)
class Everything:
    """All images of a set, seen once: N images, the order in which references are drawn, P patches of F features."""

    paths: tuple[Path, ...]
    labels: NDArray[np.str_]
    groups: tuple[int, ...]
    vectors_ND: Array
    patches_NPF: torch.Tensor
    order: tuple[int, ...]
    raw_ND: Array


def measure(*, data: str, is_quick: bool, table: str, draws: int, backbone: str | None = None) -> dict[str, Any]:
    """For each prevalence, order and recall the speed-up over random order in every draw, and the looks of it."""
    seen = _everything(Path(data), table, backbone, is_quick)
    found: dict[str, Any] = {}
    for prevalence in PREVALENCES:
        runs = [_one(seen, kind, prevalence, seed) for kind in _kinds(seen.labels) for seed in range(draws)]
        found[f"{prevalence:g}"] = {
            "draws": len(runs),
            "pool": _told([run["pool"] for run in runs]),
            "rare": _told([run["rare"] for run in runs]),
            "ceiling": _told([run["pool"] / run["rare"] for run in runs]),
            "speed_up": {
                order: {f"{recall:g}": _told([run["orders"][order][recall] for run in runs]) for recall in RECALLS}
                for order in ORDERS
            },
        }
    return {"images": len(seen.paths), "kinds": list(_kinds(seen.labels)), "prevalences": found}


def _told(values: list[float]) -> dict[str, Any]:
    """Mean with its 95 % interval, and the median: a few draws are much quicker than the rest."""
    return mean_interval(values).as_json() | {"median": float(np.median(values)), "values": values}


def _kinds(labels: NDArray[np.str_]) -> tuple[str, ...]:
    """What is thinned in turn: each class, or all defects together where normal images are named."""
    return ("defect",) if "good" in labels else tuple(sorted(set(labels.tolist())))


def _everything(data: Path, table: str, backbone: str | None, is_quick: bool) -> Everything:
    where = data / table if table == "magnetic_tile" else data / "splits" / f"{table}.csv"
    samples = [sample for sample in read_dataset(where) if sample.label is not None]
    samples = samples[:: max(1, len(samples) // 120)] if is_quick else samples
    paths = tuple(sample.path for sample in samples)
    labels = np.array([sample.label for sample in samples])
    recipe = MineRecipe(images=data)
    network = BackboneConfig(name=backbone) if backbone else recipe.backbone
    sight = Sight(network, recipe.preprocess)
    vectors, patches, raw = [], [], []
    for image in read_ahead(paths, lambda path: decode(path, spec=DecodeSpec())):
        shown = sight(sight.prepare(torch.from_numpy(image)[None]))
        vectors.append(shown.vectors_BD[0].numpy())
        patches.append(shown.patches_BPF[0])
        raw.append(np.asarray(Image.fromarray(image).convert("L").resize((_RAW_PX, _RAW_PX)), np.float32).ravel())
    places = {path: place for place, path in enumerate(paths)}
    order = tuple(places[path] for path in reference_order(paths))  # a thinned pool draws in the same order
    groups = (*sight.groups, sight.patch_features)
    return Everything(paths, labels, groups, np.stack(vectors), torch.stack(patches), order, np.stack(raw))


def _one(seen: Everything, kind: str, prevalence: float, seed: int) -> dict[str, Any]:
    is_rare_all = seen.labels != "good" if kind == "defect" else seen.labels == kind
    places = _thinned(is_rare_all, prevalence, np.random.default_rng([seed, 7]))
    is_rare = is_rare_all[places]
    odd, vectors = _oddity(seen, places)
    space = Space.fit(vectors, np.arange(len(vectors)), seen.groups)
    ours = space.project(vectors)
    raw_vectors = seen.raw_ND[places]
    raw = Space.fit(raw_vectors, np.arange(len(places)), (raw_vectors.shape[1],)).project(raw_vectors)
    raw_odd = 1 - Neighbours(raw).among(np.arange(len(raw)), count=10).similarity_Qn.mean(1)
    orders = {
        ORDERS[0]: _looked_at(ours, odd, is_rare),
        ORDERS[1]: iter(best_first(odd)),
        ORDERS[2]: _looked_at(raw, raw_odd, is_rare),
        ORDERS[3]: iter(best_first(raw_odd)),
    }
    return {
        "pool": len(places),
        "rare": int(is_rare.sum()),
        "orders": {name: _speed_ups(order, is_rare) for name, order in orders.items()},
    }


def _thinned(is_rare: Array, prevalence: float, random: np.random.Generator) -> Array:
    others, rare = np.flatnonzero(~is_rare), np.flatnonzero(is_rare)
    count = min(len(rare), max(2, round(prevalence / (1 - prevalence) * len(others))))
    places = np.concatenate([others, random.choice(rare, count, replace=False)])
    random.shuffle(places)
    return places


def _oddity(seen: Everything, places: Array) -> tuple[Array, Array]:
    """Oddity against the references that this pool would draw itself, and the vectors it would store."""
    held = set(places.tolist())
    drawn = [place for place in seen.order if place in held][:REFERENCES]
    references = References(seen.patches_NPF[drawn], [str(place) for place in drawn])
    found = [
        references(seen.patches_NPF[some], [str(place) for place in some.tolist()])
        for some in np.array_split(places, math.ceil(len(places) / _BATCH))
    ]
    odd = torch.cat([one.scores_B for one in found]).numpy()
    looks = torch.cat([one.looks_BF for one in found]).numpy()
    return odd, np.concatenate([seen.vectors_ND[places], looks], 1)


def _looked_at(features: Array, odd: Array, is_rare: Array) -> Iterator[int]:
    """Places in the order in which they are looked at; after every round the answers change the order."""
    wanted, explore = Wanted(features), Find().explore
    yes: list[int] = []
    no: list[int] = []
    while len(yes) + len(no) < len(is_rare):
        picks = mixed(find_reasons(wanted, odd, yes=yes, no=no, explore=explore), without=[*yes, *no])
        batch = [pick.place for pick, _ in zip(picks, range(ROUND), strict=False)]
        yield from batch
        for place in batch:
            (yes if is_rare[place] else no).append(place)


def _speed_ups(order: Iterator[int], is_rare: Array) -> dict[float, float]:
    count, rare = len(is_rare), int(is_rare.sum())
    needed = {recall: int(np.ceil(recall * rare)) for recall in RECALLS}
    found, speed_ups = 0, {}
    for looks, place in enumerate(order, start=1):
        found += bool(is_rare[place])
        for recall, need in needed.items():
            if found == need and recall not in speed_ups:
                speed_ups[recall] = need * (count + 1) / (rare + 1) / looks
        if len(speed_ups) == len(RECALLS):
            break
    return speed_ups
