"""``pangu-cv search``."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from cyclopts import Parameter

from pangu_cv.errors import DataError
from pangu_cv.features import FeatureStore, cache_folder, extract
from pangu_cv.pretrain.images import sentence_of
from pangu_cv.pretrain.recipe import TextConfig
from pangu_cv.progress import bar
from pangu_cv.report.page import Page
from pangu_cv.report.picture import Picture
from pangu_cv.tasks.image_text import ImageText
from pangu_runtime.decode import DecodeSpec, decode
from pangu_runtime.images import list_images


@dataclass(frozen=True)
class Hit:
    """An image and how well it fits."""

    path: Path
    score: float
    label: str | None = None


def search(
    model: Path,
    images: Path,
    sentence: str | None = None,
    *,
    classes: Annotated[
        str | None, Parameter(help="Names, with commas between: say which fits each image best.")
    ] = None,
    template: str | None = None,
    top: int = 20,
    out: Path | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Find images by a sentence, or sort them into classes that are only named.

    Parameters
    ----------
    model
        A run of 'pangu-cv pretrain' with texts.
    images
        A folder, or one image.
    sentence
        What to look for.
    template
        The sentence made of a class name; default: the one that the run was pretrained with.
    top
        Images shown.
    out
        Write the pictures to this page.
    as_json
        Print JSON.
    """
    if (sentence is None) == (classes is None):
        raise DataError("search: give a sentence to look for, or --classes to sort by, one of the two")
    if top < 1:
        raise DataError(f"search: --top {top}: 1 or more images are shown")
    names = [name.strip() for name in str(classes).split(",") if name.strip()]
    if classes is not None and not names:
        raise DataError("search: --classes names no class; give names with commas between")
    paths = list_images(images)
    searcher = ImageText.load(model)
    words = template or searcher.template or str(TextConfig().template)
    sentences = [sentence_of(words, name) for name in names]  # before the images: a wrong template is told at once
    vectors, kept, lost = _vectors(searcher, paths)
    if sentence is not None:
        scores = vectors @ searcher.texts([sentence])[0]
        order = scores.argsort(descending=True)[:top].tolist()
        hits = [Hit(kept[at], float(scores[at])) for at in order]
    else:
        share = searcher.classify(vectors, searcher.texts(sentences))
        hits = [Hit(path, float(p.max()), names[int(p.argmax())]) for path, p in zip(kept, share, strict=True)]
    if out is not None:
        _page(out, sentence or f"classes {classes}", hits[:top], searcher.decode_spec)
    if as_json:
        found = [{"image": str(h.path), "score": h.score, "label": h.label} for h in hits]
        print(json.dumps({"hits": found, "skipped": lost}))
        return
    for hit in hits:
        print(f"{hit.score:.4f}  {hit.label or ''}{'  ' if hit.label else ''}{hit.path}")
    if lost:
        print(f"left out {len(lost)} unreadable image(s): {lost[0]} …")
    if out is not None:
        print(f"\npictures  {out}")


def _vectors(searcher: ImageText, paths: Sequence[Path]) -> tuple[torch.Tensor, list[Path], list[str]]:
    store = FeatureStore(cache_folder(), searcher.fingerprint)
    with bar("embedding") as progress:
        views, spec = ("identity",), searcher.decode_spec
        found = extract(paths, searcher, views=views, store=store, decode_spec=spec, progress=progress)
    if not found.index:
        raise DataError("search: none of the images can be read")
    rows = np.fromiter(found.index.values(), int)
    vectors = torch.from_numpy(found.features_NVD[rows, 0])
    return vectors, list(found.index), [str(skipped.path) for skipped in found.skipped]


def _page(out: Path, title: str, hits: list[Hit], spec: DecodeSpec) -> None:
    page = Page(f"“{title}”", f"the {len(hits)} best")
    page.gallery(
        [Picture(decode(h.path, spec=spec), h.label or h.path.name, f"{h.score:.3f} · {h.path.name}") for h in hits]
    )
    page.write(out)
