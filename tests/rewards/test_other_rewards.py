"""schema_valid, tool_match, abstention and overlong."""

import json
from collections import Counter

import pytest
import torch
from callwright import Answer, ExpectedCall, ReasonCode, Task, Tool
from callwright.testing import check_reward
from callwright_dialects.funrl import FunRL
from callwright_dialects.hermes import Hermes
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.abstention import Abstention
from callwright_rewards.overlong import LengthCode, Overlong
from callwright_rewards.schema_valid import SchemaValid
from callwright_rewards.think_format import ThinkFormat
from callwright_rewards.tool_match import ToolMatch
from hypothesis import given
from hypothesis import strategies as st

SCHEMA = {
    "type": "object",
    "properties": {"x": {"type": "integer"}, "y": {"type": "string", "enum": ["p", "q"]}},
    "required": ["x"],
}
TOOLS = (Tool("a", "", SCHEMA), Tool("b"))
TASK = Task("t", (), TOOLS, Answer((ExpectedCall("a", {"x": [1], "y": ["p"]}),)))
NO_CALL = Task("n", (), TOOLS, Answer())
UNKNOWN = Task("u", (), TOOLS)


@pytest.fixture
def verdict_of(rollouts_of):
    def judge(reward, task, text, dialect=None):
        (verdict,) = reward.score(rollouts=rollouts_of(dialect or PythonCalls(), [task], [text]))
        return verdict

    return judge


# ------------------------------------------------------------------------------------------------- schema_valid


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("[a(x=5), b()]", ReasonCode.CORRECT, "a(x=5), b()"),
        ("[a(x=5), a(x=True)]", ReasonCode.WRONG_TYPE, "True"),
        ("[a(x=5, y='r')]", ReasonCode.WRONG_VALUE, "'r'"),
        ("[a()]", ReasonCode.MISSING_ARGUMENT, "a()"),
        ("[b(x=1)]", ReasonCode.UNEXPECTED_ARGUMENT, "x"),
        ("[a(5)]", ReasonCode.POSITIONAL_ARGUMENT, "5"),
        ("[a(x=1, x=2)]", ReasonCode.UNEXPECTED_ARGUMENT, "x"),
        ("[c(x=1)]", ReasonCode.WRONG_FUNCTION, "c"),
        ("[a(x=1]", ReasonCode.UNPARSABLE, "[a(x=1]"),
    ],
)
def test_calls_fit_the_schemas_or_do_not(verdict_of, text, code, place):
    verdict = verdict_of(SchemaValid(), UNKNOWN, text)
    assert (verdict.score, verdict.reasons[0].code) == (float(code is ReasonCode.CORRECT), code)
    span = verdict.reasons[0].span
    assert place in text[slice(*span)] or text[slice(*span)] in place


def test_nothing_to_check_is_abstained_from(verdict_of):
    assert verdict_of(SchemaValid(), UNKNOWN, "I cannot.").score is None


def test_an_invalid_schema_is_a_failure_and_no_zero(verdict_of):
    task = Task("s", (), (Tool("a", "", {"type": "nothing"}),))
    verdict = verdict_of(SchemaValid(), task, "[a()]")
    assert (verdict.score, "is invalid" in str(verdict.failure)) == (None, True)


# --------------------------------------------------------------------------------------------------- tool_match


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("[a(x=1, y='p')]", 1.0),
        ("[a(x=1, y='q')]", (1 + 1 + 1) / 4),  # names, argument names, one of two values; of 1 + 1 + 2
        ("[a(x=1)]", (1 + 1 / 2 + 1) / 4),
        ("[a(x=True, y='p')]", (1 + 1 + 1) / 4),
        ("[a(x=1, y='p', z=1)]", (1 + 2 / 3 + 2) / 5),
        ("[a(x=1, y='p'), a(x=1, y='p')]", (1 / 2 + 1 + 2) / (4 + 3)),
        ("[b()]", 0.0),
        ("[a(x=1, y='p'", 0.0),
        ("I cannot.", 0.0),
    ],
)
def test_graded(verdict_of, text, score):
    verdict = verdict_of(ToolMatch(), TASK, text)
    assert verdict.score == pytest.approx(score)
    assert (verdict.reasons[0].code == ReasonCode.CORRECT) == (score == 1.0)
    scaled = verdict_of(ToolMatch(low=-1.0, high=3.0), TASK, text)
    assert scaled.score == pytest.approx(-1.0 + 4.0 * score)


def test_the_published_holes_are_closed(verdict_of):
    gold = "a(x=1, y='p')"
    flood = f"[{gold}, {', '.join(f'b(k{i}=1)' for i in range(50))}]"
    assert verdict_of(ToolMatch(), TASK, flood).score < 0.1
    assert verdict_of(ToolMatch(published=True), TASK, flood).score > 0.0
    thought = f"<think>[{gold}]</think><answer>no</answer>"
    assert verdict_of(ToolMatch(), TASK, thought, FunRL()).score == 0.0
    assert verdict_of(ToolMatch(), NO_CALL, "[b()]").score == 0.0
    assert verdict_of(ToolMatch(), NO_CALL, "[]").score == 1.0


