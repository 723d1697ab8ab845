"""The own rules of `hermes`, `llama3`, `mistral` and `json_calls`, and the chat templates of their models."""

import importlib.util
import json
from pathlib import Path

import pytest
from callwright import ParseStatus, ReasonCode, Task, Tool
from callwright_dialects.hermes import Hermes
from callwright_dialects.json_calls import JsonCalls
from callwright_dialects.llama3 import Llama3
from callwright_dialects.mistral import Mistral
from dialect_replies import call
from hypothesis import given, settings
from hypothesis import strategies as st

CALL = '{"name": "f", "arguments": {"a": 1}}'
TAGGED = f"<tool_call>{CALL}</tool_call>"


def read(dialect, text):
    """Calls as name and arguments, the codes of the problems and the texts that they point to."""
    parse = dialect.parse(text)
    calls = [(one.name, {a.name: a.value for a in one.arguments}) for one in parse.calls]
    return calls, [(str(p.code), text[slice(*p.span)]) for p in parse.problems if p.span is not None]


F = ("f", {"a": 1})


@pytest.mark.parametrize(
    ("dialect", "text", "calls", "problems"),
    [
        (Hermes(), TAGGED + "\n" + TAGGED, [F, F], []),
        (Hermes(), "I look it up. " + TAGGED, [F], [("bad_format", "I look it up. ")]),
        (Hermes(), TAGGED + "Done.", [F], [("bad_format", "Done.")]),
        (Hermes(), f"<tool_call>{CALL}", [F], [("bad_format", "")]),
        (
            Hermes(),
            '<tool_call>{"name": "f", "arguments": {"a": "</tool_call>"}}</tool_call>',
            [("f", {"a": "</tool_call>"})],
            [],
        ),
        (Hermes(), '<tool_call>{"id": 1, "name": "f", "arguments": {"a": 1}}</tool_call>', [F], [("bad_format", "id")]),
        (
            Hermes(),
            '<tool_call>{"name": "g", "name": "f", "arguments": {"a": 1}}</tool_call>',
            [F],
            [("bad_format", "name")],
        ),
        (
            Hermes(),
            '<tool_call>{"name": "f", "arguments": {"a": 2, "a": 1}}</tool_call>',
            [F],
            [("unexpected_argument", "a")],
        ),
        (Llama3(), '{"name": "f", "parameters": {"a": 1}}', [F], []),
        (Llama3(), f"<|python_tag|>{CALL}; {CALL};", [F, F], []),
        (Llama3(), "[f(a=1)]", [F], [("bad_format", "[f(a=1)]")]),
        (Llama3(style="pythonic"), "<|python_tag|>[f(a=1)]", [F], []),
        (Llama3(style="pythonic"), CALL, [F], [("bad_format", CALL)]),
        (
            Llama3(),
            '<|python_tag|>search.call(query="x")',
            [("search.call", {"query": "x"})],
            [("bad_format", 'search.call(query="x")')],
        ),
        (Mistral(), f"[TOOL_CALLS] [{CALL}, {CALL}]", [F, F], []),
        (Mistral(), '[TOOL_CALLS]f[ARGS]{"a": 1}[TOOL_CALLS]f{"a": 1}', [F, F], []),
        (Mistral(), '[TOOL_CALLS]f[CALL_ID]x1[ARGS]{"a": 1}', [F], []),
        (Mistral(), '[THINK]f[/THINK][TOOL_CALLS]f[ARGS]{"a": 1}', [F], []),
        (Mistral(), 'Well. [TOOL_CALLS]f[ARGS]{"a": 1}', [F], [("bad_format", "Well. ")]),
        (Mistral(), '[TOOL_CALLS][{"name": "f", "arguments": "{\\"a\\": 1}", "id": "x"}]', [F], []),
        (JsonCalls(), CALL, [F], []),
        (JsonCalls(), f"```json\n[{CALL}]\n```", [F], []),
        (JsonCalls(), '[{"function": "f", "parameters": "{\\"a\\": 1}"}]', [F], []),
        (JsonCalls(), f'[{{"id": "1", "type": "function", "function": {CALL}}}]', [F], []),
        (JsonCalls(), '{"name": "f", "arguments": "{\\"a\\": 2, \\"a\\": 1}"}', [F], [("unexpected_argument", "a")]),
    ],
)
def test_what_is_read(dialect, text, calls, problems):
    assert read(dialect, text) == (calls, problems)


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (Hermes(), f"<tool_call>{CALL}{CALL}</tool_call>"),
        (Hermes(), f"<tool_call>[{CALL}]</tool_call>"),
        (Hermes(), TAGGED + "<tool_call>{</tool_call>"),
        (Hermes(), '<tool_call>{"name": "f", "parameters": {}}</tool_call>'),
        (Hermes(), '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>'),
        (Hermes(), '<tool_call>{"name": 1, "arguments": {}}</tool_call>'),
        (Hermes(), '<tool_call>{"name": "f", "arguments": {"a": NaN}}</tool_call>'),
        (Llama3(), f"{CALL} {CALL}"),
        (Llama3(), '{"name": "f", "parameters": {}, "arguments": {}}'),
        (Llama3(), f"Sure: {CALL}"),
        (Llama3(), "<|python_tag|>import os"),
        (Mistral(), CALL),
        (Mistral(), f"[TOOL_CALLS]{CALL}"),
        (Mistral(), f"[TOOL_CALLS][{CALL}] and so on"),
        (Mistral(), '[TOOL_CALLS]f[ARGS]{"a": 1} and so on'),
        (Mistral(), "[TOOL_CALLS]f[ARGS]"),
        (JsonCalls(), f"{CALL}{CALL}"),
        (JsonCalls(), f"[{CALL},]"),
        (JsonCalls(), f"```json\n[{CALL}]"),
        (JsonCalls(), '{"name": "f", "arguments": "{} {}"}'),
        (JsonCalls(), '{"name": "f", "arguments": ""}'),
        (JsonCalls(), '{"name": "f", "function": "f", "arguments": {}}'),
        (JsonCalls(), "{}"),
    ],
)
def test_what_is_an_attempt(dialect, text):
    parse = dialect.parse(text)
    assert parse.status is ParseStatus.UNPARSABLE
    assert parse.problems[-1].code == ReasonCode.UNPARSABLE
    assert parse.problems[-1].message


