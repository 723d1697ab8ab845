"""How many rows a second of one core do the rule stages take?

python benchmarks/data_stages.py [--rows 20000] [--repeats 3] [--stages near exact gold] [--json stages.json]

Two kinds of rows: synthetic ones of the shape of xlam-function-calling-60k (`data_faults.py`: 3,600 distinct tools, one
to four in a row), with questions of 8 to 30 words of which one in ten is nearly an earlier one, and BFCL's Python rows
with a key, over and over, each question with a word of its own. Each figure is CPU time, the median of the repeats;
making the rows is not timed. Synthetic rows are harder on what is kept by tool: hardly two rows have the same tools.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from callwright import Task
from callwright.pipeline.context import StageContext
from callwright.recipe import build, load_recipe
from callwright_data.ast_validate.stage import AstValidate
from callwright_data.stages.balance import Balance
from callwright_data.stages.decontaminate import Decontaminate
from callwright_data.stages.deduplicate import Deduplicate
from callwright_data.stages.distractors import Distractors
from callwright_data.stages.few_shot import FewShot
from callwright_data.stages.gold_check import GoldCheck
from callwright_data.stages.limit import Limit
from callwright_data.stages.split import Split
from data_faults import DISTINCT_TOOLS, make_row, make_tool, to_task

RECIPE = Path(__file__).parent.parent / "recipes" / "bfcl_clean.yaml"
STAGES: dict[str, Callable[[], Any]] = {
    "validate": lambda: AstValidate(fix=True),
    "gold": GoldCheck,
    "exact": lambda: Deduplicate(threshold=None),
    "near": Deduplicate,
    "decontaminate": Decontaminate,
    "distractors": Distractors,
    "few_shot": FewShot,
    "balance": lambda: Balance(most=10**9),
    "limit": lambda: Limit(rows=10**9),
    "split": lambda: Split(held_out=0.1),
}
# 2,000 made-up words, of as many letters as English ones have.
_LETTERS = random.Random(0)
_WORDS = ["".join(_LETTERS.choices("etaoinshrdlu", k=_LETTERS.randint(2, 9))) for _ in range(2000)]


def synthetic(rows: int, seed: int = 0) -> list[Task]:
    rng = random.Random(seed)
    tools = [make_tool(number, rng) for number in range(DISTINCT_TOOLS)]
    tasks: list[Task] = []
    for number in range(rows):
        task = to_task(make_row(number, tools, rng))
        if tasks and rng.random() < 0.1:
            earlier = rng.choice(tasks)
            words = str(earlier.messages[0]["content"]).split()
            words[rng.randrange(len(words))] = rng.choice(_WORDS)
            task = replace(earlier, id=task.id)
        else:
            words = rng.choices(_WORDS, k=rng.randint(8, 30))
        tasks.append(replace(task, messages=({"role": "user", "content": " ".join(words) + "?"},)))
    return tasks


def of_bfcl(rows: int, once: list[Task]) -> list[Task]:
    tasks = []
    for number in range(rows):
        task = once[number % len(once)]
        copy = number // len(once)
        *before, last = task.messages
        last = {**last, "content": f"{last['content']} {_WORDS[copy]}"}
        tasks.append(replace(task, id=f"{task.id}-{copy}", messages=(*before, last)))
    return tasks


def rows_a_second(make: Callable[[], Any], tasks: list[Task], context: StageContext) -> float:
    stage = make()
    if hasattr(stage, "prepare"):
        stage.prepare(context)
    gc.collect()
    gc.freeze()  # a run reads its rows from a file as they come, and does not hold them
    started = time.process_time()
    for _ in stage.apply(tasks):
        pass
    return len(tasks) / (time.process_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--stages", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args()
    figures: dict[str, dict[str, int]] = {}
    for kind in ("xlam", "bfcl"):
        # BFCL's keys list allowed values as its own checker reads them; the synthetic rows have plain ones.
        recipe = load_recipe(RECIPE, [] if kind == "bfcl" else ["rewards.use.0.mode=strict"])
        components = build(recipe)
        once = [task for task in components.source.load() if isinstance(task, Task)]
        tasks = synthetic(options.rows) if kind == "xlam" else of_bfcl(options.rows, once)
        with tempfile.TemporaryDirectory() as folder:
            context = StageContext(recipe, components, Path(folder), lambda done, of: None, lambda line: None)
            for name in options.stages:
                measured = [rows_a_second(STAGES[name], tasks, context) for _ in range(options.repeats)]
                figures.setdefault(name, {})[kind] = round(statistics.median(measured))
                print(f"{name:14} {kind}  {figures[name][kind]:>7,} rows a CPU second", flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": options.rows, "rows_a_cpu_second": figures}, indent=1))


if __name__ == "__main__":
    main()
