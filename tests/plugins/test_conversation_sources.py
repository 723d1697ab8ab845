"""The sources of public data sets: rows in their formats, written by hand, and BFCL's tasks in each of them."""

import json
import string
from pathlib import Path

import pytest
from callwright import Answer, ExpectedCall, RowError, Source, Task
from callwright_data._literals import literal
from callwright_data.sources._json_schema import json_schema
from callwright_data.sources._row_files import read_rows
from callwright_data.sources._rows import tasks
from callwright_data.sources.bfcl import Bfcl
from callwright_data.sources.glaive import Glaive
from callwright_data.sources.hermes import Hermes
from callwright_data.sources.jsonl import Jsonl
from callwright_data.sources.openai import OpenAI
from callwright_data.sources.toolace import ToolAce, bracket_calls
from callwright_data.sources.xlam import Xlam
from callwright_dialects.python_syntax import parse_calls
from hypothesis import given
from hypothesis import strategies as st

DATA = Path(__file__).parent / "data"
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


def load(source):
    """Tasks, and what is wrong with the other rows by their number."""
    found = list(source.load())
    errors = {item.row: item for item in found if isinstance(item, RowError)}
    return [item for item in found if isinstance(item, Task)], errors


def calls(task):
    """Name and arguments of the answer's calls, of which each argument has one allowed value."""
    result = []
    for call in task.answer.calls:
        assert all(len(values) == 1 for values in call.arguments.values())
        result.append((call.name, {name: values[0] for name, values in call.arguments.items()}))
    return result


def roles(task):
    return [message["role"] for message in task.messages]


# ---------------------------------------------------------------------------------------------- values as texts


@given(value=PLAIN)
def test_literals_are_json_or_python(value):
    assert literal(json.dumps(value)) == value
    assert literal(repr(value)) == value


@given(text=st.text(max_size=30) | st.text("{}[]()'\",:=\\ aNT1.-", max_size=30))
def test_any_text_is_a_literal_or_none(text):
    try:
        json.dumps(literal(text), allow_nan=False)
    except ValueError:
        return


@pytest.mark.parametrize(
    ("text", "value"),
    [("{'a': true, 'b': (1, -2.5)}", {"a": True, "b": [1, -2.5]}), ("[None, null, 'x' 'y']", [None, None, "xy"])],
)
def test_literals_mixed(text, value):
    assert literal(text) == value


@pytest.mark.parametrize(
    "text", ["NaN", "[1e999]", "{1: 2}", "{**{}}", "f(1)", "a", "1 + 1", "b'x'", "{1}", "-'a'", "["]
)
def test_what_is_no_literal(text):
    with pytest.raises(ValueError, match="neither JSON nor a Python literal"):
        literal(text)


# --------------------------------------------------------------------------------- ToolACE's calls in brackets

TOOL_NAMES = st.text(string.ascii_letters + " ._-:/()[]'\"=,", min_size=1, max_size=12).map(str.strip).filter(bool)
ARGUMENTS = st.dictionaries(st.text(string.ascii_letters + "_.-", min_size=1, max_size=6), PLAIN, max_size=3)


@given(written=st.lists(st.tuples(TOOL_NAMES, ARGUMENTS), min_size=1, max_size=3), as_json=st.booleans())
def test_calls_with_any_name_come_back(written, as_json):
    write = json.dumps if as_json else repr
    texts = (f"{name}({', '.join(f'{key}={write(value)}' for key, value in given.items())})" for name, given in written)
    assert bracket_calls(f" [{', '.join(texts)}]\n", {name for name, _ in written}) == written


