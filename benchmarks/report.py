"""How large the report of a run is, and how fast its page is: writing, opening, filtering, sorting, scrolling.

    python benchmarks/report.py [--completions 10000] [--run RUN] [--screenshots FOLDER]

Without --run the completions are made up: 100 steps, groups of 8, some 40 tokens each. The page is opened in Chromium
(CHROMIUM=/path/to/it), and every time is from what the user does until the browser has drawn it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from callwright.report.command import write_report

STEPS, GROUP = 100, 8
REPEATS = 7
WORDS = ("city", "unit", "Oslo", "Bergen", "celsius", "date", "tomorrow", "amount", "currency", "EUR", "limit", "query")
CODES = ("correct", "wrong_value", "missing_argument", "unparsable", "wrong_function", "wrong_type")
UNTIL_DRAWN = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
TIMED = f"""async (act) => {{
  const actions = {{
    search: (words) => {{
      const field = document.querySelector("input.search");
      field.value = words;
      field.dispatchEvent(new Event("input", {{ bubbles: true }}));
    }},
    reason: (index) => {{
      const field = document.querySelector("select[aria-label=reason]");
      field.selectedIndex = index;
      field.dispatchEvent(new Event("change", {{ bubbles: true }}));
    }},
    sort: (name) => document.querySelector(`.long-head .${{name}} button`).click(),
    prompts: () => document.querySelectorAll("[aria-label='rows of the table'] button")[1].click(),
    completions: () => document.querySelectorAll("[aria-label='rows of the table'] button")[0].click(),
    scroll: (share) => {{
      const view = document.querySelector(".long-view");
      view.scrollTop = share * view.scrollHeight;
    }},
    choose: (index) => document.querySelectorAll(".long-row")[index].click(),
  }};
  const [what, value] = act;
  const start = performance.now();
  actions[what](value);
  await {UNTIL_DRAWN};
  return performance.now() - start;
}}"""
ACTIONS: list[tuple[str, list[Any]]] = [
    ("search for a word (first time)", ["search", "bergen"]),
    ("search for a word", ["search", "oslo"]),
    ("search for what is nowhere", ["search", "zzz"]),
    ("search for nothing", ["search", ""]),
    ("filter by a reason", ["reason", 2]),
    ("any reason", ["reason", 0]),
    ("sort by score", ["sort", "total"]),
    ("sort by text", ["sort", "text"]),
    ("scroll to the middle", ["scroll", 0.5]),
    ("choose a completion", ["choose", 9]),
    ("group by prompt", ["prompts", None]),
    ("back to completions", ["completions", None]),
]


def make_run(folder: Path, completions: int) -> Path:
    """A run folder with so many completions, as the engines write it."""
    dice = random.Random(0)
    (folder / "rollouts").mkdir(parents=True)
    (folder / "recipe.resolved.yaml").write_text(f"train: {{steps: {STEPS}}}\n")
    with (folder / "metrics.jsonl").open("w") as lines:
        for step in range(1, STEPS + 1):
            rows = [row_of(dice, number) for number in range(completions // STEPS)]
            pq.write_table(pa.Table.from_pylist(rows), folder / "rollouts" / f"step-{step:06d}.parquet")
            figures = {"step": step, "reward": dice.random(), "rows": len(rows), "entropy": dice.random()}
            figures |= {f"reason/ast_match/{code}": dice.randint(1, 20) for code in CODES}
            lines.write(json.dumps(figures) + "\n")
    return folder


def row_of(dice: random.Random, number: int) -> dict[str, Any]:
    task = dice.randrange(2000)
    arguments = ", ".join(f"{dice.choice(WORDS)}={dice.choice(WORDS)!r}" for _ in range(8))
    text = f"<think>The question asks for {task}.</think><answer>[get_{dice.choice(WORDS)}({arguments})]</answer>"
    characters = [4] * (len(text) // 4) + ([len(text) % 4] if len(text) % 4 else [])
    code = dice.choice(CODES)
    reason = {"reward": "ast_match", "code": code, "message": f"{dice.choice(WORDS)} is wrong", "span": [40, 52]}
    question = {"role": "user", "content": f"Question {task} about {dice.choice(WORDS)}"}
    return {
        "task": f"task_{task}",
        "group": number // GROUP,
        "messages": json.dumps([question]),
        "tools": json.dumps([{"name": "get_city", "description": "Gets.", "parameters": {"type": "object"}}]),
        "answer": "[]",
        "completion": text,
        "truncated": False,
        "temperature": 1.0,
        "off_policy": False,
        "total": float(code == "correct"),
        "rewards": json.dumps({"ast_match": float(code == "correct")}),
        "reasons": json.dumps([reason]),
        "token_ids": list(range(len(characters))),
        "segments": [6] * len(characters),
        "entropy": [dice.expovariate(4) for _ in characters],
        "advantages": [dice.gauss(0, 1)] * len(characters),
        "characters": characters,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions", type=int, default=10_000)
    parser.add_argument("--run", type=Path)
    parser.add_argument("--screenshots", type=Path)
    options = parser.parse_args()
    from playwright.sync_api import sync_playwright

    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium")
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        run = options.run or make_run(Path(place) / "run", options.completions)
        page_file = Path(place) / "report.html"
        started = time.perf_counter()
        remarks = write_report([run], page_file, None)
        print(f"{'write the page':34}{time.perf_counter() - started:9.2f} s")
        print(f"{'its size':34}{page_file.stat().st_size / 1e6:9.2f} MB", *remarks, sep="\n" if remarks else "")
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1400, "height": 1000})
        started = time.perf_counter()
        page.goto(page_file.as_uri())
        page.wait_for_selector("html[data-ready]")
        print(f"{'open it, completions included':34}{time.perf_counter() - started:9.2f} s")
        page.evaluate("document.querySelector('#completions').scrollIntoView()")
        rows = page.locator("[aria-label=Completions]").get_attribute("aria-rowcount")
        print(f"\n{rows} completions, {REPEATS} times each{'median':>14}{'slowest':>11}")
        for name, action in ACTIONS:
            times = sorted(page.evaluate(TIMED, action) for _ in range(1 if "first" in name else REPEATS))
            print(f"{name:34}{times[len(times) // 2]:8.0f} ms{times[-1]:8.0f} ms")
        if options.screenshots:
            options.screenshots.mkdir(parents=True, exist_ok=True)
            for width in (1400, 390):
                page.set_viewport_size({"width": width, "height": 1000})
                page.screenshot(path=options.screenshots / f"report-{width}.png", full_page=True)
        browser.close()


if __name__ == "__main__":
    main()
