"""Mining from a recipe to a ranked list, with a page of pictures."""

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pangu_cv.data import versions
from pangu_cv.data.readers import pictures_below, read_dataset, recognise
from pangu_cv.errors import DataError, SettingsError
from pangu_cv.features import FeatureStore, cache_folder, extract
from pangu_cv.iterate.mine.diverse import diverse
from pangu_cv.iterate.mine.doubt import doubts
from pangu_cv.iterate.mine.find import find_reasons
from pangu_cv.iterate.mine.known import Known, known_of, labels_in
from pangu_cv.iterate.mine.learn import learn_reasons
from pangu_cv.iterate.mine.listing import listing
from pangu_cv.iterate.mine.ranking import Pick, Reason, mixed
from pangu_cv.iterate.mine.recipe import Find, MineRecipe
from pangu_cv.iterate.mine.report import mine_report
from pangu_cv.iterate.mine.wanted import Wanted
from pangu_cv.iterate.pool import Pool, Sight, embed_pool, kept_home
from pangu_cv.progress import bar
from pangu_cv.runs import Run
from pangu_cv.staging import write_text
from pangu_cv.tasks.image_text import ImageText
from pangu_runtime.decode import DecodeSpec

_DEEP = 20  # times the count: how far down the order the diversity rule looks


@dataclass(frozen=True)
class Mined:
    """What was written, the pool, the chosen images in order, and the figures of ``metrics.json``.

    File names of the list start from ``root``; ``gone`` labelled images of it are not there any more; ``decode_spec``
    is how images were read.
    """

    folder: Path
    ranked: Path
    root: Path
    gone: int
    report: Path
    pool: Pool
    picks: tuple[Pick, ...]
    decode_spec: DecodeSpec
    metrics: dict[str, Any]


class NothingLeftError(DataError):
    """Every image of the pool has been looked at."""


def mine(recipe: MineRecipe) -> Mined:
    """Run the recipe; raises PanguError for what the user can mend."""
    start = time.perf_counter()
    goal = recipe.goal
    sight = recipe.sight()
    images = images_of(recipe.images, root=recipe.root)
    likes = dict.fromkeys(path.absolute() for path in goal.like) if isinstance(goal, Find) else {}
    with bar("embedding") as progress:
        home = recipe.store or kept_home(recipe.images)
        pool = embed_pool(list(dict.fromkeys((*images, *likes))), sight, folder=home, progress=progress)
    embedded = time.perf_counter()
    known = known_of(recipe.labels, pool.digests, recipe.classes)
    _require_kept(recipe.output, known)
    examples = [place for place, path in enumerate(pool.images) if path in likes]
    if len(examples) < len(likes):
        raise DataError(f"goal.like: {', '.join(str(s.path) for s in pool.skipped if s.path in likes)} cannot be read")
    doubts_N = _doubts(recipe, sight, pool)
    reasons = _reasons(recipe, sight, pool, known, examples, doubts_N)
    shown = {pool.digests[place] for place in examples}  # copies of an example are not worth a look either
    copies = [place for place, sha in enumerate(pool.digests) if sha in shown]
    picks = _chosen(mixed(reasons, without=[*known.labels, *known.undecided, *copies]), pool, recipe)
    run = Run.start(recipe.output, name="mine", recipe=recipe)
    ranked = run.folder / "ranked.csv"
    listed = listing(recipe.images, picks, pool, known, doubts_N)
    write_text(ranked, listed.text)
    metrics = _metrics(pool, known, picks) | {
        "seconds": {"embedding": round(embedded - start, 2), "all": round(time.perf_counter() - start, 2)}
    }
    run.write_metrics(metrics)
    mine_report(run.report, recipe, pool, known, picks, doubts_N, spec=sight.decode_spec)
    return Mined(run.folder, ranked, listed.root, listed.gone, run.report, pool, picks, sight.decode_spec, metrics)