@given(written=st.lists(st.tuples(st.from_regex(r"\A[a-z]{2,5}(\.[a-z]{2,5})?\Z"), ARGUMENTS), min_size=1, max_size=3))
def test_calls_agree_with_pythons_own_syntax(written):
    written = [(f"f{name}", {f"a{n}": value for n, value in enumerate(given.values())}) for name, given in written]
    texts = (f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" for name, given in written)
    text = f"[{', '.join(texts)}]"
    parse = parse_calls(text, 0, len(text))
    if not parse.problems and parse.calls:
        assert bracket_calls(text, set()) == [(c.name, c.to_json()["arguments"]) for c in parse.calls]


@given(text=st.text(max_size=40) | st.text("[]()f='\",\\ {}1", max_size=40).map("[f(".__add__))
def test_any_text_is_calls_or_prose_or_a_mistake(text):
    assert isinstance(bracket_calls(text, set()), list)
    try:
        bracket_calls(text, {"f"})
    except ValueError:
        assert text.strip().startswith("[")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "No.",
        "[1] is a source",
        "[see (below)]",
        "[link](http://a)",
        "[]",
        "[f(a=1)",
        "[g(a=b)]",
        "[Note: (a=1), x]",
    ],
)
def test_prose(text):
    assert bracket_calls(text, {"known"}) == []


@pytest.mark.parametrize(
    "text", ["[f(a=b)]", "[f(1)]", "[f(a=1)", "[f(a=1)] ok", "[f(a=1), ]", "[f(a='it's')]", "[f(a=1, a=2)]"]
)
def test_a_known_function_that_cannot_be_read(text):
    with pytest.raises(ValueError, match=r"."):
        bracket_calls(text, {"f"})


# --------------------------------------------------------------------------------------- rows written by hand


def test_xlam():
    found, errors = load(Xlam(str(DATA / "xlam.json")))
    assert not errors
    assert [task.id for task in found] == ["0", "1", "2", "3", "4", "5"]
    assert found[0].answer == Answer(
        tuple(ExpectedCall("live_giveaways_by_type", {"type": [kind]}) for kind in ("beta", "game"))
    )
    assert found[1].tools[0].parameters["required"] == ["func", "a", "b"]
    assert found[2].tools[0].parameters["required"] == ["points"]
    assert found[3].answer == Answer()
    assert calls(found[4]) == [("add", {"a": 2, "b": 3})]
    assert [message["content"] for message in found[5].messages] == ["What time is it?"]


def test_toolace():
    found, errors = load(ToolAce(str(DATA / "toolace.json"), turns="all"))
    assert [task.id for task in found] == ["toolace-1/1", "toolace-1/2", "toolace-2/1", "toolace-4/1"]
    assert calls(found[0]) == [("Market Trends API", {"trend_type": "MARKET_INDEXES", "country": "us"})]
    assert calls(found[1]) == [
        ("SEC Filings", {"identifier": "AAPL (NASDAQ)", "recent": True, "limits": [1, 2.5]}),
        ("Market Trends API", {"trend_type": "MOST_ACTIVE"}),
    ]
    assert roles(found[1]) == ["user", "assistant", "tool", "assistant", "user"]
    (made,) = found[1].messages[1]["tool_calls"]
    assert made["function"] == {
        "name": "Market Trends API",
        "arguments": {"trend_type": "MARKET_INDEXES", "country": "us"},
    }
    assert found[2].messages[0] == {"role": "system", "content": "The current time is 2024-11-06 09:30:00."}
    (feed, bare) = found[2].answer.calls
    assert feed.arguments == {"user.id": [7], "filter": [{"since": ["it's 1, (or) [2]"], "tags": [["a", "b"]]}]}
    assert bare == ExpectedCall("User Feed", {})
    assert found[2].tools[1].parameters["properties"]["filter"] == {
        "type": "object",
        "properties": {"since": {"type": "string"}, "tags": {"type": "array", "items": {"type": "string"}}},
        "required": ["since"],
    }
    assert set(errors) == {3, 5}
    assert "`prose: no_call`" in str(errors[3])
    assert errors[5].field_name == "conversations[1].value"


