"""The stage `gold_check`."""

import json
from collections import Counter
from dataclasses import replace

import pytest
from callwright import Answer, Dropped, ExpectedCall, Reason, Rollouts, Task, Tool, Verdict, hookimpl
from callwright.plugins import build_component
from callwright.scoring import FailurePolicy, Named
from callwright.testing import check_stage, gold_text, plugin, scores_of, tasks
from callwright.testing.toys import stage_context
from callwright.types import CallwrightError
from callwright_data.sources.bfcl import NO_CALL, WITH_KEY, Bfcl
from callwright_data.stages.gold_check import GoldCheck
from callwright_rewards.ast_match import AstMatch
from callwright_rewards.call_match import AnswerKey
from callwright_rewards.tool_schema import SchemaError
from dialect_replies import CASES
from hypothesis import given, settings
from hypothesis import strategies as st

USER = {"role": "user", "content": "?"}
F = Tool("f", "", {"type": "object", "properties": {"a": {"type": "integer"}, "b": {}}, "required": ["a"]})


def asked(arguments, name="f", tools=(F,)):
    return Task("t", (USER,), tools, Answer((ExpectedCall(name, arguments),)))


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """The context of a stage in a recipe with this dialect and these rewards; (reward, changes) for one with a weight
    or a policy of its own."""
    plain = stage_context(tmp_path_factory.mktemp("gold"))

    def make(*rewards, dialect="python_calls"):
        named = []
        for given_reward in rewards or [AstMatch()]:
            reward, changes = given_reward if isinstance(given_reward, tuple) else (given_reward, {})
            named.append(Named(type(reward).__name__, reward, "reward", **changes))
        components = replace(plain.components, dialect=CASES[dialect].dialect, rewards=named)
        return replace(plain, components=components)

    return make


def prepared(context, **options):
    stage = GoldCheck(**options)
    stage.prepare(context)
    return stage


def only(stage, row):
    (result,) = stage.apply([row])
    return result


def codes(results):
    return Counter(result.code for result in results if isinstance(result, Dropped))


class Takes:
    """Full marks for a reply whose first call's arguments are these."""

    def __init__(self, arguments):
        self.arguments, self.seen = arguments, []

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        self.seen += rollouts.texts
        return [self.judge(parse) for parse in rollouts.parses]

    def judge(self, parse):
        given = parse.calls[0].to_json()["arguments"]
        if json.dumps(given, sort_keys=True) == json.dumps(self.arguments, sort_keys=True):
            return Verdict(1.0)
        wrong = next((a for a in parse.calls[0].arguments if self.arguments.get(a.name) != a.value), None)
        return Verdict(0.5, (Reason("picky", "other arguments", None if wrong is None else wrong.value_span),))


class Abstains:
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict.abstain("not mine")] * len(rollouts)


class Raises:
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        raise RuntimeError("the disk is full")


class NeedsTokens:
    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict(float(length > 0)) for length in rollouts.lengths.tolist()]


class Below:
    """Between -1 and `best`, without a reason."""

    range = (-1.0, 0.0)

    def __init__(self, best):
        self.best = best

    @hookimpl
    def score(self, rollouts: Rollouts) -> list[Verdict]:
        return [Verdict(self.best)] * len(rollouts)


# ------------------------------------------------------------------------------------------------------- laws


@pytest.mark.parametrize("options", [{}, {"keep_unanswered": True, "attempts": 2}])
def test_laws(options):
    check_stage(GoldCheck(**options), examples=8)


def test_laws_where_thinking_is_asked_for(context):
    rewards = [plugin("reward", name) for name in ("ast_match", "think_format", "abstention", "tool_match")]
    check_stage(GoldCheck(), context=context(*rewards, dialect="egpo"), examples=5)


@settings(max_examples=25)
@given(rows=st.lists(tasks(), max_size=2))
def test_a_row_is_kept_where_an_independent_gold_earns_full_marks(context, rows):
    """The testing kit's gold reply is a right one: a row of which it is must not be dropped."""
    dialect = CASES["python_calls"].dialect
    for row, result in zip(rows, prepared(context()).apply(rows), strict=True):
        (score,) = scores_of(AstMatch(), dialect, row, [gold_text(dialect, row)])
        assert score == 1.0
        assert result is row