def published(gold, made):
    """The rule of the authors' code (rlla.py) on plain calls: the score from -3 to 3."""

    def overlap(first, second):
        if first == second:
            return 1.0
        if not first or not second:
            return 0.0
        common = sum((Counter(first) & Counter(second)).values())
        return common / (len(first) + len(second) - common)

    score, most, used = overlap([n for n, _ in gold], [n for n, _ in made]), 1.0, set()
    for name, wanted in gold:
        most += 1.0 + len(wanted)
        best, index = 0.0, None
        for place, (other, given_arguments) in enumerate(made):
            if place not in used and other == name:
                right = sum(k in given_arguments and given_arguments[k] == v for k, v in wanted.items())
                value = overlap(list(wanted), list(given_arguments)) + right
                if value > best:
                    best, index = value, place
        score += best
        used |= {index}
    return 6.0 * score / most - 3.0


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.dictionaries(st.sampled_from(["x", "y", "z"]), st.sampled_from([1, True, 2, "p"]), max_size=3),
    ),
    min_size=1,
    max_size=3,
)


@given(CALLS, CALLS)
def test_the_published_reward(gold, made):
    task = Task("g", (), (), Answer(tuple(ExpectedCall(n, {k: [v] for k, v in given.items()}) for n, given in gold)))
    calls = [json.dumps({"name": name, "arguments": given}) for name, given in made]
    text = "\n".join(f"<tool_call>{call}</tool_call>" for call in calls)
    verdict = ToolMatch(published=True).judge(task, Hermes().parse(text))
    # equal calls in another order are matched alike by the rule, so the shortcut for equal lists changes nothing
    assert verdict.score == pytest.approx(published(gold, made))


def test_published_elsewhere(verdict_of):
    reward = ToolMatch(published=True)
    assert reward.range == (-3.0, 3.0)
    assert verdict_of(reward, TASK, "[a(x=1").score == -3.0
    assert verdict_of(reward, NO_CALL, "[b()]").score == verdict_of(reward, NO_CALL, "[]").score == 0.0
    assert verdict_of(reward, TASK, "[a(x=True, y='p')]").score == 3.0


def test_a_range_that_is_none():
    with pytest.raises(ValueError, match="must be below"):
        ToolMatch(low=1.0, high=1.0)


# --------------------------------------------------------------------------------------------------- abstention


@pytest.mark.parametrize(
    ("task", "text", "score"),
    [
        (NO_CALL, "I cannot.", 1.0),
        (NO_CALL, "[b()]", 0.0),
        (NO_CALL, "[b(", 0.0),
        (TASK, "[b()]", 1.0),
        (TASK, "I cannot.", 0.0),
        (TASK, "[b(", 0.0),
        (TASK, "[print('hi')]", 0.0),
        (UNKNOWN, "[b()]", None),
        (Task("r", (), TOOLS, None, {"category": "live_relevance"}), "[b()]", 1.0),
        (Task("r", (), TOOLS, None, {"category": "live_relevance"}), "I cannot.", 0.0),
    ],
)
def test_calls_where_one_is_expected_and_only_there(verdict_of, task, text, score):
    verdict = verdict_of(Abstention(), task, text)
    assert verdict.score == score
    assert score is None or verdict.reasons[0].span is not None


# ----------------------------------------------------------------------------------------------------- overlong


@given(st.integers(0, 200), st.integers(1, 100), st.integers(0, 100))
def test_dapos_equation_13(length, buffer, more):
    max_tokens = buffer + more
    verdict = Overlong(max_tokens, buffer)._judge(length, "text")
    if length <= max_tokens - buffer:
        expected = 0.0
    elif length <= max_tokens:
        expected = ((max_tokens - buffer) - length) / buffer
    else:
        expected = -1.0
    assert verdict.score == pytest.approx(expected)
    assert verdict.reasons[0].code == (ReasonCode.CORRECT if expected == 0.0 else LengthCode.OVERLONG)


def test_only_the_number_of_tokens_counts(rollouts_of):
    rollouts = rollouts_of(PythonCalls(), [TASK] * 3, ["", "x" * 999, "[a()]"])
    rollouts.mask = torch.arange(12)[None] < torch.tensor([[4], [9], [12]])
    scores = [verdict.score for verdict in Overlong(max_tokens=10, buffer=5).score(rollouts=rollouts)]
    assert scores == pytest.approx([0.0, -0.8, -1.0])


@pytest.mark.parametrize("buffer", [0, 11, -1])
def test_a_buffer_that_does_not_fit(buffer):
    with pytest.raises(ValueError, match="between 1 and max_tokens"):
        Overlong(10, buffer)


@pytest.mark.slow
@pytest.mark.parametrize(
    "reward",
    [SchemaValid(), ToolMatch(), ToolMatch(published=True), Abstention(), Overlong(60, 20), ThinkFormat()],
    ids=["schema_valid", "tool_match", "tool_match-published", "abstention", "overlong", "think_format"],
)
def test_they_keep_the_laws(reward):
    check_reward(reward, dialect="funrl")
