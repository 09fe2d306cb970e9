"""The one base of all settings, and the one loader of recipes: YAML, then ``key=value``, then validation.

Settings are pydantic classes that sit beside what they build. They are strict (unknown keys are errors), frozen, and
the docstring under a field is its only help text.
"""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Self, Union, get_args, get_origin

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from pangu_cv.errors import SettingsError
from pangu_cv.typed_yaml import TypedYamlError, parse_document, parse_word

# Folders are often named by date or number; such a number prints back as it was typed.
PathSetting = Annotated[Path, BeforeValidator(lambda value: str(value) if type(value) in (int, float) else value)]


def _rising(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError(f"the lower bound comes first, found {list(pair)}")
    return pair


Rising = AfterValidator(_rising)
"""Of a pair: its first number is no larger than its second."""


class Settings(BaseModel):
    """A strict, frozen group of settings."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        use_attribute_docstrings=True,
        validate_default=True,
        coerce_numbers_to_str=True,  # a class may be called 7
    )

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str | tuple[str, Any]] = ()) -> Self:
        """Read a YAML recipe, apply overrides and validate.

        An override is ``a.b=value`` as in the shell (lists and mappings are YAML), or a pair of ``a.b`` and the value
        itself. Where one changes the ``kind`` of a group, keys of the file that only the old kind has go with it.
        Raises ``SettingsError`` naming every wrong key at once, with the nearest allowed one.
        """
        tree = read_yaml(path)
        typed = [_typed(one) if isinstance(one, str) else one for one in overrides]
        changed = {key.removesuffix(".kind") for key, value in typed if _is_other_kind(tree, key, value)}
        for key, value in typed:
            _apply(tree, key, value)
        _leave_old_kinds(cls, tree, changed, {key for key, _ in typed})
        return cls.parse(tree, origin=path.name)

    @classmethod
    def parse(cls, tree: dict[str, Any], *, origin: str) -> Self:
        """Validate a plain tree; ``origin`` (a file name) opens the error text."""
        try:
            return cls.model_validate(tree)
        except ValidationError as error:
            lines = [_readable(cls, problem) for problem in error.errors()]
            raise SettingsError(
                f"{origin}: {len(lines)} problem(s)\n" + "\n".join(f"  {line}" for line in lines)
            ) from None

    def to_yaml(self) -> str:
        """The resolved settings as YAML that ``load`` reads back to an equal object."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """A recipe as it stands; raises SettingsError for what is no YAML of keys and values."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise SettingsError(f"recipe '{path}' does not exist or cannot be read{nearest_path(path)}") from None
    except UnicodeDecodeError:
        raise SettingsError(f"{path}: is not text; a recipe is a YAML file") from None
    try:
        tree = parse_document(text)
    except TypedYamlError as error:
        raise SettingsError(f"{path}: {error}") from None
    if not isinstance(tree, dict):
        raise SettingsError(f"{path}: a recipe is a mapping of keys to values, found {type(tree).__name__}")
    return tree


def _typed(override: str) -> tuple[str, Any]:
    """Key and value of an override as it was typed."""
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise SettingsError(f"override '{override}': expected key=value, for example few_shot.shots=5")
    try:
        return key, parse_word(text)
    except TypedYamlError as error:
        raise SettingsError(f"override '{override}': {error}") from None


def _apply(tree: dict[str, Any], key: str, value: Any) -> None:
    *parents, leaf = key.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise SettingsError(f"override '{key}={value}': '{parent}' is a value, not a group of settings")
        tree = child
    tree[leaf] = value


def _is_other_kind(tree: dict[str, Any], key: str, value: Any) -> bool:
    *parents, leaf = key.split(".")
    group: Any = tree
    for parent in parents:
        group = group.get(parent) if isinstance(group, dict) else None
    return leaf == "kind" and isinstance(group, dict) and group.get("kind", value) != value


def _leave_old_kinds(cls: type[BaseModel], tree: dict[str, Any], changed: set[str], typed: set[str]) -> None:
    """Of groups whose kind was changed, what the new kind does not know and nobody typed."""
    try:
        cls.model_validate(tree)
    except ValidationError as error:
        for problem in error.errors():
            parts = _without_tags(cls, [str(part) for part in problem["loc"]])
            key, group = ".".join(parts), ".".join(parts[:-1])
            if problem["type"] == "extra_forbidden" and group in changed and key not in typed:
                at = tree
                for part in parts[:-1]:
                    at = at[part]
                del at[parts[-1]]


def _readable(cls: type[BaseModel], problem: Any) -> str:
    location = [str(part) for part in problem["loc"]]
    key = ".".join(_without_tags(cls, location))
    match problem["type"]:
        case "extra_forbidden":
            allowed = sorted(set(_allowed_keys(cls, location[:-1])))
            close = difflib.get_close_matches(location[-1], allowed, n=1, cutoff=0.5)
            hint = f"did you mean '{close[0]}'?" if close else f"allowed here: {', '.join(allowed)}"
            return f"{key}: no such key (got {problem['input']!r}); {hint}"
        case "missing":
            group = _annotation_at(cls, location)
            inner = [n for n, f in group.model_fields.items() if f.is_required()] if _is_settings(group) else []
            key = ".".join([key, *inner[:1]])
            return f"{key}: is required; give it as {key}=..."
        case _:
            return f"{key}: {problem['msg'][:1].lower()}{problem['msg'][1:]} (got {problem['input']!r})"


def _allowed_keys(annotation: Any, location: Sequence[str]) -> Iterator[str]:
    """Field names of the settings class at ``location``; a union tag in the location selects its member."""
    if get_origin(annotation) in (Union, UnionType):
        members = [m for m in get_args(annotation) if isinstance(m, type) and issubclass(m, BaseModel)]
        tagged = [m for m in members if location and _tag(m) == location[0]]
        for member in tagged or members:
            yield from _allowed_keys(member, location[1:] if tagged else location)
    elif isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not location:
            yield from annotation.model_fields
        elif location[0] in annotation.model_fields:
            yield from _allowed_keys(annotation.model_fields[location[0]].annotation, location[1:])


def _without_tags(annotation: Any, location: Sequence[str]) -> list[str]:
    """The keys as a user writes them: pydantic puts the tag of a union's member among them."""
    if not location:
        return []
    members = [m for m in get_args(annotation) if _is_settings(m)]
    tagged = [m for m in members if _tag(m) == location[0]]
    if tagged:
        return _without_tags(tagged[0], location[1:])
    return [location[0], *_without_tags(_annotation_at(annotation, location[:1]), location[1:])]


def _annotation_at(annotation: Any, location: Sequence[str]) -> Any:
    for key in location:
        fields = annotation.model_fields if _is_settings(annotation) else {}
        annotation = fields[key].annotation if key in fields else None
    return annotation


def _is_settings(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tag(member: type[BaseModel]) -> str | None:
    kind = member.model_fields.get("kind")
    return None if kind is None else str(kind.default)


def nearest_path(path: Path) -> str:
    """``"; nearest is 'data/raw'"`` for a path that does not exist, or an empty string."""
    parent = path.parent
    if not parent.is_dir():
        return f"; '{parent}' does not exist either"
    close = difflib.get_close_matches(path.name, sorted(entry.name for entry in parent.iterdir()), n=1)
    return f"; nearest is '{parent / close[0]}'" if close else ""
