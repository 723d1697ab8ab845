"""The sources `bfcl` and `jsonl`."""

import importlib.util
import json
import subprocess
import sys

import jsonschema
import pytest
from callwright import Answer, CallwrightError, ExpectedCall, RowError, Source, Task, Tool
from callwright.plugins import ComponentError, build_component
from callwright_data.sources._json_schema import json_schema
from callwright_data.sources.bfcl import CATEGORIES, OTHER_LANGUAGES, Bfcl
from callwright_data.sources.jsonl import Jsonl
from callwright_data.tools_from_python import tools_from_python

COUNTS = {
    "simple_python": 400,
    "multiple": 200,
    "parallel": 200,
    "parallel_multiple": 200,
    "live_simple": 258,
    "live_multiple": 1053,
    "live_parallel": 16,
    "live_parallel_multiple": 24,
    "irrelevance": 240,
    "live_irrelevance": 884,
    "live_relevance": 16,
}


@pytest.fixture(scope="module")
def tasks():
    return list(Bfcl(list(CATEGORIES)).load())


def test_bfcl_has_every_row(tasks):
    counts = {}
    for task in tasks:
        counts[task.meta["category"]] = counts.get(task.meta["category"], 0) + 1
    assert counts == COUNTS
    assert len({task.id for task in tasks}) == len(tasks)


def test_bfcl_answers(tasks):
    for task in tasks:
        if task.meta["category"] == "live_relevance":
            assert task.answer is None
        elif "irrelevance" in task.meta["category"]:
            assert task.answer == Answer()
        else:
            assert [{call.name: call.arguments} for call in task.answer.calls] == task.meta["possible_answer"]
            assert {call.name for call in task.answer.calls} <= {tool.name for tool in task.tools}


def test_bfcl_tools_are_json_schema(tasks):
    for task in tasks[::20]:
        for tool, function in zip(task.tools, task.meta["functions"], strict=True):
            assert tool.name == function["name"]
            assert tool.parameters["type"] == "object"
            jsonschema.Draft202012Validator.check_schema(tool.parameters)


def test_bfcl_types_become_json_schema_types():
    schema = {
        "type": "dict",
        "properties": {
            "type": {"type": "float", "default": 1.0},
            "items": {"type": "tuple", "items": {"type": "any", "description": "x"}},
        },
        "required": ["type"],
    }
    assert json_schema(schema) == {
        "type": "object",
        "properties": {
            "type": {"type": "number", "default": 1.0},
            "items": {"type": "array", "items": {"description": "x"}},
        },
        "required": ["type"],
    }
    assert schema["type"] == "dict"


def test_bfcl_java_and_javascript():
    tasks = list(Bfcl(list(OTHER_LANGUAGES)).load())
    assert [task.meta["category"] for task in tasks] == ["simple_java"] * 100 + ["simple_javascript"] * 50
    for task in tasks:
        (tool,), (call,) = task.tools, task.answer.calls
        assert call.name == tool.name
        jsonschema.Draft202012Validator.check_schema(tool.parameters)
        for name, values in call.arguments.items():
            kind = {key: part for key, part in tool.parameters["properties"][name].items() if key == "type"}
            validator = jsonschema.Draft202012Validator(kind)
            # BFCL also takes the name of a variable, a text, for a parameter of any type
            assert all(isinstance(value, str) or validator.is_valid(value) for value in values), (task.id, name)
    assert "simple_java_0" not in {task.id for task in Bfcl(list(CATEGORIES)).load()}


