"""Is the kit any good? Every planted defect is caught by the law that is there for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import defects
import published
import pytest
from callwright.testing import LawsBroken, check_dialect, check_explorer, check_reward, check_source, check_stage

CHECKS: dict[str, Callable[..., None]] = {
    "reward": check_reward,
    "dialect": check_dialect,
    "explorer": check_explorer,
    "stage": check_stage,
    "source": lambda source, skip, shrink: check_source(source, skip=skip),
}
TABLE = [
    *(("reward", plugin, law) for plugin, law in defects.REWARDS),
    *(("dialect", plugin, law) for plugin, law in defects.DIALECTS),
    *(("explorer", plugin, law) for plugin, law in defects.EXPLORERS),
    *(("stage", plugin, law) for plugin, law in defects.STAGES),
    *(("source", plugin, law) for plugin, law in defects.SOURCES),
]
PUBLISHED = {
    "true_is_one": "near_misses_score_less",
    "thinking_counts": "near_misses_score_less",
    "repeated_calls": "extra_calls_cost",
    "invented_calls": "extra_calls_cost",
    "one_line_only": "rewrites_keep_score",
    "parameters_only": "rewrites_keep_score",
    "calling_is_free": "near_misses_score_less",
    "extra_calls": "near_misses_score_less",
    "one_for_two": "near_misses_score_less",
    "invented_arguments": "near_misses_score_less",
    "any_call_when_empty": "near_misses_score_less",
    "answer_format": "near_misses_score_less",
}
"""Holes of published verifiers, and the law that finds each when it is the only one open."""


def only(kind: str, law: str) -> dict[str, str]:
    """All other laws switched off: it is this one that must find the defect."""
    from callwright.testing import laws_of

    return {other.name: "another law is tried" for other in laws_of(kind) if other.name != law}


@pytest.mark.parametrize(("kind", "plugin", "law"), TABLE, ids=lambda value: getattr(type(value), "__name__", None))
def test_a_planted_defect_is_caught(kind: str, plugin: Any, law: str) -> None:
    with pytest.raises(LawsBroken) as caught:
        CHECKS[kind](plugin, skip=only(kind, law), shrink=False)
    assert [result.name for result in caught.value.results] == [law]
    compile(caught.value.results[0].test, "test", "exec")


@pytest.mark.parametrize("hole", PUBLISHED)
def test_a_published_hole_is_caught(hole: str) -> None:
    reward, dialect = peer(frozenset([hole]))
    with pytest.raises(LawsBroken) as caught:
        check_reward(reward, dialect=dialect, skip=only("reward", PUBLISHED[hole]), shrink=False)
    assert [result.name for result in caught.value.results] == [PUBLISHED[hole]]


def peer(holes: frozenset[str]) -> tuple[object, Any]:
    if holes <= set(published.TOOLRL_HOLES):
        return published.ToolRL(holes), published.Rlla()
    return published.Rllm(holes), "funrl"


@pytest.mark.parametrize("plugin", [published.ToolRL(), published.Rllm()])
def test_the_published_rules_break_the_laws(plugin: Any) -> None:
    dialect = published.Rlla() if isinstance(plugin, published.ToolRL) else "funrl"
    with pytest.raises(LawsBroken):
        check_reward(plugin, dialect=dialect, skip=only("reward", "near_misses_score_less"), shrink=False)


@pytest.mark.parametrize(
    ("reward", "dialect"),
    [
        (defects.Right(), "funrl"),
        (defects.Right(), "python_calls"),
        (published.Rllm(frozenset()), "funrl"),
        (published.ToolRL(frozenset()), published.Rlla()),
    ],
    ids=["right", "right without thinking", "rllm with all holes closed", "toolrl with all holes closed"],
)
def test_without_a_defect_the_laws_hold(reward: object, dialect: Any) -> None:
    """Else the laws would catch everything, and nothing would follow from what they catch."""
    check_reward(reward, dialect=dialect, examples=4)


def test_the_toy_dialect_stage_and_source_keep_the_laws() -> None:
    off = {"round_trip": "a tag inside a value ends its block, as in ToolRL", "spans": "ToolRL's rule needs none"}
    check_dialect(published.Rlla(), skip=off, examples=10)
    check_stage(defects.KeepsAll())
    check_source(defects.Counts())


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ('<tool_call>{"name": "a", "parameters": {"x": 1}}</tool_call>', 3.0),
        ('<tool_call>{"name": "a", "parameters": {"x": true}}</tool_call>', 3.0),
        ('<think><tool_call>{"name": "a", "parameters": {"x": 1}}</tool_call></think>', 3.0),
        ("<tool_call>" + '{"name": "a", "parameters": {"x": 1}}\n' * 2 + "</tool_call>", 2.0),
        (
            '<tool_call>{"name": "a", "parameters": {"x": 1}}'
            + '\n{"name": "b", "parameters": {}}' * 50
            + "</tool_call>",
            1.04,
        ),
        ('<tool_call>{"name": "a",\n"parameters": {"x": 1}}</tool_call>', -3.0),
        ('<tool_call>{"name": "a", "arguments": {"x": 1}}</tool_call>', -3.0),
    ],
)
def test_toolrl_scores_as_it_was_seen_to(text: str, score: float) -> None:
    """The figures measured on the real function: the new writing is faithful where it matters."""
    gold = [{"name": "a", "parameters": {"x": 1}}]
    assert published.ToolRL().correctness(gold, text) == pytest.approx(score, abs=0.005)
