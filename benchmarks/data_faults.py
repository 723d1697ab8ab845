"""`ast_validate` on synthetic rows in xLAM's format with planted faults: are all found, and none else? How fast?

python benchmarks/data_faults.py [--rows 10000 60000] [--json faults.json]

Rows are of the shape of xlam-function-calling-60k (arXiv 2406.18518; query, tools and answers as JSON texts): 3,600
distinct tools, one to four in a row, one to three calls. Every code of the stage is planted in `SHARE` of the rows.
Each number of rows is measured in a process of its own, with and without `fix`; making the rows is not timed.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from callwright import Answer, ExpectedCall, Task, Tool
from callwright.types import Corrected, Dropped
from callwright_data.ast_validate.stage import AstValidate, FindingCode

DISTINCT_TOOLS = 3600
SHARE = 0.005
"""Of the rows, for each code."""
PIECE = 1000
"""Rows that are in memory at once."""
MENDED = {"answer_unread", "positional_argument", "misspelt", "duplicate_tool", "malformed_allowed"}
"""Codes of which this script plants only what can be mended."""
Row = dict[str, Any]
_WORDS = ("city", "user", "start", "limit", "query", "page", "sort", "market", "stock", "recipe", "team", "league")


# ------------------------------------------------------------------------------------------------------- rows


def make_tool(number: int, rng: random.Random) -> Row:
    """A function as xLAM describes them after its types are made JSON Schema; the first parameters are required."""
    properties: Row = {}
    for place, name in enumerate(rng.sample(_WORDS, rng.randint(3, 5))):
        schema = (
            {"type": "string"},
            {"type": "integer", "default": 10},
            {"type": "string", "enum": ["ascending", "descending", "by_name"]},
            {"type": "boolean"},
            {"type": "number"},
            {"type": "array", "items": {"type": "integer"}},
        )[place if place < 3 else rng.randint(3, 5)]
        properties[f"{name}_{number % 97}"] = {**schema, "description": f"The {name} that is asked for, in words."}
    required = list(properties)[:3]
    parameters = {"type": "object", "properties": properties, "required": required}
    return {"name": f"get_{rng.choice(_WORDS)}_{number}", "description": "Fetches it.", "parameters": parameters}


def make_value(schema: Row, rng: random.Random) -> Any:
    if "enum" in schema:
        return rng.choice(schema["enum"])
    kind = schema["type"]
    if kind == "array":
        return [rng.randint(0, 99) for _ in range(rng.randint(0, 4))]
    if kind == "boolean":
        return rng.random() < 0.5
    if kind == "number":
        return round(rng.uniform(0, 100), 2)
    return rng.randint(0, 1000) if kind == "integer" else f"{rng.choice(_WORDS)} {rng.randint(0, 99999)}"


def make_row(number: int, tools: list[Row], rng: random.Random) -> Row:
    offered = rng.sample(tools, rng.randint(1, 4))
    answers = []
    for tool in rng.choices(offered, k=rng.randint(1, 3)):
        parameters = tool["parameters"]
        given = [n for n in parameters["properties"] if n in parameters["required"] or rng.random() < 0.5]
        values = {name: make_value(parameters["properties"][name], rng) for name in given}
        answers.append({"name": tool["name"], "arguments": values})
    return {"id": number, "query": "What is it?", "tools": json.dumps(offered), "answers": json.dumps(answers)}


def to_task(row: Row) -> Task:
    """What a source makes of a row of xLAM; fields beside xLAM's own are for what is planted."""
    tools = tuple(Tool(tool["name"], tool["description"], tool["parameters"]) for tool in json.loads(row["tools"]))
    messages = ({"role": "user", "content": row["query"]}, *row.get("more_messages", ()))
    answer = None
    if row["answers"] is not None:
        calls = json.loads(row["answers"])
        expected = (ExpectedCall(c["name"], {n: [v] for n, v in c["arguments"].items()}) for c in calls)
        answer = Answer(tuple(expected))
    return Task(f"xlam-{row['id']}", messages, tools, answer, row.get("meta", {}))


# ----------------------------------------------------------------------------------------------------- faults


def as_text(row: Row, write: Callable[[Row], str] | None = None) -> str:
    def plain(call: Row) -> str:
        return f"{call['name']}({', '.join(f'{n}={v!r}' for n, v in call['arguments'].items())})"

    calls = json.loads(row["answers"])
    return f"[{', '.join([(write or plain)(calls[0]), *map(plain, calls[1:])])}]"


