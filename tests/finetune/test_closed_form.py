"""What a closed form is shown of a labelled image."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pangu_cv.data.sample import Box, Sample
from pangu_cv.features import FeatureStore
from pangu_cv.finetune import FinetuneRecipe, finetune
from pangu_cv.finetune.closed_form import labelled_image, shown_features
from pangu_cv.models.augment import AugmentConfig
from pangu_cv.tasks.classify import ClassifyConfig
from pangu_runtime.decode import DecodeSpec
from tests.finetune.tiny import class_folders, recipe, save

CUT = AugmentConfig(scale=(0.05, 0.15), flip_lr=False, flip_ud=False, rot90=False, light=0, blur=0, noise=0)


@pytest.fixture
def scratched(tmp_path: Path) -> Sample:
    """A white scratch in a corner, and its mask."""
    image = np.full((60, 80, 3), 90, np.uint8)
    image[4:8, 4:12] = 255
    return Sample(
        save(tmp_path / "a.png", image),
        "scratch",
        mask=save(tmp_path / "a_mask.png", ((image > 200) * 255).astype(np.uint8)),
    )


def _with_scratch(sample: Sample) -> int:
    labelled, augment = labelled_image(sample, DecodeSpec()), CUT.build()
    return sum(bool((augment(labelled, seed=seed).image > 200).any()) for seed in range(30))


def test_no_variant_cuts_a_defect_away_whose_place_is_known(scratched: Sample) -> None:
    unknown = Sample(scratched.path, "scratch")
    boxed = Sample(scratched.path, "scratch", boxes=(Box("scratch", (4, 4, 12, 8)),))
    assert _with_scratch(unknown) < 20  # small crops miss a corner
    assert _with_scratch(scratched) == 30
    assert _with_scratch(boxed) == 30


def test_a_mask_that_does_not_fit_leaves_the_label(scratched: Sample, tmp_path: Path) -> None:
    small = save(tmp_path / "small.png", np.full((3, 3, 3), 255, np.uint8))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    for mask in (small, broken, tmp_path / "gone.png"):
        shown = labelled_image(Sample(scratched.path, "scratch", mask=mask), DecodeSpec())
        assert shown.mask is None
        assert shown.image.shape == (60, 80, 3)


def test_variants_are_made_where_a_mask_is_gone(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    asked = recipe("classify", data, tmp_path / "run", "task.backbone.name=test_vit", "augment.variants=2")
    assert isinstance(asked.task, ClassifyConfig)
    samples = [replace(s, mask=tmp_path / "gone.png") for s in asked.data.read() if s.split == "train"]
    seen = shown_features(asked.task.build(("blue", "red")), samples, asked, FeatureStore(None, ""))
    assert len(seen.features_NVD) == len(samples)


def test_variants_are_made_anew_where_something_else_is_to_be_shown(scratched: Sample, tmp_path: Path) -> None:
    asked = recipe("classify", tmp_path, tmp_path / "run", "task.backbone.name=test_vit", "augment.variants=1")
    darker = asked.model_copy(update={"augment": asked.augment.model_copy(update={"light": 0.9})})
    plain, store = replace(scratched, mask=None), FeatureStore(None, "")
    assert isinstance(asked.task, ClassifyConfig)
    model = asked.task.build(("scratch",))

    def variant(sample: Sample, shown: FinetuneRecipe = asked) -> bytes:
        return shown_features(model, [sample], shown, store).features_NVD[0, -1].tobytes()

    boxed = replace(plain, boxes=(Box("scratch", (4, 4, 12, 8)),))
    found = [variant(plain), variant(scratched), variant(boxed), variant(plain, darker)]
    assert len(set(found)) == 4
    assert variant(plain) == found[0]


def test_variants_of_a_frozen_classifier_are_drawn(tmp_path: Path) -> None:
    data = class_folders(tmp_path / "data")
    few = ("few_shot.shots=2", "task.backbone.name=test_vit", "task.preprocess.image_px=64", "cache=false")
    for variants, is_drawn in ((0, False), (2, True)):
        made = finetune(recipe("classify", data, tmp_path / str(variants), *few, f"augment.variants={variants}"))
        assert ("What training shows" in made.report.read_text()) is is_drawn
