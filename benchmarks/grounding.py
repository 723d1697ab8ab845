"""How often does `parameter_extraction` call a right value invented, and how often does it notice a wrong one?

    python benchmarks/grounding.py                  the half that the rules were not written from
    python benchmarks/grounding.py --half dev       the half that they were
    python benchmarks/grounding.py --show 40        also lists failing gold arguments and unnoticed wrong ones

On the tasks of the Berkeley Function Calling Leaderboard that have an answer. Gold: of every argument the first allowed
value that is not the empty string. Corrupted: the same call with one argument swapped for a plausible wrong value.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from callwright import Argument, Call, Parse, ParseStatus, Task
from callwright.types import JSON
from callwright_data.sources.bfcl import WITH_KEY, Bfcl
from callwright_rewards.grounding import Grounder, Grounding, Support
from callwright_rewards.grounding.grounder import properties_of

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATE_LIKE = re.compile(
    r"\d{4}-\d{2}-\d{2}|\d{1,2}[/.]\d{1,2}[/.]\d{2,4}|"
    r"\b(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.? \d{1,2}\b|\b\d{1,2} (?:jan|feb|mar|apr|may|jun)",
    re.I,
)


@dataclass(frozen=True)
class Gold:
    task: Task
    category: str
    function: str
    name: str
    allowed: list[JSON]
    value: JSON
    schema: dict[str, JSON]

    @property
    def kind(self) -> str:
        if isinstance(self.value, bool):
            return "boolean"
        if "enum" in self.schema:
            return "enum"
        if self.value in (None, [], {}):
            return "empty"
        if isinstance(self.value, str):
            return "date" if _DATE_LIKE.search(self.value) else "string"
        return {"int": "integer", "float": "number", "list": "list", "dict": "dict"}[type(self.value).__name__]


def half_of(task_id: str) -> str:
    return ("dev", "held-out")[hashlib.sha256(task_id.encode()).digest()[0] % 2]


def golds(half: str) -> Iterator[Gold]:
    for category in WITH_KEY:
        for task in Bfcl([category]).load():
            if half_of(task.id) != half or task.answer is None:
                continue
            tools = {tool.name: tool for tool in task.tools}
            for call in task.answer.calls:
                properties = properties_of(tools[call.name]) if call.name in tools else {}
                for name, allowed in call.arguments.items():
                    values = [plain(value) for value in allowed if value != ""]
                    if values and name in properties:
                        yield Gold(task, category, call.name, name, values, values[0], properties[name])


def plain(value: JSON) -> JSON:
    """BFCL writes of every dict value again the list of allowed ones: the first that is not empty."""
    if isinstance(value, dict):
        chosen = {
            key: [v for v in inner if v != ""] if isinstance(inner, list) else [inner] for key, inner in value.items()
        }
        return {key: plain(inner[0]) for key, inner in chosen.items() if inner}
    return [plain(item) for item in value] if isinstance(value, list) else value


def judge(grounder: Grounder, gold: Gold, value: JSON) -> Grounding:
    call = Call(gold.function, (Argument(gold.name, value, None, (0, 0)),), (0, 0), (0, 0))
    (grounding,) = grounder.ground(Parse("", ParseStatus.CALLS, (call,)))
    return grounding


# -------------------------------------------------------------------------------------------- plausible wrong values


@dataclass
class Corruptor:
    """Swaps a value for a plausible wrong one; `names` are the other strings of the category."""

    names: list[tuple[str, str]]
    names_of: dict[str, list[tuple[str, str]]]
    """By the parameter's name: what a city is swapped for is another city where the category has one."""
    rng: random.Random

    def swap(self, gold: Gold) -> JSON:
        """A wrong value, or None if no other is to be had."""
        for _ in range(20):
            wrong = self._swap(gold.value, gold)
            if wrong is None or any(alike(wrong, right) for right in gold.allowed):
                continue
            if isinstance(wrong, bool) or not alike(wrong, gold.schema.get("default")):
                return wrong
        return None

    def _swap(self, value: JSON, gold: Gold) -> JSON:
        if isinstance(value, bool):
            return not value
        if "enum" in gold.schema and not isinstance(value, list):
            return self.rng.choice(gold.schema["enum"])
        if isinstance(value, int):
            return value + self.rng.choice([-3, -2, -1, 1, 2, 3]) * max(1, 10 ** (len(str(abs(value))) - 2))
        if isinstance(value, float):
            return float(f"{value * self.rng.choice([0.8, 0.9, 1.1, 1.2]) if value else 0.3:.4g}")
        if isinstance(value, str):
            return self._string(value, gold)
        if isinstance(value, list) and value:
            place = self.rng.randrange(len(value))
            return [*value[:place], self._swap(value[place], gold), *value[place + 1 :]]
        if isinstance(value, dict) and value:
            key = self.rng.choice(sorted(value))
            return {**value, key: self._swap(value[key], gold)}
        return None

    def _string(self, value: str, gold: Gold) -> str:
        if _ISO.search(value):
            return _ISO.sub(self._other_day, value)
        if _DATE_LIKE.search(value):
            return re.sub(r"\d{1,2}", lambda m: str(int(m[0]) % 12 + self.rng.choice([1, 2, 3])), value, count=1)
        pools = (self.names_of[gold.name], self.names)
        for pool in pools:
            others = [name for task, name in pool if task != gold.task.id and not alike(name, value)]
            if others:
                return self.rng.choice(others)
        return ""

    def _other_day(self, match: re.Match[str]) -> str:
        try:
            day = date.fromisoformat(match[0])
        except ValueError:
            return "2021-05-17"
        return (day + timedelta(self.rng.choice([-40, -7, -1, 1, 6, 33, 364]))).isoformat()