def test_prose_as_an_answer():
    found, errors = load(ToolAce(str(DATA / "toolace.json"), turns="all", prose="no_call"))
    answers = {task.id: task.answer.no_call for task in found}
    assert answers["toolace-3/1"]  # nothing fits
    assert answers["toolace-4/1"]  # the assistant asks back
    assert not answers["toolace-4/2"]
    assert set(answers) == {f"toolace-{n}" for n in ("1/1", "1/2", "2/1", "3/1", "4/1", "4/2")}
    assert set(errors) == {5}
    (first, *_), _ = load(ToolAce(str(DATA / "toolace.json"), prose="no_call"))
    assert first.id == "toolace-1"


def test_hermes():
    found, errors = load(Hermes(str(DATA / "hermes.json"), turns="all"))
    assert [task.id for task in found] == ["85f277c4-0001/1", "85f277c4-0002/1", "85f277c4-0002/2"]
    assert calls(found[0]) == [
        ("get_camera_live_feed", {"camera_id": "front_door", "stream_quality": "1080p"}),
        ("list_all_cameras", {"include_offline": True}),
    ]
    assert roles(found[0]) == ["user"]  # the instruction went, as the tools are the task's
    assert found[0].meta["subcategory"] == "Security Cameras"
    assert [tool.name for tool in found[1].tools] == ["list_all_cameras"]  # from the system's text
    assert found[1].messages[0] == {"role": "system", "content": "Today is Monday."}
    assert roles(found[2]) == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert found[2].messages[2]["content"] == "I look it up."
    assert found[2].messages[3]["content"] == "{'name': 'list_all_cameras', 'content': ['a']}"
    assert calls(found[2]) == [("list_all_cameras", {"include_offline": True})]
    assert set(errors) == {3, 4}


def test_glaive():
    found, errors = load(Glaive(str(DATA / "glaive.json"), turns="all", prose="no_call"))
    assert [(task.id, len(task.answer.calls)) for task in found] == [
        ("glaive-1/1", 1),
        ("glaive-1/2", 1),
        ("glaive-2/1", 1),
        ("glaive-3/1", 0),
        ("glaive-4/1", 1),
        ("glaive-5/1", 0),
    ]
    assert calls(found[1]) == [("get_news_headlines", {"country": "France"})]
    assert roles(found[1]) == ["user", "assistant", "tool", "assistant", "user"]
    assert calls(found[2]) == [
        ("create_note", {"title": "Milk", "content": "Don't forget: {'the' milk}", "pinned": True})
    ]
    assert [len(task.tools) for task in found] == [1, 1, 2, 0, 1, 1]
    assert found[3].messages[0]["role"] == "system"
    assert set(errors) == {6}


def test_openai():
    found, errors = load(OpenAI(str(DATA / "openai.jsonl"), turns="all"))
    assert [task.id for task in found] == ["openai-1/1", "openai-2/1", "old/1"]
    assert calls(found[0]) == [
        ("get_weather", {"location": "Ulm"}),
        ("get_weather", {"location": "Bonn", "unit": "celsius"}),
    ]
    assert roles(found[1]) == ["system", "user", "assistant", "tool", "assistant", "user"]  # weight 0: not an answer
    assert found[1].messages[1]["content"] == "Weather in Ulm?"
    assert calls(found[2]) == [("get_weather", {"location": "Ulm"})]
    assert {row: error.field_name for row, error in errors.items()} == {
        4: "messages",
        5: "messages[1].tool_calls[0].function.arguments",
        6: "tools[0].type",
        7: "messages[0].content[0]",
    }


def test_a_schema_that_is_none_names_tool_and_field():
    tools = json.dumps([{"name": "ok"}, {"name": "f", "parameters": {"a": {"type": "strng"}}}])
    row = {"query": "q", "tools": tools, "answers": "[]"}
    (error,) = tasks([(3, row)], "x.json", "x", Xlam("x.json").read)
    assert str(error) == (
        "x.json, row 3, field 'tools[1].parameters.a.type': the tool 'f':"
        " 'strng' is no type of JSON Schema's or Python's"
    )


# ------------------------------------------------------------------------------- BFCL's tasks in every format


