"""From several classifiers to one: read, ask, fuse, hold against the bounds, save and report."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pangu_cv.alone import require_no_model
from pangu_cv.errors import SettingsError
from pangu_cv.features import digest
from pangu_cv.iterate.fuse.ancestry import require_kin
from pangu_cv.iterate.fuse.bounds import Bounds, bounds
from pangu_cv.iterate.fuse.costs import costs
from pangu_cv.iterate.fuse.deltas import LoraConfig, merge
from pangu_cv.iterate.fuse.distil import FEWEST_IMAGES, GraphConfig, graph
from pangu_cv.iterate.fuse.evidence import Reader, gather
from pangu_cv.iterate.fuse.gathering import Fused, Gathering, Tried
from pangu_cv.iterate.fuse.interpolate import InterpolateConfig, interpolate
from pangu_cv.iterate.fuse.members import Member, nearly_alike, read_members, union_of
from pangu_cv.iterate.fuse.memories import MemoryConfig, join, require_memories
from pangu_cv.iterate.fuse.recipe import AutoConfig, FuseRecipe, FuseResult, How, Images
from pangu_cv.iterate.fuse.report import write_report
from pangu_cv.iterate.fuse.soup import SoupConfig, soup
from pangu_cv.runs import Run
from pangu_cv.tasks.saved import Provenance, SavedModel, data_hash, save_model


def fuse(recipe: FuseRecipe) -> FuseResult:
    """Run the recipe; raises PanguError for what the user can mend."""
    if recipe.output is not None:
        require_no_model(recipe.output, setting="output")
    members = read_members(recipe.models, recipe.rename)
    if len(members) == 1 and not isinstance(recipe.how, InterpolateConfig):
        raise SettingsError("models: one is given, and fusing needs two; how=interpolate takes one back to its start")
    images = recipe.data.read()
    if isinstance(recipe.how, SoupConfig | InterpolateConfig | LoraConfig):
        require_kin(members, how=recipe.how.kind)  # before minutes of reading images
    if isinstance(recipe.how, MemoryConfig):
        require_memories(members)
    classes = union_of(members)
    reader = Reader(members[0].saved.provenance.decode, recipe.cache)
    evidence = gather(members, [*images.labelled, *images.bare], classes, reader)
    measured = gather(members, images.measured, classes, reader) if images.measured else evidence
    gathering = Gathering(members, classes, evidence, reader, recipe.seed)
    run = Run.start(recipe.output, name="fuse", recipe=recipe)
    fused = fuse_by(recipe.how, gathering)
    messages = recipe.how if isinstance(recipe.how, GraphConfig) else GraphConfig()
    found = bounds(
        gathering,
        fused,
        measured,
        messages=messages,
        costs=costs([member.model for member in members], fused.model),
        is_flattering=not images.measured,
    )
    provenance = _provenance(recipe, members, images)
    save_model(SavedModel(fused.model, provenance, _parent(members, fused), memory=fused.memory), run.model)
    metrics = _metrics(gathering, fused, found)
    run.write_metrics(metrics)
    write_report(run, recipe, gathering, fused, found, metrics["notes"])
    return FuseResult(run.folder, run.model, run.report, metrics)


def fuse_by(how: How, gathering: Gathering) -> Fused:
    """One model by the way asked for."""
    match how:
        case SoupConfig():
            return soup(how, gathering)
        case InterpolateConfig():
            return interpolate(how, gathering)
        case LoraConfig():
            return merge(how, gathering)
        case GraphConfig():
            return graph(how, gathering)
        case MemoryConfig():
            return join(how, gathering)
        case AutoConfig():
            return _best_of(gathering)
    raise AssertionError(how)


def _best_of(gathering: Gathering) -> Fused:
    """The graph's unless the soup is worth more; without labels nothing speaks for a soup."""
    made = []
    if len(gathering.evidence.samples) >= FEWEST_IMAGES:
        made.append(graph(GraphConfig(), gathering))
    if len(gathering.evidence.labelled) or not made:
        try:
            require_kin(gathering.members, how="soup")
        except SettingsError:
            if not made:
                raise
        else:
            has_labels = len(gathering.evidence.labelled) > 0
            made.append(soup(SoupConfig(choose="greedy" if has_labels else "uniform"), gathering))
    best = max(made, key=lambda one: one.worth)
    ways = tuple(Tried(one.way, one.worth, one is best) for one in made)
    return replace(best, tried=(*ways, *best.tried))


def _provenance(recipe: FuseRecipe, members: Sequence[Member], images: Images) -> Provenance:
    licences = dict.fromkeys([*(m.saved.provenance.data_licence for m in members), recipe.data.licence])
    return Provenance(
        members[0].saved.provenance.decode,
        digest(recipe.model_dump(mode="json")),
        data_hash([s.path for s in (*images.labelled, *images.bare)], recipe.data.path),
        "; ".join(licences),
    )


def _parent(members: Sequence[Member], fused: Fused) -> dict[str, Any]:
    """Whose weights it carries, and on what terms those that taught it are."""
    own = fused.model.backbone.fingerprint
    parent = next((m.parent for m in members if m.model.backbone.fingerprint == own), members[0].parent)
    licences = dict.fromkeys([str(parent["licence"]), *(str(m.parent["licence"]) for m in members)])
    return dict(parent) | {"licence": "; ".join(licences)}


def _metrics(gathering: Gathering, fused: Fused, found: Bounds) -> dict[str, Any]:
    evidence = gathering.evidence
    members = [
        {"name": m.name, "classes": list(m.classes), "parent": m.parent, "backbone": m.model.backbone.fingerprint[:16]}
        for m in gathering.members
    ]
    return {
        "task": "classify",
        "models": members,
        "classes": list(gathering.classes),
        "images": {"labelled": len(evidence.labelled), "all": len(evidence.samples)},
        "measure": gathering.measure,
        "worth_of_models": dict(zip((m.name for m in gathering.members), gathering.worths, strict=True)),
        "fused": fused.as_json(),
        "bounds": found.as_json(),
        "notes": _notes(gathering, fused, found),
        "skipped": [{"image": str(s.path), "reason": s.reason, "message": s.message} for s in evidence.skipped],
    }


def _notes(gathering: Gathering, fused: Fused, found: Bounds) -> list[str]:
    notes = list(nearly_alike(gathering.members))
    if any(m.model.config.unknown_rate is not None for m in gathering.members):
        notes.append('a model may answer "unknown", and has no vote where it does; the fused model answers every image')
    if found.together.backbones == 1:
        notes.append("all models share one backbone, so the ensemble passes it once and costs what one model costs")
    if not fused.memory and _share_memories(gathering.members):
        notes.append("all heads are in closed form on one backbone and keep what they learnt: how=memory adds it up")
    lone = [c for c, knows in zip(gathering.classes, gathering.evidence.knows_MC.sum(0), strict=True) if knows == 1]
    if lone and not gathering.is_one_list:
        notes.append(f"known to one model only, so that nothing can contradict it: {', '.join(lone)}")
    return notes


def _share_memories(members: Sequence[Member]) -> bool:
    try:
        require_memories(members)
    except SettingsError:
        return False
    return True
