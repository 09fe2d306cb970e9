import datetime
import math
from pathlib import Path

import pytest
import yaml

from pangu_cv import recipes
from pangu_cv.errors import SettingsError
from pangu_cv.finetune import FinetuneRecipe
from pangu_cv.models.adapt import Full, Linear, Partial
from pangu_cv.pretrain import PretrainRecipe
from pangu_cv.settings import Settings
from pangu_cv.workflows.loop import LoopRecipe

CLASSIFY = recipes.find("finetune", "classify")
POWER_LINE = recipes.find("loop", "power_line")


def refused(*overrides: str, path: Path = CLASSIFY) -> str:
    with pytest.raises(SettingsError) as caught:
        FinetuneRecipe.load(path, ["data.path=x", *overrides])
    return str(caught.value)


@pytest.mark.parametrize(
    ("override", "key", "nearest"),
    [
        ("ouput=x", "ouput", "output"),
        ("few_shot.shot=3", "few_shot.shot", "shots"),
        ("data.pth=x", "data.pth", "path"),
        ("task.fit_view=[identity]", "fit_view", "fit_views"),
        ("task.backbone.nme=x", "backbone.nme", "name"),
        ("task.preprocess.image_pixels=9", "preprocess.image_pixels", "image_px"),
        ("task.head.penalti=1", "head.penalti", "penalty"),
    ],
)
def test_misspelt_key_is_named_with_file_and_nearest(override: str, key: str, nearest: str) -> None:
    told = refused(override)
    assert told.startswith("classify.yaml: 1 problem(s)\n")
    assert f"{key}: no such key" in told
    assert f"did you mean '{nearest}'?" in told


def test_key_of_the_other_task_is_no_key_of_this_one() -> None:
    told = refused("task.bank.max_mb=3")
    assert "bank: no such key" in told
    assert "backbone" in told


def test_key_that_resembles_nothing_lists_what_is_allowed() -> None:
    assert "allowed here: seeds, shots" in refused("few_shot.zzz=1")


def test_key_is_shown_as_it_is_written() -> None:
    """Not with pydantic's tag in it: what is shown can be pasted back as an override."""
    assert "  task.backbone.nme: " in refused("task.backbone.nme=x")
    assert "  task.preprocess.image_px: " in refused("task.preprocess.image_px=wide")


def test_all_problems_are_told_at_once() -> None:
    told = refused("few_shot.shots=0", "task.backbon.name=x", "cache=perhaps", "few_shot.seeds=[]")
    assert told.startswith("classify.yaml: 4 problem(s)")
    for key in ("few_shot.shots", "backbon", "cache", "few_shot.seeds"):
        assert key in told


def test_unknown_kind_names_the_kinds() -> None:
    told = refused("task.kind=segmentation")
    assert "classify" in told
    assert "anomaly" in told


def test_missing_key_is_told() -> None:
    with pytest.raises(SettingsError, match="is required"):
        FinetuneRecipe.load(CLASSIFY)


def test_overrides_are_yaml() -> None:
    recipe = FinetuneRecipe.load(
        CLASSIFY,
        ["data.path=a b/ä", "few_shot.shots=null", "few_shot.seeds=[3, 1]", "task.head.penalty=1e-2", "cache=false"],
    )
    assert recipe.data.path == Path("a b/ä")
    assert recipe.few_shot.shots is None
    assert recipe.few_shot.seeds == (3, 1)
    assert recipe.task.head.penalty == 0.01  # type: ignore[union-attr]
    assert recipe.cache is False


def test_value_may_hold_an_equals_sign() -> None:
    assert FinetuneRecipe.load(CLASSIFY, ["data.path=a=b"]).data.path == Path("a=b")


def test_later_override_wins() -> None:
    assert FinetuneRecipe.load(CLASSIFY, ["data.path=x", "few_shot.shots=1", "few_shot.shots=2"]).few_shot.shots == 2


NAMES = ["2024", "2024-05-01", "1e3", "yes", "20240115_0830", "2024_01_15", "1.10", "007", "12:30", "0x10", "0b1"]
NAMES += ["1.5", "+5", "-0", "1_0.5", "true", "=", "1.0e+3", "190:20:30.15", "9" * 30, "1." + "0" * 30]


