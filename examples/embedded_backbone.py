"""Draw the images that the embedded backbone was trained on beside photographs: scenes, and collages of pieces.

``python examples/embedded_backbone.py [folder] --photographs DIR``, then as ``recipes/pretrain/embedded.yaml`` says.
"""

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from pangu_cv.data.collages import collage
from pangu_cv.data.scenes import write_class_folders
from pangu_runtime.decode import decode
from pangu_runtime.images import list_images


def draw_scenes(folder: Path, part: int) -> None:
    """Six scenes, one of each class, each of another place."""
    if not (folder / str(part)).is_dir():
        write_class_folders(folder / str(part), images_per_class={"train": 1}, seed=part)


def draw_collages(folder: Path, sources: list[Path], first: int, end: int, side_px: int) -> None:
    """Collages of at most 300 of the pictures."""
    chosen = np.random.default_rng(first).permutation(len(sources))[:300]
    pictures = [decode(sources[number]) for number in chosen]
    for number in range(first, end):
        Image.fromarray(collage(pictures, side_px=side_px, seed=number)).save(folder / f"{number:06d}.jpg", quality=92)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, nargs="?", default=Path("runs/embedded"))
    parser.add_argument("--photographs", type=Path, help="a folder of images whose licence you have read")
    parser.add_argument("--scenes", type=int, default=600, help="times six scenes")
    parser.add_argument("--collages", type=int, default=8000, help="pictures made of pieces")
    parser.add_argument("--side-px", type=int, default=320, help="side of a collage")
    options = parser.parse_args()
    scenes, collages = options.out / "scenes", options.out / "collages"
    collages.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(os.cpu_count()) as workers:
        list(workers.map(draw_scenes, [scenes] * options.scenes, range(options.scenes)))
        photographs = list_images(options.photographs) if options.photographs else ()
        sources = [*photographs, *list_images(scenes)]
        steps = range(0, options.collages, 100)
        jobs = [(first, min(first + 100, options.collages)) for first in steps]
        done = [workers.submit(draw_collages, collages, sources, *job, options.side_px) for job in jobs]
        for one in done:
            one.result()
    print(f"wrote {len(list_images(scenes))} scenes and {len(list_images(collages))} collages to {options.out}")


if __name__ == "__main__":
    main()
