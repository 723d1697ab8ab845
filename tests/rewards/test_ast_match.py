"""`ast_match` in BFCL's mode; the strict mode has test_strict.py."""

import pickle

import pytest
from callwright import Answer, ExpectedCall, ReasonCode, Task, Tool
from callwright_data.sources.bfcl import Bfcl
from callwright_dialects.funrl import FunRL
from callwright_dialects.hermes import Hermes
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.ast_match import AstMatch, bfcl_key
from callwright_rewards.bfcl import check

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": ["integer", "null"]},
        "hours": {"type": "array", "items": {"type": "number"}},
        "at": {"type": "object"},
        "note": {},
    },
    "required": ["city"],
}
TOOLS = (Tool("weather", "", SCHEMA), Tool("time"))
ARGUMENTS = {"city": ["Ulm"], "days": [3, ""], "hours": [[1.5], ""], "at": [{"x": [1]}, ""], "note": ["n", ""]}
TASK = Task("t", (), TOOLS, Answer((ExpectedCall("weather", ARGUMENTS),)))
NO_CALL = Task("n", (), TOOLS, Answer())


@pytest.fixture
def judge(rollouts_of):
    def run(task, text, dialect=None):
        (verdict,) = AstMatch(mode="bfcl").score(rollouts=rollouts_of(dialect or PythonCalls(), [task], [text]))
        return verdict

    return run


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("[weather(city='ulm', days=3)]", ReasonCode.CORRECT, "weather(city='ulm', days=3)"),
        ("weather(city='Ulm', at={'x': 1})", ReasonCode.CORRECT, "weather(city='Ulm', at={'x': 1})"),
        ("[time(city='Ulm')]", ReasonCode.WRONG_FUNCTION, "time"),
        ("[weather(days=3)]", ReasonCode.MISSING_ARGUMENT, "weather(days=3)"),
        ("[weather('Ulm')]", ReasonCode.POSITIONAL_ARGUMENT, "'Ulm'"),
        ("[weather(city='Ulm', town='Ulm')]", ReasonCode.UNEXPECTED_ARGUMENT, "town"),
        ("[weather(city='Ulm', days='3')]", ReasonCode.WRONG_TYPE, "'3'"),
        ("[weather(city='Ulm', hours=(1.5,))]", ReasonCode.WRONG_TYPE, "(1.5,)"),
        ("[weather(city='Bonn')]", ReasonCode.WRONG_VALUE, "'Bonn'"),
        ("[weather(city='Ulm', at={'x': 2})]", ReasonCode.WRONG_VALUE, "{'x': 2}"),
        ("[weather(city='Ulm', city='Bonn')]", ReasonCode.WRONG_VALUE, "'Bonn'"),
        ("[weather(city='Ulm'), time()]", ReasonCode.WRONG_CALL_COUNT, "weather(city='Ulm'), time()"),
        ("[weather(city='Ulm'", ReasonCode.UNPARSABLE, "[weather(city='Ulm'"),
        ("I do not know.", ReasonCode.NO_CALL, "I do not know."),
        ("", ReasonCode.NO_CALL, ""),
        ("[]", ReasonCode.NO_CALL, "[]"),
    ],
)
def test_reasons_and_their_places(judge, text, code, place):
    verdict = judge(TASK, text)
    (reason,) = verdict.reasons
    assert reason.code == code
    assert verdict.score == float(code is ReasonCode.CORRECT)
    assert text[slice(*reason.span)] == place
    thinking = f"<think>weather(city='x')</think><answer>{text}</answer>"
    inside = judge(TASK, thinking, FunRL())
    assert (inside.score, inside.reasons[0].code) == (verdict.score, code)
    assert thinking[slice(*inside.reasons[0].span)] == place


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("There is no function for that.", ReasonCode.CORRECT),
        ("[]", ReasonCode.CORRECT),
        ("", ReasonCode.CORRECT),
        ("[weather(city='Ulm')]", ReasonCode.UNEXPECTED_CALL),
        ("[weather(city=", ReasonCode.UNPARSABLE),
        ("<tool_call>x</tool_call>", ReasonCode.UNPARSABLE),
    ],
)
def test_a_malformed_call_is_no_abstention(judge, text, code):
    verdict = judge(NO_CALL, text)
    assert verdict.reasons[0].code == code
    assert verdict.score == float(code is ReasonCode.CORRECT)