@pytest.mark.parametrize("name", NAMES)
def test_folder_named_like_another_yaml_value_is_a_path(name: str, tmp_path: Path) -> None:
    """Plants name folders by date."""
    recipe = FinetuneRecipe.load(CLASSIFY, [f"data.path={name}", f"data.licence={name}", f"task.backbone.name={name}"])
    assert recipe.data.path == Path(name)
    assert recipe.data.licence == recipe.task.backbone.name == name
    path = tmp_path / "r.yaml"
    path.write_text(f"task: {{kind: classify}}\ndata:\n  path: {name}\n  licence: {name}\n")
    assert FinetuneRecipe.load(path).data == recipe.data


@pytest.mark.parametrize(
    "name", ["my images #2", "#2", "a\nb", " a ", "&x a", "|", "--- a", "\udcd6\udcd0", "\U0001f600"]
)
def test_text_of_an_override_is_taken_as_it_is_typed(name: str, tmp_path: Path) -> None:
    """What YAML takes for a comment, an anchor or no text at all, and a name in bytes that are no UTF-8."""
    recipe = FinetuneRecipe.load(CLASSIFY, [f"data.path={name}", "few_shot.seeds=[0, 1]  # two"])
    assert recipe.data.path == Path(name)
    assert recipe.few_shot.seeds == (0, 1)
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml(), encoding="utf-8")
    assert FinetuneRecipe.load(path) == recipe


def test_value_may_be_given_as_it_is() -> None:
    recipe = FinetuneRecipe.load(
        CLASSIFY, [("data.path", Path("[a] #1: b")), ("few_shot", {"shots": 3}), "cache=false"]
    )
    assert (recipe.data.path, recipe.few_shot.shots, recipe.cache) == (Path("[a] #1: b"), 3, False)


@pytest.mark.parametrize("value", ["1:30", "true", "0x_", "0x10", "1.5", "!!int 0x_"])
def test_what_is_no_whole_number_is_refused(value: str) -> None:
    assert "few_shot.shots: input should be a valid integer" in refused(f"few_shot.shots={value}")


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", "0.00010", ".0001"])
def test_numbers_may_be_written_in_many_ways(text: str) -> None:
    lines = ["data.path=x", f"task.head.penalty={text}", f"task.backbone.arguments={{a: {text}, b: 2, c: true}}"]
    task = FinetuneRecipe.load(CLASSIFY, lines).task
    assert task.head.penalty == 0.0001  # type: ignore[union-attr]
    assert task.backbone.arguments == {"a": 0.0001, "b": 2, "c": True}


@pytest.mark.parametrize("name", ["20240115", "1.5", "1.10"])
def test_number_is_a_path_where_a_plain_path_stands_for_a_group(name: str) -> None:
    pretraining = PretrainRecipe.load(recipes.find("pretrain", "joint"), [f"data={name}", f"targets=[{name}]"])
    assert [one.path for one in (*pretraining.data, *pretraining.targets)] == [Path(name), Path(name)]
    oracle = LoopRecipe.load(POWER_LINE, ["images=x", "classes=[a, b]", f"oracle={name}"]).oracle
    assert oracle is not None
    assert oracle.path == Path(name)


def test_numbers_are_names_of_classes_too() -> None:
    assert LoopRecipe.load(POWER_LINE, ["images=x", "classes=[0, 007, 1.10]"]).classes == ("0", "007", "1.10")


