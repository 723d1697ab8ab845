"""JSON Schemas that refer to each other, and one schema made of them."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from callwright.types import JSON

Schema = dict[str, JSON]


class Reference(Schema):
    """A `$ref` by bare name, told apart from a default or an example that looks like one."""


def adding(schema: Schema, keywords: Mapping[str, JSON]) -> Schema:
    """A schema and more keywords; a reference stays one."""
    result = copy.copy(schema)
    result.update(keywords)
    return result


def closed(schema: Schema, definitions: Mapping[str, Schema]) -> Schema:
    """A copy with what it refers to: in place, or under `$defs` if that is referred to more than once.

    A schema that holds itself is referred to from outside and from inside, so expanding comes to an end; and nothing is
    written twice, so the result grows no faster than what it is made of.
    """
    uses: Counter[str] = Counter()
    reached = [schema]
    for node in reached:
        for name in _references(node):
            uses[name] += 1
            if uses[name] == 1:
                reached.append(definitions[name])
    shared = [name for name in uses if uses[name] > 1]
    result: Schema = _expanded(schema, definitions, shared)
    if shared:
        result["$defs"] = {name: _expanded(definitions[name], definitions, shared) for name in shared}
    return result


def _references(node: JSON) -> Iterator[str]:
    if isinstance(node, Reference):
        yield node["$ref"]
    for inner in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _references(inner)


def _expanded(node: JSON, definitions: Mapping[str, Schema], shared: Sequence[str]) -> JSON:
    if isinstance(node, list):
        return [_expanded(item, definitions, shared) for item in node]
    if not isinstance(node, dict):
        return node
    inner = {name: _expanded(value, definitions, shared) for name, value in node.items()}
    if isinstance(node, Reference):
        name = inner.pop("$ref")
        here = {"$ref": f"#/$defs/{name}"} if name in shared else _expanded(definitions[name], definitions, shared)
        return {**here, **inner}
    return inner
