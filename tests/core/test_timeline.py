"""Rewards begin while completions are still drawn, and the timeline shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from callwright.display import SilentDisplay
from callwright.recipe import build, load_recipe
from callwright.timeline import Timeline

REWARDS = '''
import asyncio, threading
from callwright import Verdict, hookimpl, Reason

ASKED = threading.Event()

class Judge:
    """Asked about each row by itself, wherever it stands; as a client of a slow service would be."""
    row_by_row = True
    calls = []

    @hookimpl
    async def score(self, rollouts):
        Judge.calls.append(len(rollouts))
        ASKED.set()
        await asyncio.sleep(0)
        return [Verdict(len(set(text)) / (1 + len(text))) for text in rollouts.texts]

class AllAtOnce(Judge):
    row_by_row = False

class ByRow:
    @hookimpl
    def score(self, rollouts):
        return [Verdict(len(set(text)) / (1 + len(text))) for text in rollouts.texts]

class Broken(Judge):
    @hookimpl
    async def score(self, rollouts):
        if rollouts.step >= 0 and any(len(text) % 2 for text in rollouts.texts):
            raise RuntimeError("no")
        return [Verdict(1.0) for text in rollouts.texts]

class WaitsForTheJudge:
    """Lets no completion be finished before some reward was asked: without an early start, this never ends."""
    @hookimpl
    def process_logits(self, logits, rows, positions):
        if int(positions[0]) == 7:
            assert ASKED.wait(60), "no reward was asked while completions were drawn"
        return logits

class EndsAtDifferentTimes:
    """Every other row ends at its second token."""
    @hookimpl
    def process_logits(self, logits, rows, positions):
        logits = logits.clone()
        logits[:, 2] = -1e9
        early = (rows % 2 == 0) & (positions == 1)
        logits[early] = -1e9
        logits[early, 2] = 0.0
        return logits
'''


@pytest.fixture
def train(make_recipe: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    (tmp_path / "judges.py").write_text(REWARDS)

    def train(name: str, reward: str, *explore: str, options: str = "", engine: str = "local") -> Path:
        path = make_recipe(name=name, train={"steps": 2, "max_new_tokens": 10, "kl": 0.1})
        content = json.loads(path.read_text())
        use = f"{tmp_path / 'judges.py'}:{reward}"
        content["rewards"]["use"] = [{"use": use, **json.loads(options or "{}")}]
        content["explore"] = [f"{tmp_path / 'judges.py'}:{one}" for one in ("EndsAtDifferentTimes", *explore)]
        path.write_text(json.dumps(content))
        recipe = load_recipe(path, [f"run={tmp_path / name}", f"engine={engine}", "train.profile=true"])
        components = build(recipe)
        components.engine.train(recipe, components, SilentDisplay(), False)
        return tmp_path / name

    return train


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    names = [name for name in lines[0] if name.split("/")[0] in ("loss", "grad_norm", "entropy")]
    return [{name: line[name] for name in (*names, "reward", "completion_length")} for line in lines]


def spans(run: Path) -> dict[str, list[tuple[int, int]]]:
    """Begin and end in microseconds, by name; the file is read as a tool would read it after a kill."""
    events = json.loads((run / "timeline.json").read_text().rstrip().rstrip(",") + "]")
    found: dict[str, list[tuple[int, int]]] = {}
    begun = {e["id"]: e["ts"] for e in events if e["ph"] == "b"}
    for event in events:
        if event["ph"] == "X":
            found.setdefault(event["name"], []).append((event["ts"], event["ts"] + event["dur"]))
        elif event["ph"] == "e":
            found.setdefault(event["name"], []).append((begun[event["id"]], event["ts"]))
    return found


@pytest.mark.parametrize("engine", ["local", "trl"])
def test_a_reward_is_asked_while_completions_are_drawn(train: Callable[..., Path], engine: str) -> None:
    """It would never end otherwise: the last tokens wait for the first question."""
    run = train("early", "Judge", "WaitsForTheJudge", engine=engine)
    found = spans(run)
    start, end = found["generate"][0]
    assert any(start < begun < end for begun, _ in found["Judge"])
    assert {"generate", "score", "advantages", "update", "evaluate before", "evaluate after"} <= found.keys()


@pytest.mark.parametrize(("early", "options"), [("Judge", ""), ("ByRow", '{"isolate": true}')])
def test_the_numbers_are_those_of_asking_at_the_end(train: Callable[..., Path], early: str, options: str) -> None:
    assert metrics(train("early", early, options=options)) == metrics(train("late", "AllAtOnce"))


def test_failures_count_as_ever(train: Callable[..., Path]) -> None:
    run = train("broken", "Broken")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert sum(line["failed_rows"] for line in lines) > 0
    assert all(line["failed_rows"] <= line["rows"] for line in lines)


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    timeline = Timeline()
    with timeline.span("a"), timeline.beside("b"):
        pass
    timeline.write()
    assert not timeline._events


def test_a_trace_grows_and_can_be_read_at_any_time(tmp_path: Path) -> None:
    timeline = Timeline(tmp_path / "timeline.json")
    for number in range(3):
        with timeline.span(f"step {number}"):
            pass
        timeline.write()
        assert len(spans(tmp_path)) == number + 1
