"""Tools that resemble a row's own without doing what it asks for."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from callwright import Tool
from callwright.types import JSON

from callwright_data.stages._row_keys import words

MOST_TOOLS = 20_000
"""Different tools of a data set that are remembered, the first ones."""
NEAREST = 64
"""Look-alikes that are kept of a tool."""
COMMON = 0.05
"""Words that more than this share of all tools have (and more than `FEW` tools) say nothing of a tool."""
FEW = 10
STEM = 5
"""Letters of a word that count, so that `calculates` is `calculator`. Too much may count as equal: that only leaves out
tools that would have done."""
_NAME = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_INSIDE_A_NAME = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_.]")


def folded(name: str) -> str:
    """The same for names that a format, or a reader, may take for one: `math.gcd`, `math_gcd`, `Math-GCD`."""
    return re.sub(r"\W", "_", name).casefold()


def stems(text: str) -> frozenset[str]:
    """Beginnings of the words of three letters and more; a name counts as its parts."""
    return frozenset(word[:STEM] for word in words(_INSIDE_A_NAME.sub(" ", text)) if len(word) > 2)


def is_plain(tool: Tool) -> bool:
    """Whether a tool may be shown in another row: an ordinary name, and a schema of named parameters."""
    if not isinstance(tool.name, str) or not _NAME.fullmatch(tool.name) or not isinstance(tool.description, str):
        return False
    if not isinstance(tool.parameters, Mapping):
        return False
    properties, required = tool.parameters.get("properties", {}), tool.parameters.get("required", [])
    return (
        isinstance(properties, Mapping)
        and all(isinstance(name, str) and isinstance(schema, Mapping) for name, schema in properties.items())
        and isinstance(required, list)
        and all(isinstance(name, str) for name in required)
    )


@dataclass(frozen=True, slots=True)
class _Known:
    tool: Tool
    folded: str
    name: frozenset[str]
    all: frozenset[str]
    """Stems of name and description."""


@dataclass
class LookAlikes:
    """The tools of a data set by their words. Of several with one name, the first counts."""

    tools: Iterable[Tool]
    _known: list[_Known] = field(init=False)
    _having: dict[str, list[int]] = field(init=False)
    _rarity: dict[str, float] = field(init=False)
    _nearest: dict[str, list[_Known]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        first: dict[str, Tool] = {}
        for tool in self.tools:
            if len(first) < MOST_TOOLS and is_plain(tool):
                first.setdefault(folded(tool.name), tool)
        self.tools = ()
        self._known = [_known(tool) for tool in first.values()]
        self._having = {}
        for number, known in enumerate(self._known):
            for stem in sorted(known.all):
                self._having.setdefault(stem, []).append(number)
        count = 1 + len(self._known)
        self._rarity = {stem: math.log(count / (1 + len(having))) for stem, having in self._having.items()}

    def like(self, tool: Tool) -> list[Tool]:
        """Tools of other names that share words with this one, the likest first, at most `NEAREST`."""
        return [known.tool for known in self._like(tool)]

    def beside(self, own: Iterable[Tool], called: Iterable[Tool], question: str) -> Iterator[Tool]:
        """Tools for a row, those first that are likest to one of its `own`, none of which does what it asks for.

        Of what a called tool does, the question names something: the rarest word that both have. A tool that has it too
        is left out. Where no tool is called, all that share a word with the question are.
        """
        asked = stems(question)
        keys = {self._key(_known(tool), asked) for tool in called}
        own = list(own)
        taken = {folded(tool.name) for tool in own if isinstance(tool.name, str)}
        nearest = [self._like(tool) for tool in own if is_plain(tool)]
        for known in (one for rank in itertools.zip_longest(*nearest) for one in rank if one is not None):
            does_it = known.all & keys if keys else self._telling(known.all & asked)
            if not does_it and known.folded not in taken:
                taken.add(known.folded)
                yield known.tool

    def _like(self, tool: Tool) -> list[_Known]:
        name = folded(tool.name)
        if name not in self._nearest:
            this, scores = _known(tool), dict[int, float]()
            for stem in sorted(self._telling(this.all)):
                weight = self._rarity.get(stem, 0.0)
                for number in self._having.get(stem, ()):
                    twice = stem in this.name and stem in self._known[number].name
                    scores[number] = scores.get(number, 0.0) + (2 * weight if twice else weight)
            ranked = sorted(scores, key=lambda number: (-scores[number], number))[: NEAREST + 1]
            self._nearest[name] = [self._known[n] for n in ranked if self._known[n].folded != name]
        return self._nearest[name]

    def _key(self, called: _Known, asked: frozenset[str]) -> str:
        """What stands for what the called tool does: a word that the question uses too, if there is one."""
        found = self._telling(called.name & asked) or self._telling(called.all & asked) or called.name
        return max(sorted(found), key=lambda stem: self._rarity.get(stem, 0.0), default="")

    def _telling(self, found: frozenset[str]) -> frozenset[str]:
        most = max(FEW, COMMON * len(self._known))
        return frozenset(stem for stem in found if len(self._having.get(stem, ())) <= most)


def _known(tool: Tool) -> _Known:
    name: JSON = tool.name
    description: JSON = tool.description
    name, description = (text if isinstance(text, str) else "" for text in (name, description))
    return _Known(tool, folded(name), stems(name), stems(name) | stems(description))


_PAIRS = """
    accept reject, add remove, attach detach, book cancel, buy sell, compress decompress, connect disconnect,
    create delete, decode encode, decrypt encrypt, decrease increase, disable enable, download upload, earliest latest,
    export import, first last, follow unfollow, get set, hide show, highest lowest, load save, lock unlock,
    maximum minimum, max min, open close, pull push, read write, receive send, start stop, subscribe unsubscribe
"""
OPPOSITES = {a: b for pair in _PAIRS.split(",") for one in [pair.split()] for a, b in (one, one[::-1])}
"""Words of names, each with one that means the opposite."""


def opposite(tool: Tool, question: str) -> Tool | None:
    """A tool with the same parameters whose name says the opposite: `unlock_door` of `lock_door`.

    None for a name without such a word, and where the question uses the opposite word.
    """
    if not is_plain(tool):
        return None
    parts = re.split(r"([^a-z]+)", tool.name)
    place = next((i for i, part in enumerate(parts) if part in OPPOSITES), None)
    if place is None or OPPOSITES[parts[place]] in words(question):
        return None
    parts[place] = OPPOSITES[parts[place]]
    name = "".join(parts)
    said = " ".join(_INSIDE_A_NAME.sub(" ", name).split()).lower()
    return Tool(name, f"{said[:1].upper()}{said[1:]}.", tool.parameters)