@pytest.mark.parametrize(
    ("dialect", "text", "rest"),
    [
        (Hermes(), '<tool_call>{"name": "f", "arguments": {"a": x}}</tool_call>', "x}}</tool_call>"),
        (Hermes(), TAGGED.replace("}<", "} x<"), "x</tool_call>"),
        (Llama3(), '{"name": "f"}', '{"name": "f"}'),
        (Mistral(), "[TOOL_CALLS]f[ARGS]1", "1"),
        (JsonCalls(), '{"name": 1, "arguments": {}}', '1, "arguments": {}}'),
        (JsonCalls(), '{"name": "f", "arguments": "{\\"a\\" 1}"}', '1}"}'),
    ],
)
def test_an_attempt_is_explained_where_it_fails(dialect, text, rest):
    (problem,) = dialect.parse(text).problems
    assert text[slice(*problem.span)] == rest


def test_an_empty_list_is_no_call():
    assert JsonCalls().parse("[]").status is ParseStatus.NO_CALL
    assert Mistral().parse("[TOOL_CALLS][]").status is ParseStatus.NO_CALL


def test_a_long_number_is_given_as_its_text():
    text = '{"name": "f", "arguments": {"a": 1e999}}'
    assert read(JsonCalls(), text) == ([("f", {"a": "1e999"})], [("wrong_type", "1e999")])


def test_spans_in_a_string_of_arguments():
    text = '[{"name": "f", "arguments": "{\\"\\u00e4\\": \\"x\\\\ny\\", \\"b\\": [1]}"}]'
    (one,) = JsonCalls().parse(text).calls
    assert [(a.name, a.value) for a in one.arguments] == [("ä", "x\ny"), ("b", [1])]
    assert [text[slice(*a.name_span)] for a in one.arguments] == ["\\u00e4", "b"]
    assert [text[slice(*a.value_span)] for a in one.arguments] == ['\\"x\\\\ny\\"', "[1]"]


# ------------------------------------------------------------------------------- the models' own chat templates