@settings(max_examples=40)
@given(
    allowed=st.lists(st.integers(0, 3), min_size=1, max_size=4, unique=True),
    others=st.lists(st.sampled_from(["x", "y", ""]), min_size=1, max_size=3, unique=True),
    wanted=st.integers(0, 3),
    other=st.sampled_from(["x", "y", None]),
)
def test_every_allowed_value_is_tried(context, allowed, others, wanted, other):
    """Kept exactly if the one reply that the reward takes is among those that the answer allows."""
    arguments = {"a": wanted} if other is None else {"a": wanted, "b": other}
    result = only(prepared(context(Takes(arguments))), asked({"a": allowed, "b": others}))
    possible = wanted in allowed and (("" in others) if other is None else (other in others))
    assert isinstance(result, Task) == possible
    if not possible:
        assert result.code == "picky"


# ------------------------------------------------------------------------------------------------------- BFCL


@pytest.fixture(scope="module")
def bfcl():
    return list(Bfcl(list(WITH_KEY)).load())


def test_by_bfcls_rules_the_unsatisfiable_keys_are_dropped_and_no_others(context, bfcl):
    """Those whose key does not fit the schema; tests of `ast_validate` find them by search."""
    results = list(prepared(context(AstMatch("bfcl"))).apply(bfcl))
    assert sum(result is row for result, row in zip(results, bfcl, strict=True)) == 2347
    for result in results:
        if isinstance(result, Dropped):
            function, key = result.task.meta["functions"], result.task.meta["possible_answer"]
            parameters = next(f for f in function if f["name"] in key[0])["parameters"]
            ((_, arguments),) = key[0].items()
            needed = {name for name, allowed in arguments.items() if "" not in allowed}
            assert (
                [] in arguments.values()
                or needed - parameters["properties"].keys()
                or set(parameters["required"]) - arguments.keys()
            )


@pytest.mark.slow
@pytest.mark.parametrize("dialect", CASES)
def test_in_every_dialect_the_same_rows_of_bfcl_are_dropped(context, bfcl, dialect):
    rows = [*bfcl, *Bfcl(list(NO_CALL)).load()]
    assert codes(prepared(context(AstMatch("bfcl"), dialect=dialect)).apply(rows)) == {
        "missing_argument": 3,
        "unexpected_argument": 1,
    }
    assert codes(prepared(context(dialect=dialect)).apply(rows)) == {"not_applicable": 23}


def test_what_the_strict_reward_cannot_judge_is_dropped_whatever_else_does(context, bfcl):
    """`abstention` sees that there is a call, which is not to say that it is the right one."""

    def judgeable(row):
        try:
            AnswerKey(row, row.answer)
        except SchemaError:
            return False
        return True

    rows = [row for row in bfcl if row.meta["category"] in ("live_simple", "parallel_multiple")]
    expected = [judgeable(row) for row in rows]
    assert 0 < expected.count(False) < 10
    for rewards in ([AstMatch()], [AstMatch(), plugin("reward", "abstention")]):
        results = list(prepared(context(*rewards)).apply(rows))
        assert [isinstance(result, Task) for result in results] == expected
        assert codes(results).keys() == {"not_applicable"}


def test_rows_without_calls_are_kept(context):
    rows = list(Bfcl(list(NO_CALL), limit=100).load())
    rewards = [plugin("reward", name) for name in ("ast_match", "think_format", "abstention")]
    assert list(prepared(context(*rewards, dialect="egpo")).apply(rows)) == rows


@pytest.mark.parametrize("dialect", ["egpo", "funrl"])
def test_the_reply_thinks_where_the_dialect_does(context, bfcl, dialect):
    rewards = [plugin("reward", "ast_match", mode="bfcl"), plugin("reward", "think_format", min_characters=20)]
    rewards.append(plugin("reward", "parameter_extraction", must_state=True))
    stage = prepared(context(*rewards, dialect=dialect), leave_out=["ParameterExtraction"])
    assert codes(stage.apply(bfcl[:150])) == {}
    stating = prepared(context(*rewards, dialect=dialect))
    assert "thinking_contradicts" not in codes(stating.apply(bfcl[:150]))
    assert "not_stated" not in codes(stating.apply(bfcl[:150]))


def test_values_that_the_thinking_cannot_hold(context):
    """A value with the thinking's own tag, and one that is long: the thinking does not state it then."""
    text = Tool("f", "", {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]})
    stage = prepared(context(AstMatch(), plugin("reward", "think_format"), dialect="hermes"))
    for value in ("</think>", "<think>", "x" * 8000):
        row = asked({"a": [value]}, tools=(text,))
        assert only(stage, row) is row


# ---------------------------------------------------------------------------------------------------- the search


def test_the_argument_that_the_reward_complains_of_is_changed_first(context):
    takes = Takes({"a": 1, "b": 9})
    row = asked({"a": [1, *range(100, 120)], "b": [*range(10, 15), 9]})
    assert only(prepared(context(takes), attempts=6), row) is row
    assert all("a=1," in text for text in takes.seen)
    assert len(takes.seen) == 6
    assert isinstance(only(prepared(context(takes), attempts=5), row), Dropped)


