"""Calls of a reply against the calls of an answer: what is wrong with each, and who is whose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from callwright import Answer, Call, ExpectedCall, Parse, Reason, ReasonCode, Task
from callwright.types import JSON

from callwright_rewards.bfcl_values import show
from callwright_rewards.tool_schema import MAX_FAULTS, Fault, SchemaError, ToolSchema, form_faults, schema_faults
from callwright_rewards.value_match import OPTIONAL, Equality, accepted

MAX_MATCHED = 64
"""Calls more than an answer has that are still matched to find out which is one too many."""


class MatchCode(StrEnum):
    """Reasons beside those of `callwright.ReasonCode`."""

    EQUAL_AFTER_NORMALISATION = "equal_after_normalisation"
    """A right string, but not to the character."""
    DEFAULT_GIVEN = "default_given"
    """An optional argument given with the value that its schema says it has anyway."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """A call against an expected one."""

    faults: tuple[Fault, ...]
    """Empty if the call is the expected one; the first decides."""
    notes: tuple[Reason, ...] = ()
    """What was forgiven."""

    @property
    def closeness(self) -> float:
        """In [0, 2]; 2 is equal. Only for choosing whom to compare with whom."""
        if self.faults and self.faults[0].code == ReasonCode.WRONG_FUNCTION:
            return 0.0
        return 1.0 + 1.0 / (1.0 + len(self.faults))


class AnswerKey:
    """A task's answer and tools, ready to judge calls by. Raises `SchemaError` where nothing can be judged by them."""

    def __init__(self, task: Task, answer: Answer) -> None:
        self.expected = answer.calls
        self.offered = {tool.name for tool in task.tools}
        named = {call.name for call in answer.calls}  # other functions are wrong by their name
        self.schemas = {tool.name: ToolSchema.of(tool) for tool in task.tools if tool.name in named}
        for call in answer.calls:
            self._check_answer(call)

    def own_faults(self, parse: Parse, call: Call) -> list[Fault]:
        """What is wrong with a call whatever is expected: its form, and by its tool's schema."""
        faults = list(form_faults(call))
        known = {fault.span for fault in faults}
        faults += [fault for fault in dialect_faults(parse, call) if fault.span not in known]
        if call.name in self.schemas:
            faults += schema_faults(call, self.schemas[call.name])
        return faults

    def compare(self, call: Call, own_faults: Sequence[Fault], expected: ExpectedCall) -> Comparison:
        """What is wrong with `call` if it is meant to be `expected`, in the order of what decides."""
        if call.name != expected.name:
            known = "" if call.name in self.offered or not self.offered else ", and it is not offered"
            message = f"{call.name} instead of {expected.name}{known}"
            return Comparison((Fault(ReasonCode.WRONG_FUNCTION, message, call.name_span),))
        missing = list(_missing(call, expected))
        faults = [f for f in own_faults if not (missing and f.code == ReasonCode.MISSING_ARGUMENT)] + missing
        broken = {fault.span for fault in faults}
        notes: list[Reason] = []
        for argument in call.arguments:
            if argument.name is None or argument.value_span in broken or argument.name_span in broken:
                continue
            options = expected.arguments.get(argument.name)
            match = None if options is None else accepted(argument.value, options)
            if match is Equality.NORMALISED:
                message = f"{argument.name}: {show(argument.value)} is right but for its spelling: {show(options)}"
                notes.append(Reason(MatchCode.EQUAL_AFTER_NORMALISATION, message, argument.value_span))
            elif match is None and self.is_default(call.name, argument.name, argument.value, options):
                message = f"{argument.name}: {show(argument.value)} is the default"
                notes.append(Reason(MatchCode.DEFAULT_GIVEN, message, argument.value_span))
            elif match is None and options is None:
                message = f"{argument.name}: the answer leaves this argument out"
                faults.append(Fault(ReasonCode.UNEXPECTED_ARGUMENT, message, argument.name_span or argument.value_span))
            elif match is None:
                message = f"{argument.name}: {show(argument.value)} is not among the accepted {show(options)}"
                faults.append(Fault(ReasonCode.WRONG_VALUE, message, argument.value_span))
        return Comparison(tuple(faults[:MAX_FAULTS]), tuple(notes))

    def is_default(self, tool: str, name: str, value: JSON, options: Sequence[JSON] | None) -> bool:
        """Whether giving this value is the same as leaving the argument out, and leaving it out is right."""
        if tool not in self.schemas or (options is not None and OPTIONAL not in options):
            return False
        return self.schemas[tool].is_default(name, value)

    def assign(self, parse: Parse) -> dict[int, tuple[int, Comparison]]:
        """By expected call: the reply's call that is compared with it. An optimal assignment: as many equal ones as
        can be, and then as near as can be. Calls beyond `MAX_MATCHED` more than expected are left out."""
        calls = parse.calls[: len(self.expected) + MAX_MATCHED]
        faults = [self.own_faults(parse, call) for call in calls]
        pairs = list(zip(calls, faults, strict=True))
        if len(calls) == len(self.expected):  # nearly always in the answer's order, which spares all other pairs
            in_order = [
                self.compare(call, own, expected) for (call, own), expected in zip(pairs, self.expected, strict=True)
            ]
            if len(calls) == 1 or not any(pair.faults for pair in in_order):
                return {number: (number, pair) for number, pair in enumerate(in_order)}
        table = [[self.compare(call, own, expected) for call, own in pairs] for expected in self.expected]
        if not calls:
            return {}
        from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]  # scipy ships no types

        equal = 2.0 * len(self.expected) + 2.0  # one equal pair more outweighs any nearness of the others
        weights = [[equal if not pair.faults else pair.closeness for pair in row] for row in table]
        rows, columns = linear_sum_assignment(weights, maximize=True)
        return {int(row): (int(column), table[row][column]) for row, column in zip(rows, columns, strict=True)}

    def _check_answer(self, call: ExpectedCall) -> None:
        """Raise `SchemaError` if no call could be right by the answer and by the tool's schema."""
        schema = self.schemas.get(call.name)
        if schema is None:
            if self.offered:
                raise SchemaError(f"the answer calls {call.name}, which is not offered")
            return
        arguments = {
            name: _first(schema, name, options)
            for name, options in call.arguments.items()
            if OPTIONAL not in options or name in schema.required
        }
        unknown = [name for name in arguments if schema.closed and name not in schema.properties]
        broken = unknown[:1] or [message for _, _, message in schema.errors(arguments)][:1]
        if broken:
            raise SchemaError(f"the answer's call of {call.name} breaks the tool's schema: {broken[0]}")


