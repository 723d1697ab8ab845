"""What data sets say of their tools, as `Tool`s whose parameters are JSON Schema (draft 2020-12)."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from callwright import Tool
from callwright.types import JSON
from callwright_dialects.python_syntax import parse_expression

from callwright_data._literals import node_value

_TYPES = ("array", "boolean", "integer", "null", "number", "object", "string")
_OTHER_NAMES = {
    # BFCL: Python, Java and JavaScript
    **{"dict": "object", "HashMap": "object", "Hashtable": "object"},
    **{"float": "number", "double": "number", "byte": "integer", "short": "integer", "long": "integer"},
    **{"Bigint": "integer", "Boolean": "boolean", "String": "string", "char": "string"},
    **{"tuple": "array", "Array": "array", "ArrayList": "array", "Queue": "array", "Stack": "array"},
    # Python's own
    **{"str": "string", "int": "integer", "bool": "boolean", "list": "array", "None": "null", "NoneType": "null"},
    **{"List": "array", "Sequence": "array", "Iterable": "array", "Collection": "array", "ndarray": "array"},
    **{"set": "array", "Set": "array", "frozenset": "array", "FrozenSet": "array", "Tuple": "array"},
    **{"Dict": "object", "Mapping": "object", "bytes": "string", "datetime": "string", "date": "string"},
    # What is no JSON value is called by a text, such as "lambda x: x ** 2"
    **{"Callable": "string", "callable": "string"},
}
_ANY = ("any", "Any", "")
_OPTIONAL = re.compile(r"\s*[,(]\s*(?:optional|default)\b(?!\[).*\Z", re.IGNORECASE | re.DOTALL)
_NUMBER, _COUNT = "a number", "a whole number, at least 0"
_PLAIN = {
    **dict.fromkeys(("description", "title", "format", "pattern", "$ref", "$id", "$comment"), "a text"),
    **dict.fromkeys(("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), _NUMBER),
    **dict.fromkeys(("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"), _COUNT),
    **{"enum": "a list of values", "uniqueItems": "true or false"},
}
_CHECKS: dict[str, Callable[[JSON], bool]] = {
    "a text": lambda value: isinstance(value, str),
    _NUMBER: lambda value: type(value) is int or (type(value) is float and math.isfinite(value)),
    _COUNT: lambda value: type(value) is int and value >= 0,
    "a list of values": lambda value: isinstance(value, list),
    "true or false": lambda value: isinstance(value, bool),
}
_ONE, _MANY = ("items", "additionalProperties", "not", "contains", "propertyNames"), ("anyOf", "oneOf", "allOf")
_NAMED = ("properties", "patternProperties", "$defs", "definitions")


class NoSchema(ValueError):
    """A description of a tool that cannot be read; `place` says where in it, such as `parameters.properties.city`."""

    def __init__(self, place: str, message: str) -> None:
        super().__init__(message)
        self.place = place


def tool(described: JSON, parameters: Callable[[JSON, str], dict[str, JSON]] | None = None) -> Tool:
    """`{"name", "description", "parameters"}`, also inside OpenAI's `{"type": "function", "function": ...}`.

    parameters: how the parameters are described; `parameters_schema` by default. Raises `NoSchema`.
    """
    if not isinstance(described, Mapping):
        raise NoSchema("", f"should be an object, not {_short(described)}")
    kind, inside = described.get("type", "function"), ""
    if isinstance(described.get("function"), Mapping):
        described, inside = described["function"], "function."
    elif kind != "function" and "parameters" not in described:
        raise NoSchema("type", f"a tool of type {_short(kind)} has no parameters that a schema describes")
    name, description = described.get("name"), described.get("description")
    if not isinstance(name, str):
        raise NoSchema(f"{inside}name", f"should be a text, not {_short(name)}")
    if not isinstance(description, str | None):
        raise NoSchema(f"{inside}description", f"should be a text, not {_short(description)}")
    place = f"{inside}parameters"
    return Tool(name, description or "", (parameters or parameters_schema)(described.get("parameters"), place))


def parameters_schema(schema: JSON, place: str = "parameters") -> dict[str, JSON]:
    """A tool's parameters: an object schema; nothing at all means that there are none. Raises `NoSchema`."""
    if schema is None or schema == {}:
        return {"type": "object", "properties": {}}
    result = json_schema(schema, place)
    if result.setdefault("type", "object") != "object":
        raise NoSchema(f"{place}.type", f"should be 'object', not {_short(result['type'])}")
    return result


