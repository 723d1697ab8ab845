"""Would the offered tools accept the completion's calls?"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from callwright import Parse, Reason, ReasonCode, Rollouts, Task, Tool, Verdict, hookimpl

from callwright_rewards.call_match import dialect_faults
from callwright_rewards.per_task import PerTask
from callwright_rewards.strict import around, unreadable
from callwright_rewards.tool_schema import Fault, SchemaError, ToolSchema, form_faults, schema_faults


class OfferedTools:
    """A task's tools; a schema is compiled when the first call needs it."""

    def __init__(self, task: Task) -> None:
        self.tools: dict[str, Tool] = {tool.name: tool for tool in task.tools}
        self.schemas: dict[str, ToolSchema] = {}

    def schema(self, name: str) -> ToolSchema | None:
        """None for a function that is not offered. Raises `SchemaError` for a schema that is none."""
        if name in self.tools and name not in self.schemas:
            self.schemas[name] = ToolSchema.of(self.tools[name])
        return self.schemas.get(name)


@dataclass
class SchemaValid:
    """1 if every call is to an offered tool and fits its JSON Schema, otherwise 0. Needs no answer.

    Types are exact, parameters that the schema does not list are invented, an argument without a name or given twice
    is wrong. A malformed call scores 0. A completion without a call is abstained from: there is nothing to check, and
    a 1 for it would teach not to call.
    """

    laws: ClassVar[dict[str, str]] = {
        "near_misses_score_less": "a wrong value can fit the schema",
        "extra_calls_cost": "a call too many can fit the schema",
    }

    def __post_init__(self) -> None:
        self._tools = PerTask(OfferedTools)

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        """Verdicts with score 0.0 or 1.0, or abstentions; a row whose tool has no valid schema fails."""
        return [self.judge(task, parse) for task, parse in zip(rollouts.tasks, rollouts.parses, strict=True)]

    def judge(self, task: Task, parse: Parse) -> Verdict:
        """The verdict on one completion; its reasons are all that is wrong, call by call."""
        reason = unreadable(parse)
        if reason is not None:
            return Verdict(0.0, (reason,))
        if not parse.calls:
            return Verdict.abstain("the completion makes no call")
        try:
            faults = list(_faults(parse, self._tools(task)))
        except SchemaError as error:
            return Verdict.failed(str(error))
        if faults:
            return Verdict(0.0, tuple(Reason(fault.code, fault.message, fault.span) for fault in faults))
        return Verdict(1.0, (Reason(ReasonCode.CORRECT, span=around(parse)),))


def _faults(parse: Parse, tools: OfferedTools) -> Iterator[Fault]:
    for call in parse.calls:
        schema = tools.schema(call.name)
        if schema is None:
            yield Fault(ReasonCode.WRONG_FUNCTION, f"{call.name} is not offered", call.name_span)
            continue
        yield from form_faults(call)
        yield from dialect_faults(parse, call)
        yield from schema_faults(call, schema)
