"""BFCL's verdict by callwright beside bfcl-eval's own: CPU time, and whether they agree. See README.md in this folder.

python benchmarks/verify.py [--json verify.json]
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from callwright import Task
from callwright_data.sources.bfcl import CATEGORIES, Bfcl
from callwright_rewards.bfcl import Checker
from callwright_rewards.bfcl_decode import forget

ROOT = Path(__file__).parents[1]
REPLIES = ROOT / "tests" / "rewards"
sys.path.insert(0, str(REPLIES))

from bfcl_replies import MUTATIONS, gold, text_of  # noqa: E402  # the tests' own replies

PEER = ROOT / ".venvs" / "bfcl" / "bin" / "python"
GROUPS = Path(__file__).with_name("verify_groups.jsonl")
CHUNK = 500
REFUSALS = ("I cannot help with that.", "None of the functions can be used.", "[]", "Sorry, which city do you mean?")
Verdict = list[Any]


class Reply(NamedTuple):
    """A completion of a task."""

    task: Task
    text: str


class Times(NamedTuple):
    """CPU seconds."""

    callwright: float
    peer: float
    replies: int

    @property
    def ratio(self) -> float:
        return self.peer / self.callwright


# ------------------------------------------------------------------------------------------------------- replies


def distinct_replies(tasks: Sequence[Task], mutants: int, seed: int) -> Iterator[Reply]:
    """Every task's right answer, and for every mutation `mutants` tasks of each category; no reply twice."""
    rng = random.Random(seed)
    by_category: dict[str, list[Task]] = defaultdict(list)
    for task in tasks:
        by_category[task.meta["category"]].append(task)
    seen: set[tuple[str, str]] = set()
    for category_tasks in by_category.values():
        found: list[Reply] = []
        chosen: list[tuple[Any, Task]] = [(str, task) for task in category_tasks]
        for mutate in MUTATIONS.values():
            chosen += [(mutate, task) for task in rng.choices(category_tasks, k=mutants)]
        for mutate, task in chosen:
            text = _reply(task, mutate, rng)
            if (task.id, text) not in seen:
                seen.add((task.id, text))
                found.append(Reply(task, text))
        yield from sorted(found, key=lambda reply: reply.task.id)  # a task's replies come together, as in training


def _reply(task: Task, mutate: Any, rng: random.Random) -> str:
    key = task.meta.get("possible_answer")
    if key is None:  # tasks that ask only whether there is a call: half of the replies are one
        if rng.random() < 0.5 or not task.meta["functions"]:
            return f"{rng.choice(REFUSALS)}{' ' * rng.randrange(20)}"
        function = rng.choice(task.meta["functions"])
        properties = function["parameters"]["properties"]
        key = [{function["name"]: {name: [rng.choice(["x", 1, 2.5, True, ["a"]])] for name in properties}}]
    calls = gold(key, rng.randrange(3))
    return text_of(calls) if mutate is str else str(mutate(calls, rng, task))


def recorded_groups(tasks: Sequence[Task], file: Path) -> Iterator[Reply]:
    """The completions of whole training steps, as `{"task", "completions"}` lines, group after group."""
    by_id = {task.id: task for task in tasks}
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            group = json.loads(line)
            yield from (Reply(by_id[group["task"]], text) for text in group["completions"])


# ----------------------------------------------------------------------------------------------------- two sides


