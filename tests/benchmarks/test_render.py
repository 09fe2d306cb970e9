import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import render
from benchmarks.markdown import points
from benchmarks.plan import first_cells
from benchmarks.plan_deploy import deploy_cells
from benchmarks.plan_few_shot import few_shot_cells
from benchmarks.plan_iterate import iterate_cells
from benchmarks.plan_pretrain import pretrain_cells
from pangu_cv.metrics import Interval
from tests.benchmarks import fake_results as fake


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Results of every cell of the first benchmark; those of the others lie beside it."""
    first, second, third, fourth = (tmp_path / name for name in ("first", "pretrain", "few_shot", "deploy"))
    fifth = tmp_path / "iterate"
    for cells, folder, made in (
        (first_cells(is_full=True), first, lambda name: fake.result(name, 0.9)),
        (pretrain_cells(is_full=True), second, fake.pretrain),
        (few_shot_cells(is_full=True), third, fake.few_shot),
        (deploy_cells(is_full=True), fourth, fake.deploy),
        (iterate_cells(is_full=True), fifth, fake.iterate),
    ):
        folder.mkdir()
        for cell in cells:
            _write(folder, cell.name, made(cell.name))
    _write(first, "demo", {"install_seconds": 60, "demo_seconds": 30, "whole_seconds": 90, "install_note": "cached"})
    return first


def _page(first: Path) -> str:
    render.write(first.parent, first.parent / "RESULTS.md")
    return (first.parent / "RESULTS.md").read_text()


def _write(folder: Path, name: str, result: dict[str, Any]) -> None:
    about = {"cell": name, "date": "2026-01-01T00:00:00", "command": "python x", "commit": "abc", "seconds": 1.0}
    machine = {"cpu": "a processor", "cores": 2, "memory_gb": 8, "system": "Linux"}
    record = about | {"machine": machine, "versions": {"torch": "2"}, "result": result}
    (folder / f"{name}.json").write_text(json.dumps(record))


def _promises(page: str) -> str:
    return page.split("## A.")[0]


def test_nothing_run(tmp_path: Path) -> None:
    page = render.page({})
    promises = _promises(page)
    assert "Nothing was run yet" in promises
    assert promises.count("| not run |") >= 15
    assert "reached" not in promises


def test_everything_run(folder: Path) -> None:
    page = _page(folder)
    assert "not run" not in page.lower()
    assert "run in part" not in page
    assert "not reached" not in _promises(page)
    assert "a processor, 2 cores" in page
    assert "Lost: nowhere in these tables." in page
    assert "60 s (cached)" in page


def test_losses_are_said(folder: Path) -> None:
    for path in folder.glob("classify-*-lite0-5shot-20draws.json"):
        _write(folder, path.stem, fake.classify(0.7))
    slow = fake.parity("xsdd") | {"latency": fake.LATENCY | {"onnx": {"median_ms": 20.0, "p95_ms": 21.0, "calls": 9}}}
    _write(folder, "parity-xsdd", slow)
    _write(
        folder, "parity-rsscn7", {"holds": False, "images": 10, "certificate": {"flips": 3, "score": "inf", "map": 0}}
    )
    page = _page(folder)
    assert _promises(page).count("**not reached**") == 5  # gain; flips, differences, torch-free, latency
    assert "Lost: neu_det against prototypes, same features" in page
    assert "**refused: 3 flips**" in page


@pytest.mark.parametrize(
    "kept", ["classify-neu_det*", "anomaly-*2mb", "false_alarms-10mb-5halves", "parity-xsdd", "startup"]
)
def test_any_subset_renders(folder: Path, kept: str) -> None:
    names = {path.name for path in folder.glob(f"{kept}.json")}
    for path in folder.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder)


def test_a_pretraining_that_does_not_help_is_said(folder: Path) -> None:
    second = folder.parent / "pretrain"
    _write(second, "gain-joint-0", fake.pretrain("gain-joint-0", gain=-0.05))
    _write(second, "speed-pipeline", fake.pretrain("speed-pipeline") | {"ratio": 0.5})
    promises = _promises(_page(folder))
    assert "| -4.2 [-4.2, -4.2] | **not reached** |" in promises  # one of six keeps the original
    assert "| -5.0 [-5.0, -5.0] | **not reached** |" in promises
    assert "| 0.50 | **not reached** |" in promises


def test_figures_of_earlier_code_are_named(folder: Path) -> None:
    second = folder.parent / "pretrain"
    for cell in pretrain_cells(is_full=True):
        record = json.loads((second / f"{cell.name}.json").read_text())
        code = "earlier" if cell.name == "start" else cell.code
        (second / f"{cell.name}.json").write_text(json.dumps(record | {"code": code}))
    chapter = _page(folder).split("## Pretraining")[1].split("## A.")[0]
    assert "**1 of these cells were measured by earlier code**, the next run measures them again: start." in chapter


@pytest.mark.parametrize(
    "kept", ["ways-neu_det-*", "ways-*-frozen*", "detect-deeppcb-10-0", "segment-*-5-1", "tail-*-2"]
)
def test_any_subset_of_few_labels_renders(folder: Path, kept: str) -> None:
    third = folder.parent / "few_shot"
    names = {path.name for path in third.glob(f"{kept}.json")}
    assert names
    for path in third.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder).lower()


@pytest.mark.parametrize("kept", ["start", "gain-*-0", "repair-both*", "labels-start*", "text-neu*", "ablation-mae*"])
def test_any_subset_of_pretraining_renders(folder: Path, kept: str) -> None:
    second = folder.parent / "pretrain"
    names = {path.name for path in second.glob(f"{kept}.json")}
    for path in second.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder).lower()


@pytest.mark.parametrize(
    "kept",
    [
        "extract-xsdd-25-ours",
        "precision-lite0",
        "start-vit*",
        "graph-lite0",
        "serve-lite0",
        "flood-*",
        "edge-*",
        "browser-lite0",
        "mutants-*",
        "install-ours",
    ],
)
def test_any_subset_of_deployment_renders(folder: Path, kept: str) -> None:
    fourth = folder.parent / "deploy"
    names = {path.name for path in fourth.glob(f"{kept}.json")}
    assert names
    for path in fourth.glob("*.json"):
        if path.name not in names:
            path.unlink()
    assert "not run" in _page(folder).lower()


def test_what_deployment_does_not_reach_is_said(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    for model in ("vit_tiny", "lite0"):
        _write(fourth, f"serve-{model}", fake.serve(0.7))
    flood, edge, mutants = fake.flood(), fake.edge(), fake.mutants()
    memory = flood["memory"] | {"growth_mb": 20.0, "growth_share": 0.2}
    _write(fourth, "flood-lite0-10000", flood | {"right": 9499, "agrees": False, "memory": memory})
    _write(fourth, "edge-lite0-1000-50kills", edge | {"duplicates": 1, "once": 999})
    _write(
        fourth, "browser-lite0", fake.browser() | fake.AGREES | {"unlike": 2, "first_result_ms": fake.spread(6000.0)}
    )
    levels = mutants["levels"] | {"b": {"passed": 1, "sums": 4}}
    _write(fourth, "mutants-lite0", mutants | {"levels": levels})
    _write(fourth, "install-anomalib", fake.install(0.5))
    _write(fourth, "extract-xsdd-25-ours", fake.extract(0.9, ratio=0.3, seconds=900.0))
    _write(fourth, "precision-lite0", fake.precision(1.7, lost=0.02))
    promises = _promises(_page(folder))
    assert "| 30.0% | **not reached** |" in promises
    assert "| 1.70 times | **not reached** |" in promises
    assert "| 9499 of 9500 | **not reached** |" in promises
    assert "| +20.0 MB (+20.0 %) | **not reached** |" in promises
    assert promises.count("**not reached**") == 11 + 7 + 2  # three of the sub-model, four rivals; time and loss of int8


def test_a_precision_that_is_refused_is_said(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    one = fake.precision()
    for part in ("bytes", "timings", "figures", "operators"):
        del one[part]["int8"]
    _write(fourth, "precision-vit_tiny", one | {"refused": {"int8": "int8 loses 3 points"}, "layers": None})
    page = _page(folder)
    assert "refused by the export" in _promises(page)
    assert "int8 loses 3 points" in page


def test_an_install_that_failed_proves_nothing(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    _write(fourth, "install-anomalib", {"told": "pip could not install it here"})
    page = _page(folder)
    assert "pip could not install it here" in page
    assert "| smaller than both | 1 MB; lightly-train 10 MB | run in part |" in page


def test_a_quick_run_reaches_nothing(folder: Path) -> None:
    fourth = folder.parent / "deploy"
    _write(fourth, "flood-lite0-10000", fake.flood() | {"requests": 400, "right": 380, "good": 380})
    _write(fourth, "edge-lite0-1000-50kills", fake.edge() | {"images": 40, "kills": 4, "once": 40})
    promises = _promises(_page(folder))
    assert "| 380 of 380 | run in part |" in promises
    assert "| 40 of 40, 4 kills | run in part |" in promises


@pytest.mark.parametrize(
    "kept",
    [
        "screening-xsdd",
        "fusion-mixed-10",
        "labelling-17",
        "round-trip-1000",
        "increments-11",
        "increments-all_images-10",
        "hard_cases-neu_det",
        "growth-embedding-5000",
        "growth-mining-30000",
    ],
)
def test_any_subset_of_the_loop_renders(folder: Path, kept: str) -> None:
    fifth = folder.parent / "iterate"
    for path in fifth.glob("*.json"):
        if path.stem != kept:
            path.unlink()
    assert "not run" in _page(folder).lower()


def test_what_the_loop_does_not_reach_is_said(folder: Path) -> None:
    fifth = folder.parent / "iterate"
    _write(fifth, "screening-xsdd", fake.screening(4.0))
    _write(fifth, "round-trip-1000", fake.round_trip(lost=1))
    _write(fifth, "labelling-16", fake.labelling(None))
    for seed in range(10, 15):
        _write(fifth, f"fusion-mixed-{seed}", fake.fusion(0.85))
    for seed in range(10, 15):
        _write(fifth, f"increments-{seed}", fake.increments(0.8))
    _write(fifth, "hard_cases-xsdd", fake.hard_cases(old=0.94))
    _write(fifth, "growth-embedding-5000", fake.growth("embedding", "5000", ratio=0.5))
    _write(fifth, "growth-mining-100000", fake.growth("mining", "100000", own_mb=5e-3))
    promises = _promises(_page(folder))
    assert promises.count("**not reached**") == 6 + 1 + 3 + 1 + 1
    assert "| -10.0 [-10.0, -10.0] in the worst step, 5 seeds | **not reached** |" in promises
    assert "xsdd 80.0 % less 20.0 [20.0, 20.0] points, old -1.0 [-1.0, -1.0]; neu_det 80.0 %" in promises
    assert "| 0.50; 0.97 without oddity | **not reached** |" in promises
    assert "4 of 5 seeds | **not reached** |" in promises
    assert "xsdd 4.0 and 4.0" in promises
    assert "| -5.0 [-5.0, -5.0] points to their mean; -5.5 [-5.5, -5.5] points to their mean weighed" in promises


def test_a_few_quick_draws_do_not_make_up_for_slow_ones(folder: Path) -> None:
    """Looks of 20 and 4 times fewer are 6.7 times fewer in all, where the mean of both ratios is 12."""
    _write(folder.parent / "iterate", "screening-xsdd", fake.screening(20.0, 4.0))
    page = _page(folder)
    assert "xsdd 6.7 and 6.7" in _promises(page)
    assert "6.7 (12.0 [12.0, 12.0], median 12.0)" in page
    assert _promises(page).count("**not reached**") == 2


def test_a_win_with_few_labels_does_not_hide_a_loss_with_many(folder: Path) -> None:
    third = folder.parent / "few_shot"
    _write(third, "detect-neu_det-30-0", fake.detect(ap=0.05))
    promises = _promises(_page(folder))
    assert "30 images: AP50 +30.0, AP +11.7 (3 of 3 draws)" in promises
    for seed in range(3):
        _write(third, f"detect-neu_det-30-{seed}", fake.detect(ap=0.05))
    promises = _promises(_page(folder))
    assert "AP +20.0 (3 of 3 draws); 30 images: AP50 +30.0, AP -5.0 (3 of 3 draws) | **not reached** |" in promises


@pytest.mark.parametrize("gone", ["detect-neu_det-30-2", "segment-crackforest-all-1", "tail-seesaw-flips-4"])
def test_what_was_run_in_part_keeps_no_promise(folder: Path, gone: str) -> None:
    third = folder.parent / "few_shot"
    gone_from = [gone] if not gone.startswith("tail") else [path.stem for path in third.glob("tail-*-4.json")]
    for name in gone_from:
        (third / f"{name}.json").unlink()
    promises = _promises(_page(folder))
    assert "| run in part |" in promises
    assert "not reached" not in promises


def test_few_halves_keep_no_promise_of_false_alarms(folder: Path) -> None:
    for path in folder.glob("false_alarms-*.json"):
        if not path.stem.endswith("halves"):
            path.unlink()
    assert "| 5 of 5, 5 halves | run in part |" in _promises(_page(folder))


def test_no_image_that_nothing_was_chosen_on_proves_nothing(folder: Path) -> None:
    _write(folder, "anomaly-magnetic_tile-10mb", fake.anomaly() | {"untouched": None})
    promises = _promises(_page(folder))
    assert "images that nothing was chosen on | ≥ 0.90 | not run | not run |" in promises


def test_who_does_not_restore_has_not_kept_both(folder: Path) -> None:
    """An encoder that has learnt nothing of repair has lost nothing by it either."""
    second = folder.parent / "pretrain"
    for path in second.glob("repair-*.json"):
        made = fake.pretrain(path.stem) | {"asked_steps": 50}
        made["psnr_db"] = {name: one | {"ours": [20.2]} for name, one in made["psnr_db"].items()}
        _write(second, path.stem, made)
    assert _promises(_page(folder)).count("neither restores yet: +0.20 dB") == 2


def test_twins_are_compared_over_all_their_seeds(folder: Path) -> None:
    second = folder.parent / "pretrain"
    for path in second.glob("repair-*.json"):
        path.unlink()
    for seed, ours in ((0, 25.6), (1, 26.2), (2, 20.0)):
        for twin in ("both", "judge", "restore")[: 2 if seed == 2 else 3]:  # the last seed lacks a twin
            made = fake.pretrain(f"repair-{twin}-{seed}")
            if twin == "both":
                made["psnr_db"] = {name: one | {"ours": [ours]} for name, one in made["psnr_db"].items()}
            _write(second, f"repair-{twin}-{seed}", made)
    page = _promises(_page(folder))
    assert "| loss ≤ 1 point | +0.0 points (seeds: +0.0, +0.0) | reached |" in page
    assert "bsd68_sigma25 -0.10 dB (seeds: -0.40, +0.20), polyu -0.10 dB (seeds: -0.40, +0.20) | reached |" in page


def test_what_is_no_cell_is_said_to_be_unchecked(folder: Path) -> None:
    assert "Not checked against the code: demo (2026-01-01, abc)." in _page(folder)


def test_a_loss_that_rounds_to_nothing_is_nothing() -> None:
    assert points(Interval(-1e-9, -4e-4, 0.001, 5), sign=True) == "+0.0 [+0.0, +0.1]"
    assert points(Interval(-0.01, None, None, 1)) == "-1.0"
