"""JSON as models write it: values, and the exact characters at which each of them stands.

The values come from the standard library's decoder, so what `json.loads` refuses is refused here, and what it reads
has the same value; except that NaN and Infinity, which are no JSON (RFC 8259), are refused, and that numbers beyond
the limits in `outcomes.py` and repeated keys are reported.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from json import JSONDecodeError, JSONDecoder

from callwright import CallwrightError, Reason, ReasonCode
from callwright.types import JSON, Span

from callwright_dialects.outcomes import MAX_INTEGER_BITS, MAX_NESTING, Unreadable, too_deep

_SPACE = re.compile(r"[ \t\r\n]*")
_CHARACTER = re.compile(  # of a string's source text; two escapes that make one character stand together
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|.", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Member:
    """A key of an object and its value. Positions are in the reader's source."""

    key: str
    value: JSON
    key_at: Span
    """Quotation marks excluded."""
    value_at: Span
    """Quotation marks included."""
    repeated: tuple[str, ...] = ()
    """Keys that an object in the value has more than once; the last one counts."""
    out_of_range: bool = False
    """Whether a number in the value is beyond the limits; it does not have its value then."""


@dataclass
class JsonReader:
    """Reads JSON from positions in `source`. Everything that it cannot read is `Unreadable`.

    `places` maps `source` to the completion where the two differ: the position of each character and of the end.
    """

    source: str
    problems: list[Reason] = field(default_factory=list)
    places: Sequence[int] | None = None

    def __post_init__(self) -> None:
        self._repeated: list[str] = []
        self._out_of_range = False
        self._decoder = JSONDecoder(
            object_pairs_hook=self._object,
            parse_int=self._integer,
            parse_float=self._float,
            parse_constant=_refuse_constant,
        )

    def span(self, at: Span) -> Span:
        """From the reader's source to the completion's text."""
        return at if self.places is None else (self.places[at[0]], self.places[at[1]])

    def skip(self, position: int) -> int:
        """Where white space ends."""
        found = _SPACE.match(self.source, position)
        return position if found is None else found.end()

    def decode(self, position: int) -> tuple[JSON, int]:
        """The value that begins at `position`, and where it ends."""
        self._repeated.clear()
        self._out_of_range = False
        try:
            return self._decoder.raw_decode(self.source, position)
        except JSONDecodeError as error:
            raise self.unreadable(f"no JSON: {error.msg}", error.pos) from None
        except RecursionError:
            raise self.unreadable(f"values nested deeper than {MAX_NESTING}", position) from None

    def settle(self, member: Member) -> JSON:
        """The member's value, with a problem for each fault in it.

        A value with a number beyond the limits is given as its source text; so is in Python syntax.
        """
        if too_deep(member.value):
            raise self.unreadable(f"values nested deeper than {MAX_NESTING}", member.value_at[0])
        span = self.span(member.value_at)
        for key in member.repeated:
            self.problem(ReasonCode.UNEXPECTED_ARGUMENT, f"the key {key!r} is given more than once", span)
        if member.out_of_range:
            self.problem(ReasonCode.WRONG_TYPE, "a number that is too large to be read", span)
            return self.source[slice(*member.value_at)]
        return member.value

    def members(self, position: int) -> tuple[list[Member], int]:
        """The members of the object that begins at `position`, one by one, and where the object ends."""
        if not self.source.startswith("{", position):
            raise self.unreadable("no JSON object", position)
        members: list[Member] = []
        position = self.skip(position + 1)
        if self.source.startswith("}", position):
            return members, position + 1
        while True:
            if not self.source.startswith('"', position):
                raise self.unreadable("no JSON: no key", position)
            key, key_end = self.decode(position)
            start = self.skip(self.expect(":", key_end))
            value, end = self.decode(start)
            key_at, value_at = (position + 1, key_end - 1), (start, end)
            members.append(Member(key, value, key_at, value_at, tuple(self._repeated), self._out_of_range))
            position = self.skip(end)
            if self.source.startswith("}", position):
                return members, position + 1
            position = self.skip(self.expect(",", position))

    def expect(self, character: str, position: int) -> int:
        """The position behind `character`, which may have white space in front of it."""
        position = self.skip(position)
        if not self.source.startswith(character, position):
            raise self.unreadable(f"no JSON: no {character!r}", position)
        return position + 1

    def inside(self, text: str, at: Span) -> JsonReader:
        """A reader of the JSON that `text`, the value of the string at `at`, holds; its spans go through the escapes.

        Problems are collected here.
        """
        places = [found.start() for found in _CHARACTER.finditer(self.source, at[0] + 1, at[1] - 1)] + [at[1] - 1]
        if self.places is not None:
            places = [self.places[place] for place in places]
        return JsonReader(text, self.problems, places)

    def unreadable(self, message: str, position: int) -> Unreadable:
        return Unreadable(message, self.span((position, position))[0])

    def problem(self, code: ReasonCode, message: str, span: Span) -> None:
        self.problems.append(Reason(code, message, span))

    def _object(self, pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
        result = dict(pairs)
        if len(result) < len(pairs):
            counts = Counter(key for key, _ in pairs)
            self._repeated += [key for key, count in counts.items() if count > 1]
        return result

    def _integer(self, digits: str) -> int:
        # A decimal digit takes more than 3 bits, and int() raises above 4,300 digits.
        number = int(digits) if len(digits) <= MAX_INTEGER_BITS // 3 else 1 << MAX_INTEGER_BITS
        if number.bit_length() > MAX_INTEGER_BITS:
            self._out_of_range = True
        return number

    def _float(self, digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            self._out_of_range = True
        return number


def _refuse_constant(name: str) -> JSON:
    raise Unreadable(f"{name} is no JSON")


def to_json(value: JSON) -> str:
    """`value` as JSON in the standard library's layout. Raises CallwrightError for what would not be read back."""
    if too_deep(value):
        raise CallwrightError(f"a value nested deeper than {MAX_NESTING} cannot be read back")
    _check(value)
    return json.dumps(value, ensure_ascii=False)


def _check(value: JSON) -> None:
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise CallwrightError(f"the key {key!r} cannot be written in JSON: keys are texts")
            _check(key)
            _check(item)
    elif kind is list:
        for item in value:
            _check(item)
    elif kind is str:
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise CallwrightError(f"{value!r} cannot be written in JSON: it is no Unicode text")
    elif kind is int:
        if value.bit_length() > MAX_INTEGER_BITS:
            raise CallwrightError(f"an integer of {value.bit_length()} bits: at most {MAX_INTEGER_BITS} are read back")
    elif kind is float:
        if not math.isfinite(value):
            raise CallwrightError(f"{value} cannot be written in JSON")
    elif value is not None and kind is not bool:
        raise CallwrightError(f"a value of type {kind.__name__} cannot be written in JSON")
