"""YAML files as nodes, which keep their lines and their texts as they are written; alone imports yaml.

Values count as they are written: `off` is the text "off" where a text is meant, quoted or not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import yaml

from latentserve_server.errors import ConfigError

Node: TypeAlias = yaml.Node

_NULL = "tag:yaml.org,2002:null"


def compose(data: bytes, path: str) -> Node | None:
    """The root of a document; None of an empty one. `path` is for messages.

    Raises:
        ConfigError: it is no YAML; says where.
    """
    try:
        root: Node | None = yaml.compose(data, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{path}:{line}: no YAML: {error.problem or error.context}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: no YAML: {' '.join(str(error).split())}") from error
    return root


def line_of(node: Node) -> int:
    """The line where it begins, from 1 on."""
    return int(node.start_mark.line) + 1


def text_of(node: Node) -> str | None:
    """The text of one value; None of a list or a mapping."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    return "" if node.tag == _NULL else str(node.value)


def items_of(node: Node) -> Sequence[Node] | None:
    """The entries of a list; None of anything else."""
    return node.value if isinstance(node, yaml.SequenceNode) else None


def pairs_of(node: Node) -> Iterator[tuple[str | None, int, Node]] | None:
    """Key, line and value of the entries of a mapping, a key that is no text as None; None of anything else."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return ((text_of(key), line_of(key), value) for key, value in node.value)


def write(value: Mapping[str, Any] | Sequence[Any]) -> str:
    """The text of a mapping or a list, each entry on lines of its own."""
    return yaml.safe_dump(value, width=2**31, sort_keys=False)
