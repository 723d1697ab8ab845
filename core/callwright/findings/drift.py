"""Length or junk drifts, and is paid for."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass

from callwright.findings.finding import ALPHA, Finding, Silent, spread_out
from callwright.findings.judge import Judge
from callwright.findings.record import Completion, Record
from callwright.findings.statistics import FEWEST_STEPS, Trend, ends, paid, trend

LEAST_PAY = 0.01
"""Of the reward's range: by so much the mean rewards of more and of less must differ."""


@dataclass(frozen=True, slots=True)
class Amount:
    """Something that may drift."""

    code: str
    name: str
    of: Callable[[Completion], float]
    both_ways: bool
    """Less of it is a drift as well."""
    least: Callable[[float], float]
    """The smallest change that counts, from the amount at first."""
    form: str


AMOUNTS = (
    Amount("length_drift", "length in characters", lambda row: float(len(row.text)), True, lambda at: at / 4, ".0f"),
    Amount(
        "junk_drift",
        "share of text outside thinking, tags and calls",
        lambda row: row.outside,
        False,
        lambda _: 0.15,
        ".0%",
    ),
    Amount("junk_drift", "share of repeated text", lambda row: row.repeated, False, lambda _: 0.15, ".0%"),
)


def drift(record: Record, judge: Judge) -> list[Finding]:
    if len(record.by_step) < FEWEST_STEPS:
        raise Silent(f"there are under {FEWEST_STEPS} steps")
    totals = dict(zip((row.place for row in record.completions), judge.totals(record.completions), strict=True))
    known = [total for total in totals.values() if total == total]
    scale = max(known) - min(known) if known else 0.0
    if not scale:
        raise Silent("the reward was the same for all completions")
    return [one for amount in AMOUNTS for one in _of(amount, record, judge, totals, scale)]


def _of(
    amount: Amount, record: Record, judge: Judge, totals: dict[tuple[int, int], float], scale: float
) -> Iterator[Finding]:
    steps, values = record.means(amount.of)
    before, after = ends(values)
    found = trend(steps, values)
    sign = _direction(found, ALPHA / (2 * len(AMOUNTS)), amount.both_ways)
    if not sign or abs(found.change) < amount.least(before):
        return
    rows = [
        (_made_alike(row, judge), sign * amount.of(row), totals[row.place] / scale)
        for row in record.completions
        if totals[row.place] == totals[row.place]
    ]
    pay = paid(rows)
    if pay.p >= ALPHA / len(AMOUNTS) or pay.difference < LEAST_PAY:
        return
    more, way = ("more", "rises") if sign > 0 else ("less", "falls")
    message = (
        f"The {amount.name} {way} from {before:{amount.form}} to {after:{amount.form}}"
        f" (p {min(found.rising, found.falling):.1g}), and {more} of it is paid: among completions of a prompt that"
        f" make the same calls, those with {more} get {pay.difference * scale:.2g} more reward (p {pay.p:.1g},"
        f" {pay.strata} sets of such completions)."
    )
    late = sorted(record.last_third(), key=lambda row: -sign * amount.of(row))
    places = spread_out(sorted(row.place for row in late[: max(12, len(late) // 10)]))
    yield Finding(amount.code, f"The {amount.name} drifts and is paid for", message, places)


def _direction(found: Trend, level: float, both_ways: bool) -> int:
    if found.rising < level:
        return 1
    return -1 if both_ways and found.falling < level else 0


def _made_alike(row: Completion, judge: Judge) -> Hashable:
    """Completions of a group that make the same calls, and were all cut off or all not: whatever else they say should
    not matter."""
    parse = judge.parse(row.text)
    calls = json.dumps([call.to_json() for call in parse.calls], sort_keys=True, default=repr)
    return row.group, row.truncated, parse.status, calls