def as_xlam(task, functions, made):
    tools = [{**one, "parameters": one["parameters"]} for one in functions]
    answers = [{"name": name, "arguments": given} for name, given in made]
    return {"id": task.id, "query": question(task), "tools": json.dumps(tools), "answers": json.dumps(answers)}


def as_openai(task, functions, made):
    tool_calls = [{"type": "function", "function": {"name": n, "arguments": json.dumps(given)}} for n, given in made]
    messages = [*task.messages, {"role": "assistant", "content": None, "tool_calls": tool_calls}]
    return {"id": task.id, "messages": messages, "tools": [{"type": "function", "function": one} for one in functions]}


def as_hermes(task, functions, made):
    blocks = (f"<tool_call>\n{ {'arguments': given, 'name': name} }\n</tool_call>" for name, given in made)
    system = (
        f"You are a function calling AI model. Here: <tools> {functions} </tools> Use <tool_call>\n{{}}\n</tool_call>"
    )
    turns = [("system", system), ("human", question(task)), ("gpt", "\n".join(blocks))]
    return {"id": task.id, "conversations": [{"from": who, "value": said} for who, said in turns]}


def as_toolace(task, functions, made):
    texts = (f"{name}({', '.join(f'{key}={value!r}' for key, value in given.items())})" for name, given in made)
    turns = [("user", question(task)), ("assistant", f"[{', '.join(texts)}]")]
    return {
        "id": task.id,
        "system": f"Here is a list of functions in JSON format that you can invoke:\n{json.dumps(functions)}.",
        "conversations": [{"from": who, "value": said} for who, said in turns],
    }


def as_glaive(task, functions, made):
    system = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
    (name, given), *_ = made
    call = f'<functioncall> {{"name": {json.dumps(name)}, "arguments": \'{json.dumps(given)}\'}} <|endoftext|>'
    chat = f"USER: {question(task)}\n\n\nASSISTANT: {call}"
    return {"id": task.id, "system": system + "\n\n".join(map(json.dumps, functions)), "chat": chat}


def question(task):
    return task.messages[-1]["content"].strip()


@pytest.fixture(scope="module")
def bfcl():
    """Tasks with one call or several, and a right set of calls for each."""
    found = []
    for task in Bfcl(["simple_python", "multiple", "parallel", "live_simple"], limit=60).load():
        made = [
            (c.name, {n: chosen(v[0]) for n, v in c.arguments.items() if v and v[0] != ""}) for c in task.answer.calls
        ]
        found.append((task, task.meta["functions"], made))
    return found


