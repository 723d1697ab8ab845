"""The types of Python and its `typing` as JSON Schema.

As pydantic has them (https://docs.pydantic.dev/latest/api/standard_library_types/), and by the bare names that
`PythonModule.resolve` gives.
"""

from __future__ import annotations

from collections.abc import Mapping

from callwright.types import JSON

PLAIN: Mapping[str, dict[str, JSON]] = {
    "str": {"type": "string"},
    "LiteralString": {"type": "string"},
    "Text": {"type": "string"},
    "int": {"type": "integer"},
    "float": {"type": "number"},
    "bool": {"type": "boolean"},
    "None": {"type": "null"},
    "NoneType": {"type": "null"},
    "Any": {},
    "object": {},
    "bytes": {"type": "string", "format": "binary"},
    "datetime.datetime": {"type": "string", "format": "date-time"},
    "datetime.date": {"type": "string", "format": "date"},
    "datetime.time": {"type": "string", "format": "time"},
    "datetime.timedelta": {"type": "string", "format": "duration"},
    "uuid.UUID": {"type": "string", "format": "uuid"},
    "pathlib.Path": {"type": "string", "format": "path"},
}
_ARRAY, _SET = {"type": "array"}, {"type": "array", "uniqueItems": True}
COLLECTIONS: Mapping[str, dict[str, JSON]] = {
    **dict.fromkeys(
        ("list", "List", "Sequence", "MutableSequence", "Collection", "Iterable", "deque", "Deque"), _ARRAY
    ),
    **dict.fromkeys(("set", "Set", "frozenset", "FrozenSet", "AbstractSet", "MutableSet"), _SET),
}
TUPLES = frozenset(("tuple", "Tuple"))
DICTS = frozenset(("dict", "Dict", "Mapping", "MutableMapping", "OrderedDict", "defaultdict", "DefaultDict"))
FORMS = frozenset(("Optional", "Union", "Literal", "Annotated"))
KNOWN = (*PLAIN, *COLLECTIONS, *sorted(TUPLES | DICTS | FORMS))
