"""RESULTS.md, part J: a watcher that is killed, browsers and Node, changed bundles, what an install takes."""

from typing import Any

from benchmarks.deploy_end import IMAGES
from benchmarks.deploy_install import INSTALLS
from benchmarks.deploy_subjects import SUBJECTS
from benchmarks.markdown import NOT_RUN, Promise, Results, table
from benchmarks.plan_deploy import (
    EDGE_IMAGES,
    EDGE_KILLS,
    MODELS,
    MUTANTS_MODEL,
    RUNTIMES,
    edge_name,
    end_name,
    install_name,
    mutants_name,
)

FIRST_RESULT_S = 5.0
_PASSED = "passed"
_UP_TO = 4  # levels of a forger who does not restate the certificate's digests; the last one holds to the fingerprint
_OTHERS = ("anomalib", "lightly_train")


def promises(results: Results) -> list[Promise]:
    """Edge, end, mutants, installs."""
    return [_edge_promise(results), *_end_promises(results), *_mutant_promises(results), *_install_promises(results)]


def _edge_promise(results: Results) -> Promise:
    text = f"`watch` killed (SIGKILL) {EDGE_KILLS} times during {EDGE_IMAGES} images: every image once in the output"
    one = results.get(edge_name())
    if one is None:
        return Promise(text, "all")
    told = f"{one['once']} of {one['images']}, {one['kills']} kills"
    is_whole = (one["images"], one["kills"]) == (EDGE_IMAGES, EDGE_KILLS)
    bad = one["duplicates"] + one["missing"] + one["torn"] + one["other_label"]
    return Promise(text, "all", told, (bad == 0 and one["ended_well"]) if is_whole else None)


def _end_promises(results: Results) -> list[Promise]:
    found = []
    for where, label in (("browser", "Headless Chromium"), ("node", "Node")):
        text, target = f"{label} against Python, {IMAGES} images each: labels that differ", "0"
        runs = [one for model in MODELS if (one := results.get(end_name(where, model)))]
        if not runs:
            found.append(Promise(text, target))
            continue
        unlike, images = sum(one["unlike"] for one in runs), sum(one["images"] for one in runs)
        is_whole = len(runs) == len(MODELS) and images == IMAGES * len(MODELS)
        told = f"{unlike} of {images}, {len(runs)} of {len(MODELS)} models"
        found.append(Promise(text, target, told, unlike == 0 if is_whole or unlike else None))
    text, target = "Chromium, from the address to the first result, slowest of the loads", f"≤ {FIRST_RESULT_S:g} s"
    loads = {model: one for model in MODELS if (one := results.get(end_name("browser", model)))}
    first = Promise(text, target)
    if loads:
        slowest = {model: max(one["first_result_ms"]["values"]) / 1e3 for model, one in loads.items()}
        told = ", ".join(f"{SUBJECTS[model].label} {seconds:.1f} s" for model, seconds in slowest.items())
        is_late = max(slowest.values()) > FIRST_RESULT_S
        first = Promise(text, target, told, not is_late if len(loads) == len(MODELS) or is_late else None)
    return [*found, first]


def _mutant_promises(results: Results) -> list[Promise]:
    plain = Promise("Changed bundles that `verify` passes, hidden up to golden answers recorded anew", "0")
    pinned = Promise("The same, everything forged, held to the fingerprint of the export", "0")
    one = results.get(mutants_name(MUTANTS_MODEL))
    if one is None:
        return [plain, pinned]
    levels = list(one["levels"].values())
    passed = sum(level.get(_PASSED, 0) for level in levels[:_UP_TO])
    tried = sum(sum(level.values()) for level in levels[:_UP_TO])
    last, is_right = levels[-1], one["original"] == _PASSED
    told = f"{passed} of {tried} ({one['mutants']} changes)"
    past = last.get(_PASSED, 0)
    return [
        Promise(plain.text, "0", told, passed == 0 and is_right),
        Promise(pinned.text, "0", f"{past} of {sum(last.values())}", past == 0 and is_right),
    ]


def _install_promises(results: Results) -> list[Promise]:
    size = Promise("Installed size of the torch-free runtime beside anomalib and lightly-train", "smaller than both")
    quick = Promise("Import of what predicts, in a fresh process, beside theirs", "faster than both")
    ours = results.get(install_name("ours"))
    others = {name: results.get(install_name(name)) for name in _OTHERS}
    if ours is None or "added_mb" not in ours:
        return [size, quick]
    sizes = {name: one["added_mb"] for name, one in others.items() if one and "added_mb" in one}
    times = {name: _import_ms(one) for name, one in others.items() if one and "import_ms" in one}
    found = []
    for promise, mine, theirs, form in (
        (size, ours["added_mb"], sizes, "{:.0f} MB"),
        (quick, _import_ms(ours), times, "{:.0f} ms"),
    ):
        beside = ", ".join(f"{INSTALLS[name].label} {form.format(value)}" for name, value in theirs.items())
        told = f"{form.format(mine)}; {beside or 'theirs ' + NOT_RUN}"
        is_ahead = all(mine < value for value in theirs.values())
        reached = is_ahead if len(theirs) == len(_OTHERS) or not is_ahead else None
        found.append(Promise(promise.text, promise.target, told, reached))
    return found