def test_bfcl_rows_that_cannot_be_read(tmp_path, monkeypatch):
    row = {"id": "a", "question": [[{"role": "user", "content": "q"}]], "function": [FUNCTION]}
    answers = tmp_path / "data" / "possible_answer"
    answers.mkdir(parents=True)
    lines = [row, {**row, "id": "b"}, {**row, "id": "c", "function": 3}, "{", {**row, "id": "e"}, {**row, "id": "f"}]
    keys = [{"id": i, "ground_truth": [{"f": {"x": [1]}}]} for i in ("a", "z", "c", "d", "e")]
    for path, written in ((answers.parent, lines), (answers, keys)):
        texts = (line if isinstance(line, str) else json.dumps(line) for line in written)
        (path / "BFCL_v4_multiple.json").write_text("\n".join(texts))
    spec = importlib.util.spec_from_loader("bfcl_eval", None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    first, *errors, fifth, last = Bfcl(["multiple"]).load()
    assert (first.id, fifth.id) == ("a", "e")
    assert [(error.row, error.field_name) for error in [*errors, last]] == [
        (2, "id"),
        (3, "function"),
        (4, "(whole row)"),
        (6, "id"),
    ]
    with pytest.raises(CallwrightError, match="may have other files"):
        list(Bfcl(["parallel"]).load())


FUNCTION = {"name": "f", "description": "", "parameters": {"type": "dict", "properties": {"x": {"type": "integer"}}}}


def test_bfcl_fingerprint():
    one = Bfcl(["multiple"]).fingerprint()
    assert one.startswith("bfcl-eval 2026.3.23 ")
    assert one == Bfcl(["multiple"]).fingerprint() != Bfcl(["parallel"]).fingerprint()


def test_bfcl_first_row():
    (task,) = Bfcl(limit=1).load()
    assert task.id == "simple_python_0"
    assert task.messages[0]["content"].startswith("Find the area of a triangle")
    assert task.answer == Answer(
        (ExpectedCall("calculate_triangle_area", {"base": [10], "height": [5], "unit": ["units", ""]}),)
    )
    assert len(list(Bfcl(["multiple", "parallel"], limit=3).load())) == 6


def test_bfcl_package_is_not_imported():
    lines = ["import sys", "from callwright_data.sources.bfcl import Bfcl", "list(Bfcl().load())"]
    code = "; ".join([*lines, "print('bfcl_eval' in sys.modules)"])
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"


def test_bfcl_unknown_category():
    with pytest.raises(CallwrightError, match=r"'simple_pyton': did you mean 'simple_python'\?.*live_irrelevance"):
        Bfcl(["simple_pyton"])


def test_bfcl_package_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(CallwrightError, match=r"pip install --no-deps bfcl-eval==2026\.3\.23"):
        Bfcl().load()


# --------------------------------------------------------------------------------------------------------- jsonl

TOOL = {
    "name": "weather",
    "description": "Weather.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "at": {"type": "object"}}},
}
ROW = {"question": "Ulm?", "tools": [TOOL], "calls": [{"name": "weather", "arguments": {"city": "Ulm"}}]}


def load(tmp_path, *rows):
    path = tmp_path / "tasks.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows), encoding="utf-8")
    return list(Jsonl(str(path)).load())


def with_answer(form, value):
    return {"question": "Ulm?", "tools": [TOOL], form: value}


def test_jsonl_row(tmp_path):
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "Ulm?"}]
    other = {"id": "x", "messages": turns, "tools": [], "meta": {"a": 1}}
    assert load(tmp_path, ROW, "", other) == [
        Task(
            "tasks-1",
            ({"role": "user", "content": "Ulm?"},),
            (Tool(**TOOL),),
            Answer((ExpectedCall("weather", {"city": ["Ulm"]}),)),
        ),
        Task("x", tuple(turns), (), None, {"a": 1}),
    ]


def test_jsonl_answers(tmp_path):
    allowed = {"city": ["Ulm", "ulm", ""], "at": [{"day": [1, 2]}]}
    plain = {"city": "Ulm", "at": {"day": 1, "hours": [1, 2]}}
    rows = load(
        tmp_path,
        with_answer("answer", [{"name": "weather", "arguments": allowed}]),
        with_answer("calls", [{"name": "weather", "arguments": plain}]),
        with_answer("answer", []),
        with_answer("calls", []),
    )
    assert rows[0].answer.calls[0].arguments == allowed
    assert rows[1].answer.calls[0].arguments == {"city": ["Ulm"], "at": [{"day": [1], "hours": [[1, 2]]}]}
    assert rows[2].answer == rows[3].answer == Answer()


def call(**arguments):
    return [{"name": "weather", "arguments": arguments}]


@pytest.mark.parametrize(
    ("row", "name", "message"),
    [
        ("{", "(whole row)", "not JSON"),
        pytest.param("[" * 100_000, "(whole row)", "not JSON", id="deep"),
        ("[]", "(whole row)", "a JSON object"),
        ('{"question": NaN}', "(whole row)", "NaN is no finite number"),
        ({**ROW, "tool": []}, "tool", "unknown field"),
        ({**ROW, "id": 5}, "id", "a text"),
        ({**ROW, "meta": []}, "meta", "an object"),
        ({"tools": []}, "question", "either 'question' or 'messages'"),
        ({**ROW, "messages": []}, "question", "not both"),
        ({"question": 1, "tools": []}, "question", "a text"),
        ({"messages": [], "tools": []}, "messages", "at least one"),
        ({"messages": [{"role": "human", "content": ""}], "tools": []}, "messages[0].role", "one of system, user"),
        ({"messages": [{"role": "user"}], "tools": []}, "messages[0].content", "a text"),
        ({"question": "q"}, "tools", "a list"),
        ({"question": "q", "tools": [1]}, "tools[0]", "an object"),
        ({"question": "q", "tools": [{}]}, "tools[0].name", "a text"),
        ({"question": "q", "tools": [{"name": "f", "parameters": 1}]}, "tools[0].parameters", "a JSON Schema"),
        (
            {"question": "q", "tools": [{"name": "f", "parameters": {"properties": {"a": "string"}}}]},
            "tools[0].parameters.properties.a",
            "a JSON Schema",
        ),
        ({**ROW, "answer": []}, "answer", "not both"),
        (with_answer("calls", {}), "calls", "a list of calls"),
        (with_answer("answer", [1]), "answer[0]", "an object"),
        (with_answer("answer", [{"name": "wether"}]), "answer[0].name", "not among the row's tools"),
        (with_answer("answer", call(town=["Ulm"])), "answer[0].arguments.town", "no such parameter"),
        (with_answer("answer", call(city="Ulm")), "answer[0].arguments.city", "plain values go into 'calls'"),
        (with_answer("answer", call(city=[])), "answer[0].arguments.city", "a list of the values"),
        (with_answer("answer", call(at=[{"day": 1}])), "answer[0].arguments.at.day", "for this key"),
        (with_answer("answer", call(at=[[{"day": 1}]])), "answer[0].arguments.at.day", "for this key"),
    ],
    ids=str,
)
def test_jsonl_row_errors(tmp_path, row, name, message):
    first, error, last = load(tmp_path, ROW, "", row, ROW)
    assert (first.id, last.id) == ("tasks-1", "tasks-4")
    assert isinstance(error, RowError)
    assert (error.row, error.field_name) == (3, name)
    assert message in str(error)
    assert str(tmp_path / "tasks.jsonl") in str(error)


