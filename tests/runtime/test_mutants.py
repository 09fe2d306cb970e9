"""Mutants of real bundles, hidden ever better: which check of ``verify`` catches which, and where only a pin can."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pangu_cv import cli
from pangu_runtime.bundle import fingerprint, write_sums
from pangu_runtime.certificate import check, digests
from pangu_runtime.compare import Limits
from pangu_runtime.errors import BundleError
from pangu_runtime.predictor import Predictor
from tests.finetune.tiny import Made, copy_of, made
from tests.runtime import forge
from tests.runtime.forge import Alteration, edit_json

SUMS = "is altered"
METADATA = "bundle.json says"
IDENTITY = "recorded with"
ANSWERS = "does not give its certified answers"
OF_ANOTHER = "the certificate is of another"
IMAGES = "certified images this machine"
PASSES = ""  # only a fingerprint that was kept elsewhere tells


@dataclass(frozen=True)
class Mutant:
    """A change, and what catches it: with sums written anew, the model restated, golden answers recorded anew, and all
    digests restated (then only with the certified images)."""

    name: str
    kind: str
    alter: Alteration
    resigned: str
    restated: str
    recorded_anew: str
    with_images: str


def swap_weights(folder: Path) -> None:
    forge.take_weights_of(made("unknown").bundle)(folder)


WORKS_OTHERWISE = (IDENTITY, ANSWERS, OF_ANOTHER, IMAGES)  # the graph decides otherwise
STATED_OTHERWISE = (OF_ANOTHER, OF_ANOTHER, OF_ANOTHER, PASSES)  # bundle.json alone says something else
TILE = {"px": 60, "overlap": 0.0}
MUTANTS = [
    Mutant("resize without antialias", "detect", forge.other_resize("antialias", 0), *WORKS_OTHERWISE),
    Mutant("linear resize", "classify", forge.other_resize("mode", "linear"), *WORKS_OTHERWISE),
    Mutant("another cubic", "segment", forge.other_resize("cubic_coeff_a", -0.75), *WORKS_OTHERWISE),
    Mutant(
        "aligned corners",
        "anomaly",
        forge.other_resize("coordinate_transformation_mode", "align_corners"),
        *WORKS_OTHERWISE,
    ),
    Mutant("classes", "classify", forge.swap_classes, METADATA, METADATA, METADATA, METADATA),
    # The recorded answers are class numbers, so the images cannot tell what the numbers are called.
    Mutant("classes everywhere", "classify", forge.swap_classes_everywhere, IDENTITY, OF_ANOTHER, OF_ANOTHER, PASSES),
    Mutant("threshold", "anomaly", forge.state_threshold(0.9), METADATA, METADATA, METADATA, METADATA),
    Mutant("threshold in the graph", "anomaly", forge.change_threshold(0.9), *WORKS_OTHERWISE),
    Mutant("threshold everywhere", "anomaly", forge.change_threshold_everywhere(0.9), *WORKS_OTHERWISE),
    Mutant("threshold of boxes", "detect", forge.change_threshold_everywhere(0.9), *WORKS_OTHERWISE),
    Mutant("weights of another model", "classify", swap_weights, *WORKS_OTHERWISE),
    Mutant("one weight by half", "classify", forge.nudge_weight(1.5), *WORKS_OTHERWISE),
    # Too little to move any answer beyond the limits: another file, the same decisions.
    Mutant("one weight by a hair", "classify", forge.nudge_weight(1.0001), IDENTITY, OF_ANOTHER, OF_ANOTHER, PASSES),
    Mutant("normalisation", "classify", forge.other_normalisation, *WORKS_OTHERWISE),
    Mutant("normalisation of boxes", "detect", forge.other_normalisation, *WORKS_OTHERWISE),
    # The golden images have 8 bits and no alpha, and so have these certified images.
    Mutant("decoding", "classify", forge.state(decode={"range_16bit": [0, 4095]}), *STATED_OTHERWISE),
    Mutant("promise", "anomaly", forge.claim_false_alarms(1e-6), *STATED_OTHERWISE),
    # Of another precision than the one that runs unless it is asked for.
    Mutant("weights of int8", "precise", forge.turn_weights("int8", np.int8), *WORKS_OTHERWISE),
    Mutant("weights of fp16", "precise", forge.turn_weights("fp16", np.float16), *WORKS_OTHERWISE),
    Mutant("one weight of int8 by a step", "precise", forge.nudge_by_a_step, IDENTITY, OF_ANOTHER, OF_ANOTHER, PASSES),
    Mutant("tile", "segment", forge.state(tile=TILE), ANSWERS, ANSWERS, OF_ANOTHER, IMAGES),
]


def verify(bundle: Path, *more: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["verify", str(bundle), *map(str, more)])
    return int(stopped.value.code or 0)


def caught(capsys: pytest.CaptureFixture[str], because: str, bundle: Path, *more: object) -> None:
    code = verify(bundle, *more)
    told = capsys.readouterr().err
    if because == PASSES:
        assert (code, told) == (0, "")
        return
    assert code == 2
    assert told.startswith("error: ")
    assert because in told
    assert "Traceback" not in told


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: f"{mutant.name} of {mutant.kind}")
def test_mutant_is_caught(mutant: Mutant, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    original = made(mutant.kind)
    images = original.images[0].parent if mutant.kind in ("segment", "detect") else original.data / "test"

    def mutated(name: str) -> Path:
        bundle = copy_of(original.bundle, tmp_path / name)
        mutant.alter(bundle)
        return bundle

    caught(capsys, SUMS, mutated("unsigned"))
    steps = ((forge.resign, mutant.resigned), (forge.restate_model, mutant.restated))
    for hide, because in steps:
        bundle = mutated(hide.__name__)
        hide(bundle)
        caught(capsys, because, bundle)
    if mutant.with_images == METADATA:  # no runtime loads it, so nothing more can be hidden
        return
    bundle = mutated("recorded anew")
    forge.record_golden_anew(bundle)
    caught(capsys, mutant.recorded_anew, bundle)
    bundle = mutated("restated")
    forge.restate_everything(bundle)
    caught(capsys, PASSES, bundle)
    caught(capsys, mutant.with_images, bundle, "--images", images)


def test_only_a_pin_catches_who_forges_everything(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin, images = fingerprint(classify.bundle), classify.data / "test"
    caught(capsys, PASSES, classify.bundle, "--images", images, "--sha256", pin.upper())
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    swap_weights(bundle)
    forge.forge_everything(bundle, classify)
    caught(capsys, PASSES, bundle, "--images", images)
    caught(capsys, "not the one that was asked for", bundle, "--sha256", pin)


def test_only_a_pin_catches_who_forges_every_precision(
    precise: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pin, images = fingerprint(precise.bundle), precise.data / "test"
    caught(capsys, PASSES, precise.bundle, "--images", images, "--sha256", pin)
    bundle = copy_of(precise.bundle, tmp_path / "bundle")
    forge.turn_weights("int8", np.int8)(bundle)
    forge.forge_everything(bundle, precise)
    caught(capsys, PASSES, bundle, "--images", images)
    caught(capsys, "not the one that was asked for", bundle, "--sha256", pin)


@pytest.mark.parametrize("given", ["", "12ab", "z" * 64])
def test_a_pin_that_is_none_is_told(classify: Made, capsys: pytest.CaptureFixture[str], given: str) -> None:
    caught(capsys, "the 64 hex digits", classify.bundle, "--sha256", given)


def empty(parity: dict[str, Any]) -> None:
    for image in parity["images"]:
        image["answer"] = {}


def ragged(parity: dict[str, Any]) -> None:
    for image in parity["images"]:
        image["answer"]["scores"] = "none"


def wide(parity: dict[str, Any]) -> None:
    parity["limits"].update(flips=99, score=1)


def no_images(parity: dict[str, Any]) -> None:
    parity["images"] = []


def apart(parity: dict[str, Any]) -> None:
    parity["images"][0]["difference"]["flips"] = 1


def says_nothing_of(key: str) -> Any:
    return lambda parity: parity.pop(key)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (empty, "a recorded answer is malformed"),
        (ragged, "a recorded answer is malformed"),
        (wide, "held to a limit of 99 for 'flips'; at most 0"),
        (no_images, "does not hold"),
        (apart, "does not hold"),
        (says_nothing_of("manifest_sha256"), "says nothing of bundle.json"),
        (says_nothing_of("golden_sha256"), "says nothing of golden/expected.json"),
        (says_nothing_of("images"), "malformed"),
    ],
)
def test_certificate_that_certifies_nothing_is_refused(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, because: str
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    swap_weights(bundle)
    forge.restate_everything(bundle)
    edit_json(bundle / "parity.json", change)
    write_sums(bundle)
    caught(capsys, because, bundle, "--images", classify.data / "test")


def own_ragged(int8: dict[str, Any]) -> None:
    int8["answers"][0] = {}


def own_cut_short(int8: dict[str, Any]) -> None:
    int8["answers"].pop()


def own_flips(int8: dict[str, Any]) -> None:
    int8["worst"]["flips"] = 99


def own_wide(int8: dict[str, Any]) -> None:
    int8["recheck"].update(score=1)


def own_wide_flips(int8: dict[str, Any]) -> None:
    int8["limits"].update(flips=99)


@pytest.mark.parametrize(
    ("change", "because"),
    [
        (own_ragged, "a recorded answer is malformed"),
        (own_cut_short, "malformed"),
        (own_flips, "does not hold"),
        (own_wide, "held to a limit of 1 for 'score'; at most 0.05"),
        (own_wide_flips, "held to a limit of 99 for 'flips'; at most 1"),
        (says_nothing_of("golden_sha256"), "says nothing of golden/expected.int8.json"),
        (says_nothing_of("manifest_sha256"), "says nothing of bundle.json"),
        (says_nothing_of("control"), "malformed"),
    ],
)
def test_certificate_of_int8_that_certifies_nothing_is_refused(
    precise: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, because: str
) -> None:
    bundle, images = copy_of(precise.bundle, tmp_path / "bundle"), precise.data / "test"
    edit_json(bundle / "parity.json", lambda parity: change(parity["precisions"]["int8"]))
    write_sums(bundle)
    caught(capsys, PASSES, bundle, "--images", images, "--precision", "fp32")
    caught(capsys, because, bundle, "--images", images)


def test_wider_limits_are_taken_from_who_names_them(classify: Made, tmp_path: Path) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    edit_json(bundle / "parity.json", lambda parity: parity["limits"].update(score=0.01))
    write_sums(bundle)
    with pytest.raises(BundleError, match="'score'"):
        check(Predictor(bundle))
    check(Predictor(bundle), widest=Limits(score=0.01))


def test_tiles_of_a_task_that_has_none_are_refused(
    classify: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_of(classify.bundle, tmp_path / "bundle")
    forge.state(tile=TILE)(bundle)
    edit_json(bundle / "parity.json", lambda parity: parity.update(digests(bundle)))
    write_sums(bundle)
    caught(capsys, "only segment and detect work in tiles", bundle)
