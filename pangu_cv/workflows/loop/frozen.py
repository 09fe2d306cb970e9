"""The first step: look at all images once, and freeze those that everything will be measured on.

The frozen set is never learnt, so no image of it, and no copy of one, stays among those that may be asked about. Where
nobody brings one it is drawn from the images by chance, so that its figures are of what the line sees, and the class of
each is asked for in full: a model's guess has no place in what judges it.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pangu_cv.data.sample import Dataset, Sample
from pangu_cv.data.versions import newest, read_version, write_version
from pangu_cv.errors import DataError, ImageError, SettingsError
from pangu_cv.evaluate import test_samples
from pangu_cv.features import content_digest
from pangu_cv.iterate.answers import AnswerFile
from pangu_cv.iterate.ask import AskConfig, Session
from pangu_cv.iterate.ask.prepare import prepare
from pangu_cv.iterate.mine.stage import images_of
from pangu_cv.iterate.pool import Pool, embed_pool
from pangu_cv.iterate.questions import PricesConfig
from pangu_cv.iterate.self_paced import PaceConfig
from pangu_cv.progress import bar
from pangu_cv.workflows.loop.steps import Figures, Loop

_NOTHING = 1e-12
# Every class is asked for outright, and the machine takes nothing over.
_IN_FULL = AskConfig(
    prices=PricesConfig(label_seconds=_NOTHING, noes_before_label=0), pace=PaceConfig(start=_NOTHING, end=_NOTHING)
)


def freeze(loop: Loop) -> Figures:
    """Write the frozen set and the pool as dataset versions; raises Paused where its questions are open."""
    recipe = loop.recipe
    images = images_of(recipe.images)
    loop.say(f"looking at {len(images)} images")
    with bar("embedding") as progress:
        pool = embed_pool(images, loop.sight(), folder=loop.store, progress=progress)
    told: Figures = {"answers": 0, "seconds": 0.0}
    if recipe.gate is not None:
        frozen = _brought(loop)
    else:
        frozen, told = _drawn(loop, pool)
    taken = set(frozen.values())
    left = [Sample(path) for path, sha256 in zip(pool.images, pool.digests, strict=True) if sha256 not in taken]
    if not left:
        raise DataError(f"images: all images of '{recipe.images}' are in the frozen set; none is left to learn from")
    if newest(loop.pool) is None:
        write_version(loop.pool, Dataset(recipe.images.absolute(), "images", tuple(left)), note="not frozen")
    return told | {
        "images": len(pool),
        "pool": len(left),
        "frozen": len(frozen),
        "counts": dict(sorted(Counter(str(sample.label) for sample in frozen).items())),
        "is_drawn": recipe.gate is None,
        "skipped": [[str(one.path), one.message] for one in pool.skipped],
    }


def _brought(loop: Loop) -> dict[Sample, str]:
    """The labelled images that measure, of the dataset that the recipe names, with the SHA-256 of each."""
    assert loop.recipe.gate is not None
    dataset = loop.recipe.gate.read()
    samples = [replace(s, path=s.path.absolute()) for s in test_samples(dataset) if s.label is not None]
    if strange := sorted({str(s.label) for s in samples} - set(loop.recipe.classes)):
        raise DataError(
            f"gate: shows '{strange[0]}', which is none of the classes {', '.join(loop.recipe.classes)}; name it too"
        )
    return _keep(loop, samples, dataset.root.absolute(), "brought")


def _drawn(loop: Loop, pool: Pool) -> tuple[dict[Sample, str], Figures]:
    """Images drawn by chance, the class of each named by a person; those that nobody could tell are left out."""
    recipe = loop.recipe
    count, root = recipe.gate_images, recipe.images.absolute()
    of_digest = dict(zip(pool.digests, pool.images, strict=True))
    if len(of_digest) < count + 2:
        raise DataError(
            f"gate_images: {count} of {len(of_digest)} different images leave too few to learn from; lower it, or name "
            "labelled images as gate"
        )
    drawn = _draw(loop, of_digest)
    ready = prepare(drawn, classes=recipe.classes, model=None, root=None, sight=loop.sight(), store=loop.store)
    session = Session(ready.subject, AnswerFile(loop.frozen / "answers.jsonl"), _IN_FULL)
    loop.ask(session, "frozen set, never learnt")
    named = [
        Sample(path, label=recipe.classes[number])
        for path, number in zip(ready.subject.images, session.label_N.tolist(), strict=True)
        if number >= 0
    ]
    told: Figures = {"answers": session.known.answers, "seconds": round(session.known.seconds, 1)}
    return _keep(loop, named, root, "drawn by chance, named by people"), told


def _draw(loop: Loop, of_digest: Mapping[str, Path]) -> Path:
    """The version of what is drawn: in the same order every time, so that it may grow and no answer is lost."""
    recipe, drawn = loop.recipe, loop.frozen / "drawn"
    before = newest(drawn)
    known = {content_digest(s.path): s.path for s in read_version(before).dataset} if before else {}
    if len(known) > recipe.gate_images:
        raise SettingsError(
            f"gate_images: {recipe.gate_images} is less than the {len(known)} that were drawn and are asked about; it "
            "may only grow. Or name another output"
        )
    if len(known) < recipe.gate_images:
        order = sorted(of_digest, key=lambda sha256: hashlib.sha256(f"{recipe.seed} {sha256}".encode()).digest())
        more = [of_digest[sha256] for sha256 in order if sha256 not in known]
        paths = [*known.values(), *more][: recipe.gate_images]
        samples = tuple(Sample(path) for path in sorted(paths))
        write_version(drawn, Dataset(recipe.images.absolute(), "images", samples), note="drawn by chance to be frozen")
    return drawn


def _keep(loop: Loop, samples: Sequence[Sample], root: Path, note: str) -> dict[Sample, str]:
    """Write the version, once; the samples that can be read, with their SHA-256, each picture once."""
    found: dict[Sample, str] = {}
    seen: set[str] = set()
    for sample in samples:
        try:
            sha256 = content_digest(sample.path)
        except ImageError:
            continue
        if sha256 not in seen:
            seen.add(sha256)
            found[Sample(sample.path, label=sample.label, split="test", group=sample.group)] = sha256
    if len({sample.label for sample in found}) < 2:
        more = "bring images of more classes" if loop.recipe.gate else "raise gate_images, what was answered stays"
        raise DataError(f"the frozen set shows {len(found)} images of fewer than two classes; {more}")
    if newest(loop.frozen) is None:
        write_version(loop.frozen, Dataset(root, "images", tuple(found)), note=note)
    return found