def test_without_an_answer_it_abstains(judge):
    verdict = judge(Task("x", (), TOOLS), "[weather(city='Ulm')]")
    assert verdict.score is None
    assert verdict.failure is None


@pytest.mark.parametrize("task", [TASK, NO_CALL])
def test_without_a_place_for_calls_it_is_wrong(judge, task):
    verdict = judge(task, "[weather(city='Ulm')]", FunRL())
    assert verdict.score == 0.0
    assert verdict.reasons[0].code == ReasonCode.BAD_FORMAT


def test_agrees_with_check_on_bfcl(rollouts_of):
    tasks = list(Bfcl(["simple_python", "parallel", "live_multiple"], limit=40).load())
    texts = [PythonCalls().render(PythonCalls().parse(first_answer(task)).calls) for task in tasks]
    texts = [text if row % 3 else text.replace("=", "=-", 1) for row, text in enumerate(texts)]
    verdicts = AstMatch(mode="bfcl").score(rollouts=rollouts_of(PythonCalls(), tasks, texts))
    for task, text, verdict in zip(tasks, texts, verdicts, strict=True):
        meta = task.meta
        expected = check(text, meta["functions"], meta["possible_answer"], meta["category"])
        assert verdict.score == float(expected.valid)
        assert expected.valid or expected.error_type in verdict.reasons[0].message
    assert 0.3 < sum(verdict.score for verdict in verdicts) / len(verdicts) < 0.9


def first_answer(task):
    calls = [(name, given) for call in task.meta["possible_answer"] for name, given in call.items()]
    return ", ".join(
        f"{name}({', '.join(f'{a}={values[0]!r}' for a, values in given.items() if values[0] != '')})"
        for name, given in calls
    )


@pytest.mark.parametrize("mode", ["strict", "bfcl"])
def test_same_text_is_judged_once(rollouts_of, monkeypatch, mode):
    seen = []
    judge = AstMatch.judge
    monkeypatch.setattr(AstMatch, "judge", lambda self, *args: seen.append(args) or judge(self, *args))
    texts = ["[weather(city='Ulm')]", "[weather(city='Bonn')]"] * 4
    verdicts = AstMatch(mode=mode).score(rollouts=rollouts_of(PythonCalls(), [TASK] * 8, texts))
    assert [verdict.score for verdict in verdicts] == [1.0, 0.0] * 4
    assert len(seen) == 2


JSON_REPLY = '<tool_call>{"name": "weather", "arguments": {"city": "ulm.", "days": 3}}</tool_call>'


@pytest.mark.parametrize(
    ("text", "score"),
    [
        (JSON_REPLY, 1.0),
        (JSON_REPLY.replace("3", "4"), 0.0),
        ("[weather(city='Ulm')]", 0.0),  # right in BFCL's own format, and no call in this one
        ("<tool_call>[weather(city='Ulm')]</tool_call>", 0.0),
    ],
)
def test_calls_in_json(judge, text, score):
    assert judge(TASK, text, Hermes()).score == score


def test_pickled_without_what_it_keeps(rollouts_of):
    reward = AstMatch()
    reward.score(rollouts=rollouts_of(PythonCalls(), [TASK], ["[weather(city='Ulm')]"]))
    again = pickle.loads(pickle.dumps(reward))
    assert (again, len(again._strict.kept), len(reward._strict.kept)) == (reward, 0, 1)


def test_key_from_json_schema():
    functions, key, category = bfcl_key(TASK, TASK.answer)
    assert functions[0]["parameters"]["properties"] == {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "hours": {"type": "array", "items": {"type": "float"}},
        "at": {"type": "dict"},
        "note": {"type": "any"},
    }
    assert key == [{"weather": ARGUMENTS}]
    assert category == "multiple"
    assert bfcl_key(Task("1", (), TOOLS[:1]), TASK.answer)[2] == "simple"
    assert bfcl_key(TASK, Answer(TASK.answer.calls * 2))[2] == "parallel_multiple"
