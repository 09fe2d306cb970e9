"""Which cells make up the benchmark of deployment."""

from benchmarks.cells import DECODING, Cell

MODELS = ("vit_tiny", "lite0")
FULL_MODELS = (*MODELS, "anomaly")
PRECISIONS = tuple((model, all_labels) for model in MODELS for all_labels in (False, True))
FULL_PRECISIONS = (*PRECISIONS, ("anomaly", False), ("detect", False), ("segment", False))
EXTRACTIONS = (("xsdd", 0.25),)
FULL_EXTRACTIONS = (*EXTRACTIONS, ("xsdd", 0.5), ("xsdd", 0.12), ("neu_det", 0.25), ("magnetic_tile", 0.25))
STUDENTS = (
    "ours",
    "Torch-Pruning, smaller input",
    "Torch-Pruning",
    "MobileNetV4, labels alone",
    "Lite0, labels alone",
)
FLOOD = 10_000
FLOOD_MODEL, EDGE_MODEL, MUTANTS_MODEL = "lite0", "lite0", "lite0"
EDGE_IMAGES, EDGE_KILLS = 1000, 50
RUNTIMES = ("ours", "ours_serve", "anomalib", "lightly_train")
SEED = 0
_RUNTIME = "export/pangu_runtime"
_MADE = ("pangu_cv/deploy", "pangu_cv/models", "pangu_cv/tasks", "benchmarks/deploy_subjects.py")
_BUNDLE = tuple(
    f"{_RUNTIME}/{name}.py" for name in ("bundle", "images", "predictor", "tiles", "golden", "certificate", "compare")
)
_SERVE = (f"{_RUNTIME}/serve", "pangu_cv/verbs/serve.py", "benchmarks/deploy_server.py", "benchmarks/deploy_client.py")
_WEB = tuple(
    f"{_RUNTIME}/web/{name}"
    for name in (
        "bundle.mjs",
        "tiles.mjs",
        "decide.mjs",
        "device.mjs",
        "show.mjs",
        "offline.js",
        "device.html",
        "site.py",
    )
)


def start_name(model: str) -> str:
    """Name of a cell of a fresh process."""
    return f"start-{model}"


def graph_name(model: str) -> str:
    """Name of a cell of two graphs side by side."""
    return f"graph-{model}"


def serve_name(model: str) -> str:
    """Name of a cell of the server's speed."""
    return f"serve-{model}"


def flood_name(model: str, requests: int = FLOOD) -> str:
    """Name of a cell of many requests."""
    return f"flood-{model}-{requests}"


def edge_name(model: str = EDGE_MODEL, images: int = EDGE_IMAGES, kills: int = EDGE_KILLS) -> str:
    """Name of a cell of a watcher that is killed."""
    return f"edge-{model}-{images}-{kills}kills"


def end_name(where: str, model: str) -> str:
    """Name of a cell of a browser or of Node."""
    return f"{where}-{model}"


def mutants_name(model: str) -> str:
    """Name of a cell of changed bundles."""
    return f"mutants-{model}"


def install_name(what: str) -> str:
    """Name of a cell of a fresh environment."""
    return f"install-{what}"


def extract_name(subject: str, ratio: float, student: str) -> str:
    """Name of a cell of a smaller model."""
    return f"extract-{subject}-{round(100 * ratio)}-{student.lower().replace(', ', '-').replace(' ', '_')}"


def precision_name(model: str, all_labels: bool = False) -> str:
    """Name of a cell of a model's precisions."""
    return f"precision-{model}{'-all_labels' * all_labels}"


def deploy_cells(*, is_full: bool) -> list[Cell]:
    """The cells, what the project promises first."""
    cells = [_extract(*EXTRACTIONS[0], student) for student in (STUDENTS if is_full else STUDENTS[:2])]
    cells += [_precision(*one) for one in PRECISIONS]
    cells += [_start(model) for model in MODELS] + [_graph(model) for model in MODELS]
    cells += [_end(where, model) for where in ("browser", "node") for model in MODELS]
    cells += [_serve(model) for model in MODELS]
    cells += [_edge(), _flood(FLOOD_MODEL), _mutants(MUTANTS_MODEL)]
    cells += [_install(what) for what in RUNTIMES]
    if is_full:
        cells += [_extract(subject, ratio, STUDENTS[0]) for subject, ratio in FULL_EXTRACTIONS]
        cells += [_precision(*one) for one in FULL_PRECISIONS]
        cells += [_start(model) for model in FULL_MODELS] + [_graph(model) for model in FULL_MODELS]
        cells += [cell for model in MODELS for cell in (_flood(model), _mutants(model))]
    return list({cell.name: cell for cell in cells}.values())


def _cell(cell: str, target: str, sources: tuple[str, ...], /, **options: object) -> Cell:
    module, _, function = target.partition(":")
    sources = (*_MADE, *_BUNDLE, *DECODING, *sources)
    return Cell(cell, f"benchmarks.deploy_{module}:{function or 'measure'}", options, sources, is_isolated=True)


def _extract(subject: str, ratio: float, student: str) -> Cell:
    sources = ("pangu_cv/distill", "pangu_cv/finetune", "pangu_cv/models", "pangu_cv/tasks", "recipes/distill")
    options = {"table": subject, "ratio": ratio, "student": student, "seed": SEED}
    name = extract_name(subject, ratio, student)
    return Cell(name, "benchmarks.deploy_extraction:measure", options, sources, is_isolated=True)


def _precision(model: str, all_labels: bool) -> Cell:
    options = {"model": model} | ({"all_labels": True} if all_labels else {})
    sources = ("pangu_cv/evaluate", "pangu_cv/finetune", "recipes/finetune")
    return _cell(precision_name(model, all_labels), "precision", sources, **options)


def _start(model: str) -> Cell:
    return _cell(start_name(model), "start", (), model=model)


def _graph(model: str) -> Cell:
    return _cell(graph_name(model), "graph", ("benchmarks/deploy_turns.py",), model=model)


def _serve(model: str) -> Cell:
    sources = (*_SERVE, "benchmarks/deploy_turns.py", "benchmarks/deploy_raw.py")
    return _cell(serve_name(model), "serve", sources, model=model)


def _flood(model: str) -> Cell:
    sources = (*_SERVE, "benchmarks/deploy_bad.py")
    return _cell(flood_name(model), "flood", sources, model=model, requests=FLOOD, seed=SEED)


def _edge() -> Cell:
    sources = (f"{_RUNTIME}/edge", "pangu_cv/verbs/watch.py")
    options = {"model": EDGE_MODEL, "images": EDGE_IMAGES, "kills": EDGE_KILLS, "seed": SEED}
    return _cell(edge_name(), "edge", sources, **options)


def _end(where: str, model: str) -> Cell:
    return _cell(end_name(where, model), f"end:{where}", (*_WEB, "benchmarks/deploy_site.py"), model=model)


def _mutants(model: str) -> Cell:
    sources = ("pangu_cv/verbs/verify.py", "tests/runtime/forge.py")
    return _cell(mutants_name(model), "mutants", sources, model=model, seed=SEED)


def _install(what: str) -> Cell:
    sources = ("pyproject.toml", _RUNTIME) if what.startswith("ours") else ()
    return Cell(install_name(what), "benchmarks.deploy_install:measure", {"what": what}, sources, is_isolated=True)
