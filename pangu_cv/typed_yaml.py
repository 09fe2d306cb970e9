"""YAML whose words stay as they were typed.

A plain word becomes a number only where the number prints back as it was typed: ``1.10``, ``007``, ``2024_01_15``,
``12:30`` and ``true`` stay text, since plants name folders so. A setting that is a number or a truth value makes one
of them itself, one that is a text or a path takes them as they are. ``null`` stays nothing.
"""

import math
import re
from typing import Any

import yaml
from yaml.reader import ReaderError

_UNBOUNDED = {".inf": math.inf, "-.inf": -math.inf, ".nan": math.nan}  # as the resolved recipe writes them
_KEPT = (":null", ":str", ":seq", ":map", ":merge")


class TypedYamlError(ValueError):
    """Text that is no YAML, or whose mapping names a key twice."""


class _Loader(yaml.SafeLoader):
    """Knows null, text, lists, mappings and plain numbers."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Raises TypedYamlError for a key that stands twice: the first would be lost without a word."""
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and key.value in lines:
                raise TypedYamlError(f"'{key.value}' is in line {lines[key.value]} and again in line {line}; keep one")
            lines[str(key.value)] = line
        return node

    def construct_number(self, node: yaml.ScalarNode) -> float | str:
        """The number, or its text where that says more."""
        text = str(self.construct_scalar(node))
        try:
            number = _UNBOUNDED[text] if text in _UNBOUNDED else float(text) if "." in text else int(text)
        except ValueError:  # no number by an explicit tag, or one of thousands of digits
            return text
        return number if text in _UNBOUNDED or str(number) == text else text


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.endswith(_KEPT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.yaml_constructors = {
    tag: build for tag, build in yaml.SafeLoader.yaml_constructors.items() if tag is None or tag.endswith(_KEPT)
}
_NUMBER = "tag:yaml.org,2002:float"
_Loader.add_implicit_resolver(_NUMBER, re.compile(r"(?:-?[0-9]+(?:\.[0-9]+)?|-?\.inf|\.nan)\Z"), list("-.0123456789"))
for _tag in (_NUMBER, "tag:yaml.org,2002:int"):
    _Loader.add_constructor(_tag, _Loader.construct_number)


def parse_document(text: str) -> Any:
    """The value of a YAML document. Raises TypedYamlError with the place."""
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise TypedYamlError(f"is not valid YAML: {' '.join(str(error).split())}") from None


def parse_word(text: str) -> Any:
    """What stands behind ``key=``: a list, a mapping, a number, null, a quoted text, or else the text as it is.

    A file name with `` #`` in it is no comment, one in bytes that are no UTF-8 is no mistake. Raises TypedYamlError.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
    except ReaderError:
        return text
    except (yaml.YAMLError, RecursionError):
        raise TypedYamlError("the value is not valid YAML; quote it") from None
    is_quoted = isinstance(node, yaml.ScalarNode) and node.style in ("'", '"')
    is_group = isinstance(node, yaml.CollectionNode)
    if text and not is_quoted and not is_group and (node is None or node.value != text):
        return text
    return parse_document(text)