def chosen(value):
    """One of the values that an allowed value stands for."""
    if isinstance(value, dict):
        return {name: values[0] for name, values in value.items() if values[0] != ""}
    return [chosen(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("source", "write"),
    [(Xlam, as_xlam), (OpenAI, as_openai), (Hermes, as_hermes), (ToolAce, as_toolace), (Glaive, as_glaive)],
    ids=lambda value: value.__name__,
)
def test_bfcl_in_the_format_gives_the_same_task(bfcl, source, write):
    ours = Jsonl("")
    for task, functions, made in bfcl:
        made = made[:1] if source is Glaive else made
        (read,) = tasks([(1, write(task, functions, made))], "x", "x", source("x").read)
        row = {
            "id": task.id,
            "question": question(task),
            "tools": [tool.to_json() for tool in task.tools],
            "calls": [{"name": name, "arguments": given} for name, given in made],
        }
        (wanted,) = tasks([(1, row)], "x", "x", ours.read)
        if isinstance(wanted, RowError):  # BFCL's two keys with a parameter that the schema does not have
            assert "no such parameter" in str(wanted)
            continue
        assert (read.id, read.tools, read.answer) == (wanted.id, task.tools, wanted.answer), task.id
        assert read.messages[-1]["content"].strip() == question(task)


# -------------------------------------------------------------------------------------------------- any row

WILD = st.sampled_from(
    [
        *(
            None,
            True,
            0,
            -1.5,
            10**400,
            "",
            "f",
            "\x00",
            "\ud800",
            "{",
            "[",
            "null",
            "[1",
            '{"a": NaN}',
            "user",
            "robot",
        ),
        *(
            "[f(a=1)]",
            "[f(",
            "<tool_call>{",
            "<tool_call>3",
            "USER:",
            "USER: a\nASSISTANT: <functioncall> {",
            "<tools>",
        ),
        *(
            [],
            {},
            [[]],
            [None],
            {"name": 1},
            {"name": "f", "arguments": "3"},
            {"type": "strin"},
            {"type": []},
            "[" * 2000,
        ),
    ]
)
FILES = [
    (Xlam, "xlam.json"),
    (OpenAI, "openai.jsonl"),
    (Hermes, "hermes.json"),
    (ToolAce, "toolace.json"),
    (Glaive, "glaive.json"),
]


def spoilt(draw, value):
    """The value with something else, or nothing, in one place, which may be inside a text of JSON."""
    if isinstance(value, str) and value[:1] in ("[", "{") and draw(st.booleans()):
        try:
            return json.dumps(spoilt(draw, json.loads(value)))
        except (ValueError, RecursionError):
            return value[: draw(st.integers(0, len(value)))]
    if isinstance(value, str) and len(value) > 1 and draw(st.booleans()):
        at = draw(st.integers(0, len(value)))
        return value[:at] + draw(st.sampled_from(["", "'", '"', "[", "}", "\n\nA:", "</tools>"])) + value[at + 1 :]
    if isinstance(value, dict | list) and value and draw(st.integers(0, 5)):
        keys = list(value) if isinstance(value, dict) else range(len(value))
        key = draw(st.sampled_from(keys))
        changed = dict(value) if isinstance(value, dict) else list(value)
        if draw(st.integers(0, 7)):
            changed[key] = spoilt(draw, value[key])
        else:
            del changed[key]
        return changed
    return draw(WILD)


@pytest.mark.parametrize(("source", "file"), FILES, ids=lambda value: getattr(value, "__name__", ""))
@given(data=st.data())
def test_any_row_is_a_task_or_says_what_is_wrong(source, file, data):
    rows = [row for _, row in read_rows(DATA / file)]
    row = spoilt(data.draw, data.draw(st.sampled_from(rows)))
    if data.draw(st.booleans()):
        row = spoilt(data.draw, row)
    options = {} if source is Xlam else data.draw(st.sampled_from([{}, {"turns": "all", "prose": "no_call"}]))
    read = source("x", **options).read
    found = list(tasks([(1, row)], "x", "x", read))
    for item in found:
        if isinstance(item, Task):
            json.dumps([item.messages, item.answer.to_json(), item.meta], allow_nan=False)
            assert all(isinstance(message["content"], str) for message in item.messages)
            for tool in item.tools:
                json_schema(tool.parameters)  # which test_json_schema.py compares with jsonschema
        else:
            assert isinstance(item, RowError)
    assert list(map(str, found)) == list(map(str, tasks([(1, row)], "x", "x", read)))


def test_own_rows_spoilt():
    tool = {"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}}
    row = {"question": "q", "tools": [tool], "calls": [{"name": "f", "arguments": {"a": "x"}}], "meta": {}, "id": "i"}
    allowed = {**row, "calls": None, "answer": [{"name": "f", "arguments": {"a": ["x", ""]}}]}

    @given(data=st.data())
    def spoil(data):
        wild = spoilt(data.draw, data.draw(st.sampled_from([row, allowed])))
        (item,) = tasks([(1, wild)], "x", "x", Jsonl("x").read)
        assert isinstance(item, Task | RowError)

    spoil()


def test_are_sources():
    for source in (Xlam, OpenAI, Hermes, ToolAce, Glaive, Jsonl):
        assert isinstance(source("x"), Source)
    for source in (Xlam, Hermes, ToolAce, Glaive):
        assert source.licence
        assert source.origin.startswith("https://huggingface.co/datasets/")