def test_unbounded_number_reads_back(tmp_path: Path) -> None:
    class Group(Settings):
        seconds: float

    path = tmp_path / "r.yaml"
    path.write_text(Group(seconds=math.inf).to_yaml())
    assert Group.load(path).seconds == Group.load(path, ["seconds=inf"]).seconds == math.inf


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("nothing", "expected key=value"),
        ("=3", "expected key=value"),
        ("few_shot.shots=[", "not valid YAML"),
        ("few_shot={shots: 1, shots: 2}", "'shots' is in line 1 and again in line 1; keep one"),
        (f"few_shot.shots={'[' * 5000}", "not valid YAML"),
        ("cache.deep=1", None),
        ("task.kind.deep=1", "is a value, not a group"),
    ],
)
def test_malformed_override_is_told(override: str, told: str | None) -> None:
    found = refused(override)
    assert told is None or (told in found and f"override '{override}'" in found)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [", "is not valid YAML"),
        ("- 1\n- 2\n", "found list"),
        ("", "found NoneType"),
        ("just words", "found str"),
        ("!!python/object/apply:os.system [echo]", "is not valid YAML"),
        ("data: !!timestamp 2024-99-99", "is not valid YAML"),
        ("data: {path: a}\nseed: 1\ndata: {path: b}", "'data' is in line 1 and again in line 3; keep one"),
    ],
)
def test_file_that_is_no_recipe_is_told(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    assert told in refused(path=path)


def test_merged_mapping_may_give_a_key_anew(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("task: {kind: classify}\ndata: &own {path: a, licence: MIT}\nunlabelled: {<<: *own, path: b}\n")
    unlabelled = FinetuneRecipe.load(path).unlabelled
    assert unlabelled is not None
    assert (unlabelled.path, unlabelled.licence) == (Path("b"), "MIT")


def test_missing_file_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "classify.yaml").touch()
    assert "nearest is" in refused(path=tmp_path / "clasify.yaml")
    assert "does not exist either" in refused(path=tmp_path / "no" / "r.yaml")
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    assert "is not text" in refused(path=tmp_path / "binary.yaml")


@pytest.mark.parametrize("name", ["classify", "anomaly"])
def test_resolved_recipe_reads_back_equal(name: str, tmp_path: Path) -> None:
    recipe = FinetuneRecipe.load(recipes.find("finetune", name), ["data.path=x", "few_shot.seeds=[4]", "output=o"])
    path = tmp_path / "recipe.yaml"
    path.write_text(recipe.to_yaml())
    assert FinetuneRecipe.load(path) == recipe
    assert yaml.safe_load(path.read_text())["task"]["backbone"]["levels"]


def test_settings_cannot_be_changed_and_defaults_are_checked() -> None:
    class Group(Settings):
        when: datetime.date = "not a date"  # type: ignore[assignment]

    with pytest.raises(SettingsError, match="when"):
        Group.parse({}, origin="here")
    recipe = FinetuneRecipe.load(CLASSIFY, ["data.path=x"])
    with pytest.raises(ValueError, match="frozen"):
        recipe.cache = False  # type: ignore[misc]


def test_every_setting_of_the_recipes_is_documented() -> None:
    def fields(cls: type[Settings]) -> list[str]:
        return [f"{cls.__name__}.{name}" for name, field in cls.model_fields.items() if not field.description]

    def groups(cls: type[Settings]) -> set[type[Settings]]:
        found = {cls}
        for field in cls.model_fields.values():
            for part in getattr(field.annotation, "__args__", (field.annotation,)):
                if isinstance(part, type) and issubclass(part, Settings):
                    found |= groups(part)
        return found

    assert len(groups(FinetuneRecipe)) > 6
    assert [name for group in groups(FinetuneRecipe) for name in fields(group)] == []


def test_another_kind_leaves_what_only_the_old_one_knows(tmp_path: Path) -> None:
    path = tmp_path / "adapt.yaml"
    path.write_text("task: {kind: classify}\ndata: {path: a}\nadapt: {kind: auto, seconds: 24, folds: 3}\n")
    assert FinetuneRecipe.load(path, ["adapt.kind=linear"]).adapt == Linear()
    assert FinetuneRecipe.load(path, ["adapt.blocks=3", "adapt.kind=partial"]).adapt == Partial(blocks=3)
    with pytest.raises(SettingsError, match=r"adapt\.folds: no such key"):  # typed, so meant
        FinetuneRecipe.load(path, ["adapt.kind=linear", "adapt.folds=2"])
    path.write_text("task: {kind: classify}\ndata: {path: a}\nadapt: {kind: linear, folds: 3}\n")
    with pytest.raises(SettingsError, match=r"adapt\.folds: no such key"):  # a slip in the file is told
        FinetuneRecipe.load(path, ["adapt.kind=linear"])


def test_what_both_kinds_know_stays(tmp_path: Path) -> None:
    path = tmp_path / "adapt.yaml"
    path.write_text("task: {kind: classify}\ndata: {path: a}\nadapt: {kind: partial, blocks: 2, l2_sp: 0.01}\n")
    assert FinetuneRecipe.load(path, ["adapt.kind=full"]).adapt == Full(l2_sp=0.01)