def xlam_parameters(parameters: JSON, place: str = "parameters") -> dict[str, JSON]:
    """xLAM's parameters, `{name: {"type": "List[int], optional", "description", "default"}}` with Python's types.

    A parameter is optional if its type says so or if it has a default. Rows of later data sets in this format have
    JSON Schema instead, and are read as such. Raises `NoSchema`.
    """
    if parameters is None:
        parameters = {}
    if not isinstance(parameters, Mapping):
        raise NoSchema(place, f"should be an object, not {_short(parameters)}")
    if isinstance(parameters.get("type"), str) and isinstance(parameters.get("properties", {}), Mapping):
        return parameters_schema(parameters, place)
    properties: dict[str, JSON] = {}
    required: list[str] = []
    for name, described in parameters.items():
        if not isinstance(described, Mapping):
            raise NoSchema(f"{place}.{name}", f"should be an object, not {_short(described)}")
        schema = dict(described)
        says = schema.pop("required") if isinstance(schema.get("required"), bool) else None
        properties[name] = json_schema(schema, f"{place}.{name}")
        if says is None:
            says = not (_is_optional(schema.get("type")) or "default" in schema)
        if says:
            required.append(name)
    return {"type": "object", "properties": properties, **({"required": required} if required else {})}


def _is_optional(kind: JSON) -> bool:
    return isinstance(kind, str) and (_OPTIONAL.search(kind) is not None or kind.lstrip().startswith("Optional["))


def json_schema(schema: JSON, place: str = "") -> dict[str, JSON]:
    """A description of a value as JSON Schema. Raises `NoSchema` for what is none.

    Names of types that BFCL (`dict`, `float`, `tuple`, `any`, Java's and JavaScript's) and Python use become JSON
    Schema's; `required: true` inside a property goes to the list of its object; keywords that are null are left out,
    but for a default.
    """
    if isinstance(schema, bool):
        return {} if schema else {"not": {}}
    if not isinstance(schema, Mapping):
        raise NoSchema(place, f"should be a JSON Schema, not {_short(schema)}")
    result: dict[str, JSON] = {}
    for name, value in schema.items():
        if not isinstance(name, str):
            raise NoSchema(place, f"the keyword {_short(name)} is no text")
        if value is not None or name in ("default", "const"):
            said = _keyword(name, value, f"{place}.{name}".lstrip("."))
            result.update((key, part) for key, part in said.items() if key == name or key not in schema)
    flagged = [name for name, inner in _mapping(schema.get("properties")) if _mapping_get(inner, "required") is True]
    missing = [name for name in flagged if name not in result.get("required", ())]
    if missing:
        result["required"] = [*result.get("required", ()), *missing]
    return result


def _keyword(name: str, value: JSON, place: str) -> dict[str, JSON]:
    """The keyword as JSON Schema: none for a type that says nothing, several for a type that says more than one."""
    if name == "type":
        return _type(value, place)
    if name == "required":
        return {} if isinstance(value, bool) else {name: _names(value, place)}
    if name in _NAMED:
        if not isinstance(value, Mapping):
            raise NoSchema(place, f"should be an object, not {_short(value)}")
        return {name: {key: json_schema(inner, f"{place}.{key}") for key, inner in value.items()}}
    if name in _MANY or name == "prefixItems" or (name == "items" and isinstance(value, list)):
        if not isinstance(value, list) or not value:
            raise NoSchema(place, f"should be a list of JSON Schemas, not {_short(value)}")
        kept = "prefixItems" if name == "items" else name  # its name before draft 2020-12
        return {kept: [json_schema(inner, f"{place}[{index}]") for index, inner in enumerate(value)]}
    if name in _ONE:
        keep = name == "additionalProperties" and isinstance(value, bool)
        return {name: value if keep else json_schema(value, place)}
    if name in _PLAIN and not _CHECKS[_PLAIN[name]](value):
        raise NoSchema(place, f"should be {_PLAIN[name]}, not {_short(value)}")
    return {name: value}