def only_text(row: Row, text: str) -> Task:
    return to_task({**row, "answers": None, "meta": {"answer_text": text}})


def positional(call: Row) -> str:
    """The required parameters come first in each schema, and so they are the first arguments too."""
    pairs = list(call["arguments"].items())
    written = [*(repr(value) for _, value in pairs[:3]), *(f"{name}={value!r}" for name, value in pairs[3:])]
    return f"{call['name']}({', '.join(written)})"


def with_call(task: Task, **changes: Any) -> Task:
    """The task with its answer's first call changed."""
    assert task.answer is not None
    first, *rest = task.answer.calls
    return replace(task, answer=Answer((replace(first, **changes), *rest)))


def with_argument(task: Task, place: int, allowed: Any, name: str | None = None) -> Task:
    assert task.answer is not None
    pairs = list(task.answer.calls[0].arguments.items())
    pairs[place] = (name or pairs[place][0], allowed)
    return with_call(task, arguments=dict(pairs))


def first_name(task: Task, place: int) -> str:
    assert task.answer is not None
    return list(task.answer.calls[0].arguments)[place]


def misspell(row: Row, rng: random.Random) -> Task:
    task = to_task(row)
    assert task.answer is not None
    first = task.answer.calls[0]
    count = list(first.arguments.values())[1][0]
    direction = list(first.arguments.values())[2][0]
    return rng.choice(
        (
            lambda: with_call(task, name=first.name.replace("_", "-").title()),
            lambda: with_argument(task, 0, first.arguments[first_name(task, 0)], first_name(task, 0).upper()),
            lambda: with_argument(task, 1, [str(count)]),
            lambda: with_argument(task, 1, [float(count)]),
            lambda: with_argument(task, 2, [direction.upper().replace("_", " ")]),
        )
    )()


def with_schema(task: Task, change: Callable[[Row], None]) -> Task:
    """The task with the schema of the tool that is called first changed."""
    assert task.answer is not None
    tools = []
    for tool in task.tools:
        if tool.name == task.answer.calls[0].name:
            parameters = copy.deepcopy(dict(tool.parameters))
            change(parameters)
            tool = replace(tool, parameters=parameters)
        tools.append(tool)
    return replace(task, tools=tuple(tools))


def out_of_range(task: Task) -> Task:
    name = first_name(task, 1)
    return with_schema(task, lambda schema: schema["properties"][name].update(minimum=5000))


def contradict(row: Row, rng: random.Random) -> Task:
    if rng.random() < 0.5:
        return to_task({**row, "answers": "[]", "meta": {"possible_answer": [{"f": {}}]}})
    message = {"role": "assistant", "content": "", "tool_calls": [{"name": "f"}]}
    return to_task({**row, "answers": "[]", "more_messages": [message]})


def drop_first(task: Task) -> Task:
    assert task.answer is not None
    return with_call(task, arguments=dict(list(task.answer.calls[0].arguments.items())[1:]))


def add_argument(task: Task) -> Task:
    assert task.answer is not None
    return with_call(task, arguments={**task.answer.calls[0].arguments, "zebra": [1]})


def unlisted(task: Task) -> Task:
    assert task.answer is not None
    return with_argument(task, 0, next(iter(task.answer.calls[0].arguments.values()))[0])