TOOL = Tool("f", "Does f.", {"type": "object", "properties": {"a": {"type": "integer"}}})
TASK = Task("1", ({"role": "user", "content": "Oslo?"},), (TOOL,))
EXAMPLE = {"question": "In Ulm?", "calls": [{"name": "f", "arguments": {"a": 1}}]}


def template(name, messages, tools=None):
    """The chat templates that TRL ships beside its trainer, as the models' makers published them."""
    from transformers.utils.chat_template_utils import render_jinja_template

    folder = Path(importlib.util.find_spec("trl").origin).parent / "chat_templates"
    text = (folder / f"{name}.jinja").read_text()
    rendered, _ = render_jinja_template([messages], tools=tools, chat_template=text, bos_token="<s>")
    return rendered[0]


TEMPLATES = [
    (Hermes, "qwen2_5", "<|im_start|>assistant\n", "<|im_end|>\n", 3),
    (Hermes, "qwen3", "<|im_start|>assistant\n", "<|im_end|>\n", 3),
    (Llama3, "llama3_1", "assistant<|end_header_id|>\n\n", "<|eot_id|>", 1),
    (Llama3, "llama3_2", "assistant<|end_header_id|>\n\n", "<|eot_id|>", 1),
]
ARGUMENTS = st.dictionaries(
    st.text(st.characters(exclude_characters="<", codec="utf-8")),
    st.integers() | st.booleans() | st.text(st.characters(exclude_characters="<", codec="utf-8")) | st.none(),
    max_size=3,
)


@pytest.mark.parametrize(("kind", "name", "begin", "end", "most"), TEMPLATES, ids=[t[1] for t in TEMPLATES])
@settings(max_examples=25)
@given(arguments=st.data())
def test_render_writes_what_the_models_template_writes(kind, name, begin, end, most, arguments):
    """The reply that a model has learnt is, to the character, the one that `render` writes and `parse` reads."""
    drawn = arguments.draw(st.lists(ARGUMENTS, min_size=1, max_size=most))
    calls = [call("f", one) for one in drawn]
    turns = [
        {"role": "user", "content": "x"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"type": "function", "function": {"name": "f", "arguments": one}} for one in drawn],
        },
    ]
    reply = template(name, turns).rsplit(begin, 1)[-1].removesuffix(end)
    assert reply == kind(think=name == "qwen3").render(calls)  # Qwen3's template writes an empty thought
    assert read(kind(), reply) == ([("f", one) for one in drawn], [])


@pytest.mark.parametrize(("kind", "name"), [(t[0], t[1]) for t in TEMPLATES], ids=[t[1] for t in TEMPLATES])
@pytest.mark.parametrize("tools_in", ["template", "text"])
def test_prompts_go_through_the_models_template(kind, name, tools_in):
    dialect = kind(tools_in=tools_in, examples=[EXAMPLE])
    prompt = dialect.prompt(TASK)
    text = template(name, prompt.messages, prompt.tools)
    assert text.count("Does f.") == 1
    assert json.dumps(TOOL.to_json()) in text or tools_in == "template"
    assert dialect.render([call("f", {"a": 1})]) in text
    assert text.index("In Ulm?") < text.rindex("Oslo?")
    assert ("You may call one or more functions" in text or "please respond with a JSON" in text) == (
        tools_in == "template"
    )


def test_instructions_say_what_the_options_say():
    def system(dialect):
        return "".join(m["content"] for m in dialect.prompt(TASK).messages if m["role"] == "system")

    assert system(Hermes()) == ""
    assert system(Hermes(think=True)) == "Think first, inside <think> and </think>."
    assert system(Mistral(think=True, think_tag="[THINK]")).endswith("[THINK] and [/THINK].")
    assert system(Hermes(instruction="Be kind.", tools_in="text")) == "Be kind."
    assert "<tool_call>" in system(Hermes(tools_in="text"))
    assert '"parameters"' in system(Llama3(tools_in="text"))
    assert "[name(" in system(Llama3(style="pythonic", tools_in="text"))
    assert "[ARGS]" in system(Mistral(tools_in="text"))
    assert '[TOOL_CALLS][{"name"' in system(Mistral(style="list", tools_in="text"))
    assert '"function": function name, "parameters": "{' in system(
        JsonCalls(name_key="function", arguments_key="parameters", arguments_as="string")
    )