def _type(kind: JSON, place: str) -> dict[str, JSON]:
    if isinstance(kind, list) and kind and all(isinstance(one, str) for one in kind):
        kinds = [_type(one, place) for one in kind]
        return {} if {} in kinds else _union(kinds)
    if not isinstance(kind, str):
        raise NoSchema(place, f"should be the name of a type, not {_short(kind)}")
    if kind in _TYPES:
        return {"type": kind}
    try:
        return python_type(kind)
    except ValueError as error:
        raise NoSchema(place, str(error)) from None


@lru_cache(maxsize=4096)
def python_type(text: str) -> dict[str, JSON]:
    """A type in Python's notation, such as `Dict[str, List[int]]`, as JSON Schema. Raises ValueError for others.

    What follows a type, as in `int, optional`, is passed over. A `Callable` is a text, since JSON has no functions.
    The result is shared: it is not to be changed.
    """
    node = parse_expression(_OPTIONAL.sub("", text).strip() or "Any")
    try:
        if node is not None:
            return _annotation(node)
    except (ValueError, RecursionError):
        pass
    raise ValueError(f"{_short(text)} is no type of JSON Schema's or Python's")


def _annotation(node: ast.expr) -> dict[str, JSON]:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _union([_annotation(node.left), _annotation(node.right)])
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return _generic(_name(node.value), inner)
    if isinstance(node, ast.Constant) and isinstance(node.value, str):  # a forward reference
        return python_type(node.value)
    name = "None" if isinstance(node, ast.Constant) and node.value is None else _name(node)
    if name in _ANY or name == "object":
        return {"type": "object"} if name == "object" else {}
    kind = _OTHER_NAMES.get(name) or (name.lower() if name.lower() in _TYPES else None)
    if kind is None:
        raise ValueError(name)
    return {"type": kind, **({"uniqueItems": True} if "set" in name.lower() else {})}


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):  # typing.List, np.ndarray
        return node.attr
    if isinstance(node, ast.Name):
        return node.id
    raise ValueError("no name")


def _generic(name: str, inner: list[ast.expr]) -> dict[str, JSON]:
    if name == "Literal":
        return {"enum": [node_value(one) for one in inner]}
    if name in ("Optional", "Union"):
        return _union([*map(_annotation, inner), *([{"type": "null"}] if name == "Optional" else [])])
    result = _annotation(ast.Name(name))
    if result.get("type") == "object" and len(inner) == 2:
        values = _annotation(inner[1])
        return {**result, **({"additionalProperties": values} if values else {})}
    if result.get("type") != "array":
        return result
    if name in ("tuple", "Tuple"):
        if isinstance(inner[-1], ast.Constant) and inner[-1].value is ...:
            return {**result, "items": _annotation(inner[0])}
        parts = [_annotation(one) for one in inner]
        same = all(part == parts[0] for part in parts)
        return {
            **result,
            **({"items": parts[0]} if same else {"prefixItems": parts}),
            **{"minItems": len(parts), "maxItems": len(parts)},
        }
    items = _annotation(inner[0])
    return {**result, **({"items": items} if items else {})}


def _union(parts: list[dict[str, JSON]]) -> dict[str, JSON]:
    """One of several: a list of types where that says it all. A union with a type that may be anything is anything."""
    if {} in parts:
        return {}
    if all(set(part) == {"type"} for part in parts):
        kinds = [
            kind for part in parts for kind in (part["type"] if isinstance(part["type"], list) else [part["type"]])
        ]
        kinds = list(dict.fromkeys(kinds))
        return {"type": kinds[0] if len(kinds) == 1 else kinds}
    return {"anyOf": parts}


def _names(value: JSON, place: str) -> list[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise NoSchema(place, f"should be a list of names, not {_short(value)}")
    return list(dict.fromkeys(value))


def _mapping(value: JSON) -> list[tuple[str, JSON]]:
    return list(value.items()) if isinstance(value, Mapping) else []


def _mapping_get(value: JSON, key: str) -> JSON:
    return value.get(key) if isinstance(value, Mapping) else None


def _short(value: JSON) -> str:
    return repr(value)[:80]