PLANT: dict[str, Callable[[Row, random.Random], Task]] = {
    "no_answer": lambda row, rng: to_task({**row, "answers": None}),
    "answer_unread": lambda row, rng: only_text(row, as_text(row)),
    "unparsable": lambda row, rng: only_text(row, rng.choice((as_text(row)[:-2], "I would look it up.", "[f(a=x+1)]"))),
    "positional_argument": lambda row, rng: only_text(row, as_text(row, positional)),
    "repeated_argument": lambda row, rng: only_text(row, as_text(row).replace(")", ", zebra=1, zebra=2)", 1)),
    "misspelt": misspell,
    "duplicate_tool": lambda row, rng: replace(to_task(row), tools=(*to_task(row).tools, to_task(row).tools[0])),
    "invalid_schema": lambda row, rng: with_schema(to_task(row), lambda schema: schema.update(required="all")),
    "call_impossible": lambda row, rng: to_task({**row, "tools": "[]"}),
    "call_missing": contradict,
    "unknown_function": lambda row, rng: with_call(to_task(row), name="look_up_zebra"),
    "unknown_parameter": lambda row, rng: add_argument(to_task(row)),
    "missing_required": lambda row, rng: drop_first(to_task(row)),
    "wrong_type": lambda row, rng: with_argument(to_task(row), 1, [rng.choice(("many", True, [1], 2.5, None))]),
    "not_in_enum": lambda row, rng: with_argument(to_task(row), 2, ["sideways"]),
    "unsatisfiable": lambda row, rng: rng.choice((out_of_range, lambda task: with_argument(task, 0, [])))(to_task(row)),
    "malformed_allowed": lambda row, rng: unlisted(to_task(row)),
    "malformed_row": lambda row, rng: with_call(to_task(row), name=5),
}
assert PLANT.keys() == set(FindingCode)


def planted_rows(count: int, seed: int) -> Iterator[tuple[Task, str | None, Task]]:
    """(the row, the code that is planted in it, the row before that)."""
    rng = random.Random(seed)
    tools = [make_tool(number, rng) for number in range(DISTINCT_TOOLS)]
    codes = list(PLANT)
    for number in range(count):
        row = make_row(number, tools, rng)
        spot = rng.random()
        code = codes[int(spot / SHARE)] if spot < SHARE * len(codes) else None
        yield to_task(row) if code is None else PLANT[code](row, rng), code, to_task(row)


# ----------------------------------------------------------------------------------------------------- measuring


def mistakes(result: Task | Dropped | Corrected, task: Task, code: str | None, clean: Task, fix: bool) -> list[str]:
    """What the stage did with a row other than it should."""
    if code is None:
        return [] if result is task else [f"{task.id}: nothing is planted, but: {result}"]
    wanted = Corrected if fix and code in MENDED else Dropped
    if type(result) is not wanted or result.code != code:
        return [f"{task.id}: planted {code}, wanted {wanted.__name__}, but: {result}"]
    if isinstance(result, Corrected) and (result.task.answer, result.task.tools) != (clean.answer, clean.tools):
        return [f"{task.id}: {code} is mended wrongly: {result.task}"]
    return []


def anonymous_kib() -> int:
    """Memory that this process holds now and that no file backs; 0 where the system does not say."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("RssAnon:")), 0)


def measure(count: int, seed: int, fix: bool) -> Row:
    stage = AstValidate(fix=fix)
    planted: Counter[str] = Counter()
    wrong: list[str] = []
    cpu = wall = 0.0
    anonymous = 0
    rows = planted_rows(count, seed)
    while piece := [row for _, row in zip(range(PIECE), rows, strict=False)]:
        tasks = [task for task, _, _ in piece]
        started = time.process_time(), time.perf_counter()
        results = list(stage.apply(tasks))
        cpu, wall = cpu + time.process_time() - started[0], wall + time.perf_counter() - started[1]
        anonymous = max(anonymous, anonymous_kib())
        for (task, code, clean), result in zip(piece, results, strict=True):
            planted[code or "nothing"] += 1
            wrong += mistakes(result, task, code, clean, fix)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "rows": count,
        "fix": fix,
        "wrong": len(wrong),
        "first_wrong": wrong[:3],
        "rows_per_cpu_second": round(count / cpu),
        "cpu_seconds": round(cpu, 2),
        "wall_seconds": round(wall, 2),
        "peak_mib": round(peak),
        "peak_anonymous_mib": round(anonymous / 1024),
        "planted": dict(sorted(planted.items())),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 60_000])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)  # a measurement, in its own process
    parser.add_argument("--fix", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.rows[0], options.seed, options.fix)))
        return
    figures = []
    for rows in options.rows:
        for fix in (False, True):
            command = [sys.executable, __file__, "--one", "--rows", str(rows), "--seed", str(options.seed)]
            command += ["--fix"] if fix else []
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures.append(json.loads(done.stdout))
            print(json.dumps({name: value for name, value in figures[-1].items() if name != "planted"}))
    print(json.dumps(figures[-1]["planted"]))
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=1))
    if any(figure["wrong"] for figure in figures):
        sys.exit("not all that was planted was found, or something else was")


if __name__ == "__main__":
    main()