class Peer:
    """bfcl-eval, in a process and an environment of its own."""

    def __init__(self) -> None:
        command = [str(PEER), str(REPLIES / "bfcl_peer.py")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def judge(self, replies: Sequence[Reply]) -> tuple[float, list[Verdict]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        cases = [
            {
                "reply": text,
                "functions": task.meta["functions"],
                "possible_answer": task.meta.get("possible_answer"),
                "category": task.meta["category"],
            }
            for task, text in replies
        ]
        self.process.stdin.write(json.dumps(cases) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        return answer["cpu"], answer["verdicts"]


def judge(replies: Sequence[Reply]) -> tuple[float, list[Verdict]]:
    """callwright's side: one `Checker` per task of the chunk, made within the time."""
    start = time.process_time()
    checkers: dict[str, Checker] = {}
    results = []
    for task, text in replies:
        checker = checkers.get(task.id)
        if checker is None:
            meta = task.meta
            checker = checkers[task.id] = Checker(meta["functions"], meta.get("possible_answer"), meta["category"])
        results.append(checker.check(text))
    seconds = time.process_time() - start
    return seconds, [[result.valid, result.error_type] for result in results]


def compare(replies: Sequence[Reply], peer: Peer, rounds: int) -> tuple[Times, list[str]]:
    """Both sides over the same chunks in turn, each first half of the times; also the replies they disagree on."""
    ours = theirs = 0.0
    differences: list[str] = []
    for number in range(rounds):
        forget()
        for start in range(0, len(replies), CHUNK):
            chunk = replies[start : start + CHUNK]
            if (number + start // CHUNK) % 2:
                (mine, verdicts), (other, expected) = judge(chunk), peer.judge(chunk)
            else:
                (other, expected), (mine, verdicts) = peer.judge(chunk), judge(chunk)
            ours, theirs = ours + mine, theirs + other
            if number == 0:
                differences += _differences(chunk, verdicts, expected)
    return Times(ours, theirs, rounds * len(replies)), differences


def _differences(replies: Sequence[Reply], ours: Sequence[Verdict], theirs: Sequence[Verdict]) -> Iterable[str]:
    for reply, mine, other in zip(replies, ours, theirs, strict=True):
        if mine != other:
            yield f"{reply.task.id}: {reply.text!r}: {mine}, bfcl-eval {other}"


# -------------------------------------------------------------------------------------------------------- report


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    tasks = list(Bfcl(list(CATEGORIES)).load())
    by_category: dict[str, list[Reply]] = defaultdict(list)
    for reply in distinct_replies(tasks, arguments.mutants, seed=0):
        by_category[reply.task.meta["category"]].append(reply)
    groups = list(recorded_groups(tasks, arguments.groups))
    peer = Peer()
    gc.freeze()  # what is loaded here is no part of a check; bfcl-eval's process does the same
    compare(groups, peer, 1)  # warm-up: imports, caches of regular expressions
    categories: dict[str, Times] = {}
    differences: list[str] = []
    for category, replies in by_category.items():
        categories[category], found = compare(replies, peer, arguments.rounds)
        differences += found
    repeated, found = compare(groups, peer, 20 * arguments.rounds)
    text = Times(*(sum(column) for column in zip(*categories.values(), strict=True)))
    return {
        "cpu_ratio_text": text.ratio,
        "cpu_ratio_groups": repeated.ratio,
        "cpu_ratio_by_category": {name: times.ratio for name, times in categories.items()},
        "microseconds": {
            "text": _microseconds(text),
            "groups": _microseconds(repeated),
            **{name: _microseconds(times) for name, times in categories.items()},
        },
        "distinct_replies": sum(map(len, by_category.values())),
        "group_replies": len(groups),
        "distinct_group_replies": len({(task.id, reply) for task, reply in groups}),
        "mutations": len(MUTATIONS),
        "differences": differences + found,
    }


def _microseconds(times: Times) -> dict[str, float]:
    return {
        "callwright": 1e6 * times.callwright / times.replies,
        "bfcl_eval": 1e6 * times.peer / times.replies,
    }


def _print(result: dict[str, Any]) -> None:
    print(f"{'CPU microseconds per reply':32}{'callwright':>12}{'bfcl-eval':>12}{'ratio':>8}")
    for name, times in result["microseconds"].items():
        ours, theirs = times["callwright"], times["bfcl_eval"]
        print(f"{name:32}{ours:12.1f}{theirs:12.1f}{theirs / ours:8.2f}")
    print(f"{result['distinct_replies']} distinct replies, {result['mutations']} mutations;", end=" ")
    print(f"groups: {result['group_replies']} completions, {result['distinct_group_replies']} distinct")
    print(f"{len(result['differences'])} different verdicts", *result["differences"][:5], sep="\n  ")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--mutants", type=int, default=20, help="replies of every mutation and category")
    parser.add_argument("--rounds", type=int, default=1, help="times that every reply is judged")
    parser.add_argument("--groups", type=Path, default=GROUPS, help="recorded completions, group by group")
    arguments = parser.parse_args()
    if not PEER.exists():
        parser.error(f"{PEER} is missing: `make test` makes the environment of bfcl-eval")
    result = measure(arguments)
    _print(result)
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