def _require_kept(output: Path | None, known: Known) -> None:
    """Raises SettingsError where the list in the run folder holds labels that are not in what was given."""
    ranked = output / "ranked.csv" if output else None
    if ranked is None or not ranked.is_file():
        return
    lost = [sha for sha, label in labels_in(ranked).items() if known.said.get(sha) != label]
    if lost:
        raise SettingsError(
            f"output: {len(lost)} labels filled in in '{ranked}' would be lost; give it as labels={ranked}, or name "
            "another output"
        )


def images_of(path: Path, *, root: Path | None = None) -> tuple[Path, ...]:
    """Pictures below a folder, its masks left out, or those that a table, a dataset file or a dataset version names.

    File names of a table start from ``root``.
    """
    is_folder = path.is_dir() and not versions.recognises(path)
    if is_folder or not path.exists() or recognise(path) is None:
        found = pictures_below(path)
    else:
        found = tuple(sample.path for sample in read_dataset(path, root=root))
    return tuple(image.absolute() for image in found)


def _doubts(recipe: MineRecipe, sight: Sight, pool: Pool) -> NDArray[np.float32] | None:
    if isinstance(recipe.goal, Find) or sight.saved is None:
        return None
    with bar("doubts") as progress:
        return doubts(sight.saved, pool, measure=recipe.goal.doubt, progress=progress)


def _reasons(
    recipe: MineRecipe,
    sight: Sight,
    pool: Pool,
    known: Known,
    examples: Sequence[int],
    doubts_N: NDArray[np.float32] | None,
) -> Sequence[Reason]:
    goal = recipe.goal
    if isinstance(goal, Find):
        yes, no = known.sorted_by(goal)
        told = _told(goal, pool, sight.decode_spec)
        wanted = Wanted(pool.features_NK)
        both = list(dict.fromkeys((*yes, *examples)))
        return find_reasons(wanted, pool.odd_N, yes=both, no=no, explore=goal.explore, told_N=told)
    return learn_reasons(
        pool.features_NK,
        pool.odd_N,
        goal,
        count=recipe.count,
        answered=[*known.labels, *known.undecided],
        doubts_N=doubts_N,
        seed=recipe.seed,
    )


def _told(goal: Find, pool: Pool, spec: DecodeSpec) -> NDArray[np.float32] | None:
    """How well each image fits the sentence; None where there is none."""
    if goal.sentence is None:
        return None
    if goal.text_model is None:
        raise SettingsError("goal.sentence: needs goal.text_model, a run of 'pangu-cv pretrain' with texts")
    searcher = ImageText.load(goal.text_model)
    store = FeatureStore(cache_folder(), searcher.fingerprint)
    with bar("reading images for the sentence") as progress:
        views = ("identity",)
        seen = extract(pool.images, searcher, views=views, store=store, decode_spec=spec, progress=progress)
    sentence = searcher.texts([goal.sentence])[0].numpy()
    fits = np.full(len(pool), -1.0, np.float32)
    for place, path in enumerate(pool.images):
        if path in seen.index:
            fits[place] = seen.features_NVD[seen.index[path], 0] @ sentence
    return fits


def _chosen(picks: Any, pool: Pool, recipe: MineRecipe) -> tuple[Pick, ...]:
    deep: dict[int, Pick] = {}
    seen: set[str] = set()
    for pick in picks:
        if pool.digests[pick.place] in seen:  # a copy of a picture that is chosen already
            continue
        seen.add(pool.digests[pick.place])
        deep[pick.place] = pick
        if len(deep) == _DEEP * recipe.count:
            break
    places = diverse(list(deep), pool.features_NK, count=recipe.count, most_alike=recipe.most_alike)
    if not places:
        raise NothingLeftError("people have looked at every image of the pool; there is nothing left to look at")
    return tuple(deep[place] for place in places)


def _metrics(pool: Pool, known: Known, picks: Sequence[Pick]) -> dict[str, Any]:
    return {
        "images": len(pool),
        "embedded_now": pool.embedded,
        "labelled": len(known.labels),
        "classes": dict(Counter(known.labels.values())),
        "chosen": len(picks),
        "reasons": dict(Counter(pick.reason for pick in picks)),
        "skipped": [{"image": str(s.path), "reason": s.reason, "message": s.message} for s in pool.skipped],
    }