def _import_ms(one: Any) -> float:
    """Beyond a bare start of the interpreter."""
    return float(one["import_ms"]["median"] - one["bare_ms"]["median"])


def section(results: Results) -> list[str]:
    """The whole part."""
    head = "## J. Deployment: at the line, on the device, changed bundles, installs"
    return [head, "", *_edge(results), *_end(results), *_mutants(results), *_installs(results)]


def _edge(results: Results) -> list[str]:
    one = results.get(edge_name())
    keys = ("images", "kills", "kills_at_work", "torn_tails", "once", "duplicates", "missing", "torn", "other_label")
    row = [str(one[key]) for key in keys] if one else [NOT_RUN] * len(keys)
    seed = f" Seed {one['seed']}; {one['seconds']:.0f} s with all restarts." if one else ""
    note = (
        "`pangu-cv watch` on real images, half of them arriving meanwhile, killed at random moments: a fifth during "
        "the start, the others after a random number of lines and up to 60 ms more. A torn tail is a line that a "
        f"kill cut, which the next start takes back.{seed}"
    )
    heads = ["images", "kills", "at work", "torn tails", "once", "twice", "missing", "torn lines", "other label"]
    return [note, "", *table(heads, [row])]


def _end(results: Results) -> list[str]:
    rows = []
    for model in MODELS:
        label = SUBJECTS[model].label
        one, node = results.get(end_name("browser", model)), results.get(end_name("node", model))
        if one is None:
            rows.append([f"{label}, Chromium", *[NOT_RUN] * 8])
        else:
            times = [f"{one['first_result_ms']['median'] / 1e3:.1f}", f"{one['ready_ms']['median'] / 1e3:.1f}"]
            times += [f"{one['session_ms'] / 1e3:.1f}", f"{one['image_ms']['median_ms']:.0f}"]
            sizes = [f"{one['bytes'][key] / 1e6:.0f}" for key in ("site", "ready")]
            rows.append([f"{label}, Chromium", *times, *sizes, *_agreement(one)])
        if node is None:
            rows.append([f"{label}, Node", *[NOT_RUN] * 8])
        else:
            each = f"{1e3 * node['seconds'] / node['images']:.0f}"
            rows.append([f"{label}, Node", "–", "–", "–", each, "–", "–", *_agreement(node)])
    note = (
        "The page of `pangu-cv page` from this machine in fresh headless browsers, one thread of WebAssembly: "
        "seconds from the address to the first result and to ready (fetched, sums, session, eight golden answers), "
        "engine and session alone, ms of an image as the user waits for it; MB of the site and sent until ready. In "
        "Node (`decide.mjs`) the ms are of the whole process over its images."
    )
    heads = ["model, where", "first s", "ready s", "session s", "ms", "site MB", "sent MB", "labels unlike", "scores"]
    return [note, "", *table(heads, rows)]


def _agreement(one: Any) -> list[str]:
    return [f"{one['unlike']} of {one['images']}", f"{one['score_difference']:.1g}"]


def _mutants(results: Results) -> list[str]:
    lines = []
    for model in dict.fromkeys((MUTANTS_MODEL, *MODELS)):
        one = results.get(mutants_name(model))
        if one is None:
            lines += [f"Changed bundles of {SUBJECTS[model].label}: {NOT_RUN}.", ""]
            continue
        kinds = ", ".join(f"{kind} {count}" for kind, count in one["kinds"].items())
        rows = [[label, *[str(told.get(check, 0)) for check in one["checks"]]] for label, told in one["levels"].items()]
        lines += [
            f"{one['mutants']} changed bundles of {SUBJECTS[model].label} (seed {one['seed']}: {kinds}), each hidden "
            "ever better, by the check of `pangu-cv verify` that refuses it. What no runtime loads cannot be hidden "
            "further, so later rows hold fewer. With the certified answers forged too only the fingerprint "
            "tells (docs/VERIFY.md).",
            "",
            *table(["hidden", *one["checks"]], rows),
        ]
    return lines


def _installs(results: Results) -> list[str]:
    rows = []
    for name in RUNTIMES:
        one, label = results.get(install_name(name)), f"{INSTALLS[name].label}: `{INSTALLS[name].imports}`"
        if one is None:
            rows.append([label, *[NOT_RUN] * 6])
            continue
        size = [f"{one[key]:.0f}" if key in one else "–" for key in ("added_mb", "cuda_mb", "packages")]
        times = (
            [f"{one['import_ms']['median']:.0f}", f"{one['bare_ms']['median']:.0f}"]
            if "import_ms" in one
            else [one.get("told", "–"), "–"]
        )
        brought = [f"{key} {value}" for key, value in one.get("versions", {}).items() if key != "numpy"]
        rows.append([label, *size, *times, ", ".join(brought) or "–"])
    note = (
        "`pip install` into a fresh environment, as pip resolves it by default: MB added, those of the folders of "
        "NVIDIA and Triton among them (a torch without CUDA, from another index, is smaller itself too), packages, and "
        "milliseconds of a process that imports and of one that does nothing, in turn, median of 10. The others bring "
        "training as well; what is compared is what one must install to predict."
    )
    return [note, "", *table(["what, import", "MB", "CUDA", "packages", "import", "nothing", "among them"], rows)]
