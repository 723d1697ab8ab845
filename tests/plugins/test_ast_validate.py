"""The stage `ast_validate`."""

import importlib.util
import json
import subprocess
from collections import Counter
from pathlib import Path

import jsonschema
import pytest
from callwright import Answer, CallwrightError, ExpectedCall, Task, Tool
from callwright.plugins import build_component
from callwright.testing import check_stage, tasks
from callwright.types import Corrected, Dropped
from callwright_data._allowed_values import LEFT_OUT, choices, plain_values
from callwright_data.ast_validate.stage import AstValidate, FindingCode, rewrite_calls
from callwright_data.ast_validate.tool_check import ToolCheck
from callwright_data.sources.bfcl import NO_CALL, WITH_KEY, Bfcl
from callwright_rewards.bfcl import check
from callwright_rewards.call_match import AnswerKey
from callwright_rewards.tool_schema import SchemaError, ToolSchema
from hypothesis import assume, example, given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
PEER = ROOT / ".venvs" / "bfcl" / "bin" / "python"
USER = {"role": "user", "content": "?"}


def tool(name="f", required=("a",), **properties):
    return Tool(name, "", {"type": "object", "properties": properties, "required": list(required)})


def task(tools, calls=None, **meta):
    answer = None if calls is None else Answer(tuple(ExpectedCall(name, given) for name, given in calls))
    return Task("t", (USER,), tuple(tools), answer, meta)


def only(stage, row):
    (result,) = stage.apply([row])
    return result


# ----------------------------------------------------------------------------------------------------- any rows

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4)
WORDS = st.sampled_from(["", "a", "A", "f", "F_", "5", "5.0", "true", "null", "[1]", "x y", "x_y", "\ud800", "\x00"])
JSON_VALUES = st.recursive(
    SCALARS | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
TYPES = st.sampled_from(["string", "integer", "number", "boolean", "array", "object", "null"])
SCHEMAS = st.recursive(
    st.fixed_dictionaries(
        {}, optional={"type": TYPES | st.lists(TYPES, max_size=2), "enum": st.lists(SCALARS | WORDS)}
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": TYPES,
            "items": inner,
            "properties": st.dictionaries(WORDS, inner, max_size=3),
            "required": st.lists(WORDS, max_size=2),
            "additionalProperties": st.booleans() | inner,
            "minimum": st.integers(-2, 9),
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "default": SCALARS,
            "pattern": st.sampled_from(["a", "(", "^$"]),
            "$ref": st.sampled_from(["#", "#/nowhere", "https://example.org/x"]),
        },
    ),
    max_leaves=5,
)
TOOLS = st.builds(Tool, WORDS, st.just(""), SCHEMAS | JSON_VALUES)
ARGUMENTS = st.dictionaries(WORDS, st.lists(JSON_VALUES, max_size=3) | JSON_VALUES, max_size=3) | JSON_VALUES
CALL_TEXTS = st.lists(
    st.sampled_from(
        ["[", "]", "f(", ")", "a=", "A=", "5", "'5'", "true", ", ", "None", "x_y", " ", "{", "}", "'", "**"]
    ),
    max_size=12,
).map("".join)
ODD_TASKS = st.builds(
    Task,
    WORDS,
    st.lists(JSON_VALUES, max_size=2).map(tuple),
    st.lists(TOOLS, max_size=3).map(tuple),
    st.none() | st.lists(st.builds(ExpectedCall, WORDS | SCALARS, ARGUMENTS), max_size=2).map(tuple).map(Answer),
    st.dictionaries(
        st.sampled_from(["answer_text", "functions", "possible_answer", "category"]),
        CALL_TEXTS | JSON_VALUES | st.sampled_from(["simple_java", "irrelevance", "parallel"]),
    ),
)


STAGES = [AstValidate(), AstValidate(fix=True), AstValidate(fix=True, rules="bfcl")]


@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_laws(stage):
    check_stage(stage, tasks=tasks() | ODD_TASKS, examples=8)


@pytest.mark.parametrize("key", [{"": None}, [{}], "", [""], [None], 5])
def test_a_key_of_another_shape_is_a_finding(key):
    answer = Answer((ExpectedCall("f", {}),))
    row = Task("t", (), (Tool("f", "", {}),), answer, {"functions": "", "possible_answer": key})
    (result,) = AstValidate().apply([row])
    assert isinstance(result, Dropped)