def alike(a: JSON, b: JSON) -> bool:
    """The same to BFCL's checker, which ignores case and punctuation in strings; parts of one another count too."""
    if isinstance(a, str) and isinstance(b, str):
        first, second = (re.sub(r"[\W_]", "", text).lower() for text in (a, b))
        return first in second or second in first
    return type(a) is type(b) and json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


# ------------------------------------------------------------------------------------------------------- measurement


@dataclass
class Count:
    gold: int = 0
    invented: int = 0
    """Gold arguments called invented."""
    failing: int = 0
    """Gold arguments called invented or unsupported."""
    swapped: int = 0
    noticed: int = 0
    """Swapped values called invented or unsupported."""


@dataclass
class Measurement:
    counts: dict[str, Count]
    """By category, by kind of value, and `all`."""
    codes: dict[str, int]
    """Reason codes of the gold arguments."""
    failures: list[str]


def measure(half: str, seed: int = 0) -> Measurement:
    rows = list(golds(half))
    counts: dict[str, Count] = defaultdict(Count)
    codes: dict[str, int] = defaultdict(int)
    corruptors = {
        category: _corruptor([row for row in rows if row.category == category], seed) for category in WITH_KEY
    }
    grounders: dict[str, Grounder] = {}
    failures: list[str] = []
    for row in rows:
        grounder = grounders.setdefault(row.task.id, Grounder(row.task))
        right = judge(grounder, row, row.value)
        codes[right.code] += 1
        wrong = corruptors[row.category].swap(row)
        noticed = wrong is not None and judge(grounder, row, wrong).support.fails
        for name in ("all", row.category, row.kind):
            count = counts[name]
            count.gold += 1
            count.invented += right.support is Support.INVENTED
            count.failing += right.support.fails
            count.swapped += wrong is not None
            count.noticed += noticed
        if right.support.fails or (wrong is not None and not noticed):
            failures.append(_line(row, right, wrong, grounder))
    return Measurement(dict(counts), dict(codes), failures)


def _corruptor(rows: list[Gold], seed: int) -> Corruptor:
    names_of: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for row in rows:
        for value in row.value if isinstance(row.value, list) else [row.value]:
            if isinstance(value, str):
                names_of[row.name].append((row.task.id, value))
    return Corruptor([name for names in names_of.values() for name in names], names_of, random.Random(seed))


def _line(row: Gold, right: Grounding, wrong: JSON, grounder: Grounder) -> str:
    text = row.task.messages[-1]["content"][:400]
    mark = "GOLD " if right.support.fails else "MISS "
    code = right.code if right.support.fails else judge(grounder, row, wrong).code
    about = str(row.schema.get("description"))[:160]
    return (
        f"{mark} {row.task.id} {row.kind} {code}: {row.name}={row.value!r}"
        f" wrong={wrong!r} | {about} | {row.schema.get('enum')} | {row.schema.get('default')}\n        {text!r}"
    )


def show(half: str, measurement: Measurement) -> None:
    print(f"half: {half}")
    print(f"{'':24}{'gold':>6}{'invented':>10}{'failing':>10}{'swapped':>9}{'noticed':>9}")
    kinds = ("string", "integer", "number", "boolean", "enum", "list", "dict", "date", "empty")
    for name in ("all", *WITH_KEY, *kinds):
        c = measurement.counts[name]
        noticed = f"{c.noticed / c.swapped:9.1%}" if c.swapped else f"{'-':>9}"
        print(f"{name:24}{c.gold:6}{c.invented / c.gold:10.2%}{c.failing / c.gold:10.1%}{c.swapped:9}{noticed}")
    print(", ".join(f"{code} {n}" for code, n in sorted(measurement.codes.items(), key=lambda item: -item[1])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--half", choices=["dev", "held-out"], default="held-out")
    parser.add_argument("--show", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    measurement = measure(options.half, options.seed)
    show(options.half, measurement)
    print("\n".join(measurement.failures[: options.show]))


if __name__ == "__main__":
    main()