def test_objects_are_unwrapped(context):
    box = Tool("f", "", {"type": "object", "properties": {"a": {"type": "object"}}, "required": ["a"]})
    row = asked({"a": [{"x": [1, 2], "y": ["", 5]}]}, tools=(box,))
    assert only(prepared(context(Takes({"a": {"x": 2}}))), row) is row


def test_the_mark_for_left_out_is_tried_as_a_text_at_last(context):
    row = asked({"a": [""], "b": ["", "x"]})
    assert only(prepared(context(Takes({"b": "x"}))), row) is row
    assert only(prepared(context(Takes({"a": "", "b": "x"}))), row) is row


def test_the_code_and_the_message_are_of_the_first_reply(context):
    result = only(prepared(context()), asked({"a": [1], "c": [2]}))
    assert isinstance(result, Dropped)
    assert result.code == "not_applicable"  # the strict reward cannot judge by this answer
    result = only(prepared(context(AstMatch("bfcl"))), asked({"a": [1], "c": [2]}))
    assert result.code == "unexpected_argument"
    assert "AstMatch gives 0 of 1" in result.message
    assert "[f(a=1, c=2)]" in result.message


# ------------------------------------------------------------------------------------------------------- rewards


def test_full_marks_are_the_upper_end_of_the_rewards_range(context):
    row = asked({"a": [1]})
    assert only(prepared(context(Below(0.0))), row) is row
    assert only(prepared(context(Below(-0.1))), row).code == "not_full_marks"
    assert only(prepared(context(AstMatch(), (Below(-0.1), {"weight": 0.0}))), row) is row  # only watched


def test_abstentions(context):
    row = asked({"a": [1]})
    assert only(prepared(context(AstMatch(), Abstains())), row) is row
    for rewards in ([Abstains()], [Abstains(), plugin("reward", "abstention")]):
        assert only(prepared(context(*rewards)), row).code == "not_applicable"


def test_failures(context):
    row = asked({"a": [1]})
    result = only(prepared(context(AstMatch(), Raises())), row)
    assert result.code == "reward_failed"
    assert "Raises failed" in result.message
    assert "the disk is full" in result.message
    floor = FailurePolicy("floor", floor=1.0)
    assert only(prepared(context((Raises(), {"policy": floor}))), row).code == "reward_failed"
    stage = prepared(context((Raises(), {"policy": FailurePolicy("stop")})))
    with pytest.raises(CallwrightError, match=r"gold_check: .*the disk is full"):
        only(stage, row)


def test_rewards_that_need_tokens_are_named_and_can_be_left_out(context):
    row = asked({"a": [1]})
    result = only(prepared(context(AstMatch(), NeedsTokens())), row)
    assert result.code == "reward_failed"
    assert "`mask` is not known" in result.message
    assert only(prepared(context(AstMatch(), NeedsTokens()), leave_out=["NeedsTokens"]), row) is row
    with pytest.raises(CallwrightError, match=r"no reward 'NeedsToken'.*NeedsTokens"):
        prepared(context(AstMatch(), NeedsTokens()), leave_out=["NeedsToken"])
    with pytest.raises(CallwrightError, match="every reward"):
        prepared(context(NeedsTokens()), leave_out=["NeedsTokens"])


# ------------------------------------------------------------------------------------------------------- options


def test_rows_without_an_answer(context):
    row = Task("t", (USER,), (F,))
    assert only(prepared(context()), row).code == "no_answer"
    assert only(prepared(context(), keep_unanswered=True), row) is row


@pytest.mark.parametrize("name", ["not a name", "", "\ud800", 5, None])
def test_answers_that_cannot_be_written(context, name):
    assert only(prepared(context()), asked({"a": [1]}, name=name)).code == "unwritable"


def test_many_rows_come_in_order(context):
    rows = [replace(asked({"a": [n if n % 3 else "x"]}), id=str(n)) for n in range(600)]
    results = list(prepared(context()).apply(rows))
    assert [isinstance(result, Task) for result in results] == [n % 3 > 0 for n in range(600)]
    assert [(r if isinstance(r, Task) else r.task).id for r in results] == [row.id for row in rows]


def test_options_are_checked():
    assert build_component(GoldCheck, {"attempts": 3}, "data.stages.0").attempts == 3
    with pytest.raises(ValueError, match="attempts must be at least 1, not 0"):
        GoldCheck(attempts=0)
    with pytest.raises(CallwrightError, match="call `prepare` first"):
        list(GoldCheck().apply([asked({})]))