@pytest.mark.slow
@pytest.mark.parametrize("stage", STAGES, ids=repr)
def test_laws_on_many_tasks(stage):
    check_stage(stage, tasks=tasks() | ODD_TASKS, examples=400)


@given(tasks())
def test_tasks_that_fit_their_tools_are_kept(row):
    assert only(AstValidate(rules="schema"), row) is row


# ------------------------------------------------------------------------------------------------------- BFCL


@pytest.fixture(scope="module")
def bfcl():
    return list(Bfcl(list(WITH_KEY)).load())


def values_of(option):
    """Independently of the stage: what an allowed value can stand for, as it is and with dicts' lists resolved."""
    yield option
    if isinstance(option, list):
        yield [float(item) if type(item) is int else item for item in option]
        yield [next(iter(dicts_of(item))) if isinstance(item, dict) else item for item in option]
    if isinstance(option, dict):
        yield from dicts_of(option)


def dicts_of(option):
    found = [{}]
    for key, allowed in option.items():
        found = [
            base if value == "" else {**base, key: inner}
            for base in found[:50]
            for value in (allowed if isinstance(allowed, list) else [allowed])
            for inner in (values_of(value) if value != "" else [""])
        ]
    return found


def satisfying_reply(row):
    """A reply that BFCL's checker takes, found by asking it about whole calls and changing what it complains of; None
    if no value is left to try for an argument. The checker judges each argument by itself."""
    functions = {function["name"]: function for function in row.meta["functions"]}
    reply = []
    for call in row.meta["possible_answer"]:
        ((name, allowed),) = call.items()
        left = {argument: [v for option in options for v in values_of(option)] for argument, options in allowed.items()}
        for argument, options in allowed.items():
            left[argument] += [[], {}, None, 0, 0.0, False, "x"] if "" not in options else []
        given = {argument: values.pop(0) for argument, values in left.items() if values}
        while not (result := check([{name: given}], [functions[name]], [call], "simple")).valid:
            if result.argument is None:
                return None
            if left.get(result.argument):
                given[result.argument] = left[result.argument].pop(0)
            else:
                del given[result.argument]
        reply.append({name: given})
    return (
        reply if check(reply, row.meta["functions"], row.meta["possible_answer"], row.meta["category"]).valid else None
    )


def test_finds_the_unsatisfiable_keys_of_bfcl_and_no_others(bfcl):
    assert len(bfcl) == 2351
    unsatisfiable = {row.id for row in bfcl if satisfying_reply(row) is None}
    results = list(AstValidate().apply(bfcl))
    dropped = {result.task.id: result.code for result in results if isinstance(result, Dropped)}
    assert dropped.keys() == unsatisfiable
    assert sorted(dropped.values()) == ["missing_required", "unknown_parameter", "unsatisfiable", "unsatisfiable"]
    assert all(result is row for result, row in zip(results, bfcl, strict=True) if row.id not in unsatisfiable)