def dialect_faults(parse: Parse, call: Call) -> Iterator[Fault]:
    """What the dialect found wrong inside the call, such as a value that is no literal."""
    known = (ReasonCode.BAD_FORMAT, ReasonCode.POSITIONAL_ARGUMENT)
    for problem in parse.problems:
        span = problem.span
        if span is not None and problem.code not in known and call.span[0] <= span[0] and span[1] <= call.span[1]:
            yield Fault(problem.code, problem.message, span)


def _missing(call: Call, expected: ExpectedCall) -> Iterator[Fault]:
    given = {argument.name for argument in call.arguments}
    for name, options in expected.arguments.items():
        if name not in given and OPTIONAL not in options:
            yield Fault(ReasonCode.MISSING_ARGUMENT, f"the argument {name!r} is missing", call.span)


def _first(schema: ToolSchema, name: str, options: Sequence[JSON]) -> JSON:
    """The first accepted value that the parameter's schema allows, else the first."""
    values = [_concrete(option) for option in options if option != OPTIONAL]
    if len(values) > 1:
        return next((value for value in values if schema.fits(name, value)), values[0])
    return values[0] if values else None


def _concrete(option: JSON) -> JSON:
    """One value of those that an accepted object allows."""
    if isinstance(option, Mapping):
        chosen = {name: part if isinstance(part, list) else [part] for name, part in option.items()}
        return {name: _concrete(part[0]) for name, part in chosen.items() if part and OPTIONAL not in part}
    return [_concrete(item) for item in option] if isinstance(option, list) else option
