"""BFCL's single-turn categories, and the numbers that are made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from callwright.suites.contract import Category, Score

SIMPLE = ("simple_python", "simple_java", "simple_javascript")
NON_LIVE_AST = (*SIMPLE, "multiple", "parallel", "parallel_multiple")
LIVE_AST = ("live_simple", "live_multiple", "live_parallel", "live_parallel_multiple")
LIVE = (*LIVE_AST, "live_irrelevance", "live_relevance")
CATEGORIES = (*NON_LIVE_AST, "irrelevance", *LIVE)

Counted = Mapping[str, Category]

_SIMPLE = "mean of simple (mean of Python, Java, JavaScript), multiple, parallel, parallel_multiple"
_BY_ROWS = "mean over rows of live_simple, live_multiple, live_parallel, live_parallel_multiple"
_NO_TURNS = "multi-turn is not part of this suite"
_NO_AGENTS = "multi-turn and agentic are not part of this suite"
_PAPER, _V3, _V4 = "FunRL paper", "BFCL v3 weights", "BFCL v4 weights"


def scores(counted: Counted) -> list[Score]:
    """The paper's numbers, and the official ones as far as single turns define them.

    BFCL's own formulas: `generate_leaderboard_csv` of bfcl-eval 2026.3.23 for v4, and of the repository's state before
    agentic categories came for v3. v3 had a few other rows in its live categories; here its weights meet v4's rows.
    """
    found: list[Score] = []

    def add(
        by: str,
        name: str,
        needs: Sequence[str],
        contains: str,
        value: Callable[[], float],
        of: float = 1.0,
    ) -> None:
        missing = [category for category in needs if accuracy(counted, category) is None]
        if missing:
            why = f"needs {', '.join(f'{one} ({_state(counted, one)})' for one in missing)}"
            found.append(Score(by, name, None, contains, why, of))
        else:
            found.append(Score(by, name, value(), contains, of=of))

    def non_live() -> float:
        return _mean([_simple(counted), *(known(counted, name) for name in NON_LIVE_AST[3:])])

    def live() -> float:
        return _over_rows(counted, LIVE_AST)

    def non_live_v3() -> float:
        parts = [_simple(counted), *(known(counted, name) for name in (*NON_LIVE_AST[3:], "irrelevance"))]
        return _mean(parts)

    def live_v3() -> float:
        return _over_rows(counted, LIVE)

    def irrelevance() -> float:
        return _mean([known(counted, "irrelevance"), known(counted, "live_irrelevance")])

    add(_PAPER, "Non-live AST", NON_LIVE_AST, _SIMPLE, non_live)
    add(_PAPER, "Live", LIVE_AST, _BY_ROWS, live)
    both = (*NON_LIVE_AST, *LIVE_AST)
    add(_PAPER, "single turn", both, "mean of the two above", lambda: _mean([non_live(), live()]))

    non_live_names, irrelevance_names = (*NON_LIVE_AST, "irrelevance"), ("irrelevance", "live_irrelevance")
    add(_V3, "Non-Live Overall", non_live_names, f"{_SIMPLE}, irrelevance", non_live_v3)
    add(_V3, "Live Overall", LIVE, f"{_BY_ROWS}, live_irrelevance, live_relevance", live_v3)
    share = "a third of each of the two above; the last third is multi-turn"
    add(_V3, "share of Overall", CATEGORIES, share, lambda: (non_live_v3() + live_v3()) / 3, of=2 / 3)
    found.append(Score(_V3, "Overall", None, "mean of Non-Live Overall, Live Overall, multi-turn", _NO_TURNS))

    add(_V4, "Non-Live Overall", NON_LIVE_AST, _SIMPLE, non_live)
    add(_V4, "Live Overall", LIVE_AST, _BY_ROWS, live)
    add(_V4, "Irrelevance", irrelevance_names, "mean of irrelevance, live_irrelevance", irrelevance)
    parts = "10% of each of the three above; multi-turn is 30%, agentic 40%"
    names = (*both, *irrelevance_names)
    add(_V4, "share of Overall", names, parts, lambda: (non_live() + live() + irrelevance()) / 10, of=0.3)
    found.append(Score(_V4, "Overall", None, "10% of each of the three above, 30% multi-turn, 40% agentic", _NO_AGENTS))
    return found


def accuracy(counted: Counted, name: str) -> float | None:
    return counted[name].accuracy if name in counted else None


def known(counted: Counted, name: str) -> float:
    value = accuracy(counted, name)
    assert value is not None  # `add` looked
    return value


def _state(counted: Counted, name: str) -> str:
    return "not judged here" if name in counted else "not asked"


def _simple(counted: Counted) -> float:
    return _mean([known(counted, name) for name in SIMPLE])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _over_rows(counted: Counted, names: Sequence[str]) -> float:
    return sum(counted[name].correct for name in names) / sum(counted[name].asked for name in names)