def test_the_rows_kept_have_a_reply_that_the_real_checker_takes(bfcl):
    if not PEER.exists():
        pytest.skip("the environment of the real bfcl-eval is not made; `make test` makes it")
    cases = [
        {"reply": reply, "functions": row.meta["functions"], "possible_answer": row.meta["possible_answer"]}
        | {"category": row.meta["category"]}
        for row in bfcl
        if (reply := satisfying_reply(row)) is not None
    ]
    script = ROOT / "tests" / "rewards" / "bfcl_peer.py"
    done = subprocess.run([PEER, script], input=json.dumps(cases), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["verdicts"] == [[True, None]] * 2347


def test_rows_without_calls_are_kept(bfcl):
    rows = list(Bfcl(list(NO_CALL)).load())
    assert all(result is row for result, row in zip(AstValidate().apply(rows), rows, strict=True))


def test_schema_rules_agree_with_the_strict_reward(bfcl):
    """Found wrong is what the strict reward cannot judge by."""

    def judgeable(row):
        try:
            AnswerKey(row, row.answer)
        except SchemaError:
            return False
        return True

    kept = [isinstance(result, Task) for result in AstValidate(rules="schema").apply(bfcl)]
    assert kept == [judgeable(row) for row in bfcl]
    assert kept.count(False) == 23


def test_bfcl_rules_take_what_json_schema_does_not():
    rate = tool(a={"type": "number"}, when={"type": "string", "enum": ["now"]})
    functions = [{"name": "f", "parameters": {"type": "dict", "properties": {}, "required": ["a"]}}]
    functions[0]["parameters"]["properties"] = {"a": {"type": "float"}, "when": {"type": "string", "enum": ["now"]}}
    key = {"a": [5], "when": ["2024-01-02"]}
    row = task([rate], [("f", key)], functions=functions, possible_answer=[{"f": key}])
    assert only(AstValidate(), row) is row
    assert only(AstValidate(rules="schema"), row).code == "not_in_enum"


# ------------------------------------------------------------------------------------------------- planted faults


@pytest.mark.parametrize("fix", [False, True])
def test_planted_faults_are_all_found_and_nothing_else(fix):
    spec = importlib.util.spec_from_file_location("data_faults", ROOT / "benchmarks" / "data_faults.py")
    faults = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(faults)
    figures = faults.measure(4000, 7, fix)
    assert figures["wrong"] == 0, figures["first_wrong"]
    assert figures["planted"].keys() - {"nothing"} == set(FindingCode)


NESTED = tool(
    required=["a"],
    a={"type": "object", "properties": {"n": {"type": "integer"}, "k": {"enum": ["On", "Off"]}}, "required": ["n"]},
)
F = tool(a={"type": "integer"}, b={"type": "string", "enum": ["Deep Blue", "red"]}, c={"type": "boolean"})
LIST = tool(a={"type": "array", "items": {"type": "integer"}})
LOOSE = Tool("f", "", {"type": "object", "properties": {}, "additionalProperties": True})


@pytest.mark.parametrize(
    ("row", "code"),
    [
        (task([F]), "no_answer"),
        (task([F], None, answer_text="I call f with 5"), "unparsable"),
        (task([F], None, answer_text="[f(a=g(5))]"), "unparsable"),
        (task([F], None, answer_text="[f(**{'a': 5})]"), "unparsable"),
        (task([F], None, answer_text="[f(a=5, c={1: 2})]"), "unparsable"),
        (task([F], None, answer_text="[f(1, 'red', True, 4)]"), "positional_argument"),
        (task([F], None, answer_text="[f(1, a=2)]"), "positional_argument"),
        (task([F], None, answer_text="[g(1)]"), "positional_argument"),
        (task([F], None, answer_text="[f(a=1, a=1)]"), "repeated_argument"),
        (task([F], None, answer_text="[g(a=1)]"), "unknown_function"),
        (task([F, tool(a={})], [("f", {"a": [1]})]), "duplicate_tool"),
        (task([Tool("f", "", {"type": "string"})], []), "invalid_schema"),
        (task([Tool("f", "", {"properties": 3})], []), "invalid_schema"),
        (task([Tool("f", "", 3)], []), "invalid_schema"),
        (task([tool(a={"$ref": "#/nowhere"})], [("f", {"a": [1]})]), "invalid_schema"),
        (task([], [("f", {})]), "call_impossible"),
        (task([F], [], possible_answer=[{"f": {"a": [1]}}]), "call_missing"),
        (task([F], [("g", {"a": [1]})]), "unknown_function"),
        (task([tool("x_y"), tool("X-Y")], [("x y", {})]), "unknown_function"),  # two could be meant
        (task([F], [("f", {"a": [1], "d": [1]})]), "unknown_parameter"),
        (task([tool(required=[], x_y={}, xy={})], [("f", {"x.y": [1]})]), "unknown_parameter"),
        (task([F], [("f", {"b": ["red"]})]), "missing_required"),
        (task([F], [("f", {"a": [""]})]), "missing_required"),
        (task([NESTED], [("f", {"a": [{"k": ["On"]}]})]), "missing_required"),
        (task([NESTED], [("f", {"a": [{"n": ["", 1], "k": [4]}]})]), "not_in_enum"),
        (task([F], [("f", {"a": [True]})]), "wrong_type"),
        (task([F], [("f", {"a": [5.5]})]), "wrong_type"),
        (task([LIST], [("f", {"a": [["x"]]})]), "wrong_type"),
        (task([F], [("f", {"a": [5], "b": ["blue"]})]), "not_in_enum"),
        (task([F], [("f", {"a": []})]), "unsatisfiable"),
        (task([NESTED], [("f", {"a": [{"n": []}]})]), "unsatisfiable"),
        (task([tool(a={"type": "integer", "maximum": 3})], [("f", {"a": [4, 5]})]), "unsatisfiable"),
        (
            task(
                [Tool("f", "", {"properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}})],
                [("f", {"a": [1]})],
            ),
            "unsatisfiable",
        ),
        (task([F], [("f", {"a": {"x": 1}})]), "malformed_allowed"),
        (task([F], [("f", [1])]), "malformed_allowed"),
        (task([F], [(5, {"a": [1]})]), "malformed_row"),
        (task([F], [("f", {5: [1]})]), "malformed_row"),
        (task([Tool([], "", {})], []), "malformed_row"),
        (task([F], [("f", {"a": [5]})], functions=3, possible_answer=4, category="java"), "malformed_row"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_mended_is_dropped(row, code):
    for fix in (False, True):
        result = only(AstValidate(fix=fix), row)
        assert isinstance(result, Dropped)
        assert result.code == code
        assert result.task is row
        assert f"{code}: " in result.message
    ignored = only(AstValidate(ignore=[code]), row)
    assert ignored is row or ignored.code != code


@pytest.mark.parametrize(
    "row",
    [
        task([F], [("f", {"a": ["x", 5]})]),  # one allowed value fits
        task([F], [("f", {"a": [5], "zebra": ["", 5]})]),  # may be left out
        task([F], [("f", {"a": [5], "b": ["", "blue"]})]),
        task([NESTED], [("f", {"a": [{"n": ["x", 5], "k": ["", 4]}]})]),
        task([LOOSE], [("f", {"zebra": [1]})]),
        task([tool(a={"type": "integer", "minimum": 3})], [("f", {"a": [1, 4]})]),
        task([Tool("f", "", {})], [("f", {"any": [1]})]),
        task([F], [], possible_answer=[]),
    ],
)
def test_satisfiable_answers_are_kept(row):
    assert only(AstValidate(), row) is row


@pytest.mark.parametrize(
    ("row", "code", "name", "arguments"),
    [
        (task([F], [("F", {"a": [1]})]), "misspelt", "f", {"a": [1]}),
        (task([F], [("f", {"A_": [1]})]), "misspelt", "f", {"a": [1]}),
        (task([F], [("f", {"a": ["5", "6"]})]), "misspelt", "f", {"a": [5, 6]}),
        (task([F], [("f", {"a": ["5.0"]})]), "misspelt", "f", {"a": [5]}),
        (task([F], [("f", {"a": [5.0]})]), "misspelt", "f", {"a": [5]}),
        (task([F], [("f", {"a": [5], "c": ["TRUE"]})]), "misspelt", "f", {"a": [5], "c": [True]}),
        (task([F], [("f", {"a": [5], "b": ["deep_blue"]})]), "misspelt", "f", {"a": [5], "b": ["Deep Blue"]}),
        (task([LIST], [("f", {"a": ["[1, 2]"]})]), "misspelt", "f", {"a": [[1, 2]]}),
        (task([LIST], [("f", {"a": [["1", 2]]})]), "misspelt", "f", {"a": [[1, 2]]}),
        (task([NESTED], [("f", {"a": [{"n": ["5"]}]})]), "misspelt", "f", {"a": [{"n": [5]}]}),
        (task([F], [("f", {"a": 5})]), "malformed_allowed", "f", {"a": [5]}),
        (task([F, F], [("f", {"a": [5]})]), "duplicate_tool", "f", {"a": [5]}),
        (task([F], None, answer_text="f(a=5)"), "answer_unread", "f", {"a": [5]}),
        (task([F], None, answer_text="[f(5, c=true)]"), "misspelt", "f", {"a": [5], "c": [True]}),
        (task([F], None, answer_text="[f('5')]"), "positional_argument", "f", {"a": [5]}),
        (task([NESTED], None, answer_text="[f(a={'n': 5})]"), "answer_unread", "f", {"a": [{"n": [5]}]}),
        (task([LIST], None, answer_text="[f(a=(1, 2))]"), "answer_unread", "f", {"a": [[1, 2]]}),
    ],
)
def test_what_is_certain_is_mended(row, code, name, arguments):
    assert only(AstValidate(), row).code == code
    result = only(AstValidate(fix=True), row)
    assert isinstance(result, Corrected)
    assert result.code == code
    (call,) = result.task.answer.calls
    assert call.name == name
    assert json.dumps(call.arguments) == json.dumps(arguments)  # 5 is not 5.0 here
    assert only(AstValidate(fix=True), result.task) is result.task


def test_the_message_lists_all_and_the_code_is_of_what_could_not_be_mended():
    row = task([F], [("F", {"A": ["5"], "zebra": [1], "b": ["blue"]})])
    result = only(AstValidate(fix=True), row)
    assert (type(result), result.code) == (Dropped, "unknown_parameter")
    listed = Counter(part.split(":")[0] for part in result.message.split("; "))
    assert listed == {"misspelt": 3, "unknown_parameter": 1, "not_in_enum": 1}


def test_options_are_checked():
    build = lambda **options: build_component(AstValidate, options, "data.stages.0")  # noqa: E731
    assert build(ignore=["no_answer"]).ignore == [FindingCode.NO_ANSWER]
    with pytest.raises(CallwrightError, match="ignore"):
        build(ignore=["no_anser"])
    with pytest.raises(ValueError, match="no code 'no_anser'"):
        AstValidate(ignore=["no_anser"])


# --------------------------------------------------------------------------------------------------- tool schemas


@given(SCHEMAS, JSON_VALUES)
@example({"type": "integer"}, 5.0)
@example({"enum": [1]}, True)
@example({"type": "array", "items": {"type": "number"}}, [1, True])
@example({"type": "object", "required": ["a"], "additionalProperties": False}, {"a": 1, "b": 2})
def test_quick_checks_agree_with_jsonschema(schema, value):
    described = Tool("f", "", {"type": "object", "properties": {"a": schema}})
    quick = ToolCheck(described)
    try:
        full = ToolSchema(described)
    except SchemaError:
        assert quick.fault is not None
        return
    assert quick.fault is None
    try:
        fits = not list(full.validator.iter_errors({"a": value}))
    except Exception:
        with pytest.raises(SchemaError):
            quick.mismatch("a", value)
        return
    assert (quick.mismatch("a", value) is None) == fits
    assert full.fits("a", value) == fits
    assert (not list(full.errors({"a": value}))) == fits


@given(st.dictionaries(st.sampled_from(["type", "properties", "required", "additionalProperties"]), JSON_VALUES))
def test_invalid_schemas_are_those_of_jsonschema(schema):
    described = Tool("f", "", schema)
    try:
        jsonschema.Draft202012Validator.check_schema(schema)
    except jsonschema.SchemaError:
        assert ToolCheck(described).fault is not None
        with pytest.raises(SchemaError):
            ToolSchema(described)
    else:
        ToolSchema(described)
        kinds = schema.get("type", "object")
        assume("object" in ([kinds] if isinstance(kinds, str) else kinds))
        assert ToolCheck(Tool("f", "", schema)).fault is None


def test_kept_tools_are_bounded_and_told_apart_by_content(monkeypatch):
    monkeypatch.setattr(ToolCheck, "MAX_KEPT", 10)
    monkeypatch.setattr(ToolCheck, "_kept", {})
    for number in range(50):
        kinds = [{"type": "integer", "description": str(number)}, {"type": "string", "description": str(number)}]
        checks = [ToolCheck.of(tool(a=kind)) for kind in kinds]
        assert [check.mismatch("a", 5) is None for check in checks] == [True, False]
        assert ToolCheck.of(tool(a=dict(kinds[0]))) is checks[0]
    assert len(ToolCheck._kept) == 10


@given(st.lists(JSON_VALUES, max_size=3))
def test_choices(allowed):
    """The first value stands first, none holds a mark, and leaving out comes last where it is allowed."""
    found = list(choices(allowed))
    assert (found[-1:] == [LEFT_OUT]) == any(isinstance(option, str) and not option for option in allowed)
    scalars = [option for option in allowed if not isinstance(option, list | dict) and option != ""]
    assert [value for value in found if not isinstance(value, list | dict) and value is not LEFT_OUT] == scalars


def test_choices_resolve_objects():
    option = {"a": [1, 2], "b": ["", "x"], "c": 3}
    wanted = [{"a": a, **b, "c": 3} for a in (1, 2) for b in ({"b": "x"}, {})]
    assert list(plain_values(option)) == wanted
    assert next(plain_values([option])) == [wanted[0]]
    assert sum(1 for _ in plain_values([[{"a": list(range(100))}] * 5])) == 4096


# ------------------------------------------------------------------------------------------------------ the text

TEXT_TOOLS = [
    tool("shop.find_item", ["item name"], **{"item name": {"type": "string"}, "count": {"type": "integer"}}),
    tool("get", ["Where"], Where={"type": "string", "enum": ["Paris", "Rome"]}, exact={"type": "boolean"}),
]
SPACE = st.sampled_from(["", " ", "  ", "\n", "\r\n", "\t", " # é, 'x'\n"])
PIECES = {
    "value": [('"5"', "5"), ("5", "5"), ("0x_5", "0x_5"), ("5.0", "5"), ("-5", "-5")],
    "place": [("'Paris'", "'Paris'"), ("'paris'", "'Paris'"), ('"ROME"', "'Rome'"), ("r'Rome'", "r'Rome'")],
    "exact": [("true", "True"), ("False", "False"), ("'false'", "False"), ("null", "None")],
}


@st.composite
def written_calls(draw):
    """(text, mended text): pieces that are right or misspelt, and between them white space and comments."""
    text, mended = "", ""

    def add(piece, repaired=None):
        nonlocal text, mended
        text, mended = text + piece, mended + (piece if repaired is None else repaired)

    def gap():
        add(draw(SPACE))

    add(draw(st.sampled_from(["[", " [", "`["])))
    for number in range(draw(st.integers(1, 3))):
        add(", " if number else "")
        gap()
        add(draw(st.sampled_from(["get", "Get", "g_e_t"])), "get")
        gap()
        add("(")
        gap()
        places = draw(st.sampled_from(["positional", "Where", "where", "WHERE"]))
        if places != "positional":
            add(places, "Where")
            gap()
            add("=")
            gap()
            add(*draw(st.sampled_from(PIECES["place"])))
        else:
            piece, repaired = draw(st.sampled_from(PIECES["place"]))
            add(piece, f"Where={repaired}")
        gap()
        add(",")
        gap()
        add("exact=")
        add(*draw(st.sampled_from(PIECES["exact"])))
        gap()
        add(")")
    gap()
    add(draw(st.sampled_from(["]", ",]", "]\n"])))
    return text, mended


@given(written_calls())
def test_rewriting_leaves_the_rest_to_the_character(pair):
    text, mended = pair
    found = rewrite_calls(text, TEXT_TOOLS)
    assert found[0] == mended
    assert bool(found[1]) == (text != mended)
    assert all(finding.mended for finding in found[1])
    assert rewrite_calls(mended, TEXT_TOOLS) == (mended, [])


@given(CALL_TEXTS | st.text(max_size=30) | written_calls().map(lambda pair: pair[0][:-3]))
@example("[(get('Paris')), get ( Where = 'rome' )]")
@example("get('Paris') # not the end")
@example("[get('Paris')," + "[" * 300)
@example("[get(exact=" + "-" * 800 + "1)]")
@example("[get(exact=" + "1+" * 800 + "true)]")
@example("[get(exact=null.true)]")
@example("[true(exact=true)]")
@example("[get('\ud800', exact=true)]")
def test_rewriting_is_total_and_idempotent(text):
    mended, found = rewrite_calls(text, [*TEXT_TOOLS, F])
    again, left = rewrite_calls(mended, [*TEXT_TOOLS, F])
    assert again == mended
    assert [finding for finding in left if finding.mended] == []
    assert [f.message for f in left] == [f.message for f in found if not f.mended]
    if any(finding.code == "unparsable" for finding in found):
        assert mended == text


def test_names_that_python_cannot_write_stay_in_the_text_and_are_mended_in_the_answer():
    text = "[shop.FIND_item(item_name='x', count='3')]"
    mended, _ = rewrite_calls(text, TEXT_TOOLS)
    assert mended == "[shop.find_item(item_name='x', count=3)]"
    result = only(AstValidate(fix=True), task(TEXT_TOOLS, None, answer_text=text))
    assert result.task.answer.calls == (ExpectedCall("shop.find_item", {"item name": ["x"], "count": [3]}),)
    assert result.task.meta["answer_text"] == mended