def test_jsonl_repeated_id(tmp_path):
    first, error = load(tmp_path, {**ROW, "id": "a"}, {**ROW, "id": "a"})
    assert first.id == "a"
    assert "row 2, field 'id': 'a' is already the id of row 1" in str(error)


def test_jsonl_bytes_that_are_no_text(tmp_path):
    (tmp_path / "tasks.jsonl").write_bytes(b'{"question": "\xff"}')
    (error,) = Jsonl(str(tmp_path / "tasks.jsonl")).load()
    assert isinstance(error, RowError)
    assert "row 1" in str(error)


def test_jsonl_missing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CallwrightError, match=f"data file not found: {tmp_path}/rows.jsonl"):
        Jsonl("rows.jsonl").load()


def test_jsonl_task_passes_over_what_is_not_its_own():
    fields = {**ROW, "completion": "x"}
    assert Jsonl.task(fields, "f", 3, "f-3") == Jsonl.task(ROW, "f", 3, "f-3")
    with pytest.raises(RowError, match="f, row 3, field 'tools'"):
        Jsonl.task({"question": "q"}, "f", 3, "f-3")


MODULE = '''
raise RuntimeError("it is never run")

def weather(city: str, at: dict | None = None):
    """Weather.

    Args:
        city: Where.
    """

def _helper(x): ...
'''


@pytest.fixture
def module(tmp_path):
    path = tmp_path / "my_tools.py"
    path.write_text(MODULE)
    return path


def test_jsonl_tools_of_a_python_file(tmp_path, module):
    without = {name: value for name, value in ROW.items() if name != "tools"}
    rows = [without, {**without, "tools": None}, {**without, "tools": [TOOL]}, {"question": "q", "tools": []}]
    wrong = {**without, "calls": [{"name": "_helper", "arguments": {"x": 1}}]}
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in [*rows, wrong]))
    source = Jsonl(str(tmp_path / "rows.jsonl"), tools=str(module))
    first, second, own, none, error = source.load()
    (tool,) = tools_from_python(module)
    assert first.tools == second.tools == (tool,)
    assert first.tools is second.tools
    assert first.answer == Answer((ExpectedCall("weather", {"city": ["Ulm"]}),))
    assert own.tools == (Tool(**TOOL),)
    assert none.tools == ()
    assert (error.row, error.field_name) == (5, "calls[0].name")
    assert "'_helper' is not among the row's tools" in str(error)


def test_jsonl_fingerprint_is_of_the_tools_too(tmp_path, module):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"question": "q"}))
    seen = {Jsonl(str(path)).fingerprint(), Jsonl(str(path), tools=str(module)).fingerprint()}
    module.write_text(MODULE.replace("Where", "Which town"))
    seen.add(Jsonl(str(path), tools=str(module)).fingerprint())
    assert len(seen) == 3
    assert Jsonl(str(path), tools=str(module)).fingerprint() in seen


def test_jsonl_tools_that_cannot_be_read_are_an_error_of_the_recipe(tmp_path, module):
    """Before any row is read: `callwright check` says so."""
    options = {"path": "rows.jsonl", "tools": str(module)}
    assert build_component(Jsonl, options, "data.source").tools == str(module)
    module.write_text("def weather(city: Town): ...")
    with pytest.raises(ComponentError, match=r"parameter 'city' of weather: Town is neither defined nor imported"):
        build_component(Jsonl, options, "data.source")
    with pytest.raises(ComponentError, match=r"the tools' file 'my_tools\.py' cannot be read"):
        build_component(Jsonl, {**options, "tools": "./my_tools.py"}, "data.source")
    with pytest.raises(ComponentError, match=r"tools"):
        build_component(Jsonl, {**options, "tools": [str(module)]}, "data.source")


def test_are_sources():
    assert isinstance(Bfcl(), Source)
    assert isinstance(Jsonl("x"), Source)
