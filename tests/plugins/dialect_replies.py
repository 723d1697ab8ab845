"""What the tests of all dialects share: the dialects, calls that they can express, and replies in any style."""

import ast
import json
import keyword
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle

from callwright import Argument, Call, Dialect
from callwright_dialects.egpo import Egpo
from callwright_dialects.funrl import FunRL
from callwright_dialects.hermes import Hermes
from callwright_dialects.json_calls import JsonCalls
from callwright_dialects.llama3 import Llama3
from callwright_dialects.mistral import Mistral
from callwright_dialects.python_calls import PythonCalls
from hypothesis import strategies as st

NOWHERE = (0, 0)
MARKS = ["<think>", "</think>", "[THINK]", "<answer>", "</answer>", "<tool_call>", "</tool_call>", "[TOOL_CALLS]"]
MARKS += ["[ARGS]", "[CALL_ID]", "<|python_tag|>", "```", "```json\n", ";", "\\", "'", '"', "\\u0041", "\\n", "{", "]"]

TEXTS = st.text() | st.lists(st.sampled_from(MARKS) | st.text(max_size=2), max_size=4).map("".join)
UNMARKED = TEXTS.map(lambda text: text.replace("<", "").replace("[THINK", ""))
"""Without what only `render` knows to escape."""
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)


def json_values(texts):
    scalars = st.none() | st.booleans() | NUMBERS | texts
    return st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
    )


def python_values(texts):
    pairs = st.tuples(NUMBERS, texts)
    return json_values(texts) | pairs | st.dictionaries(NUMBERS | pairs, texts, max_size=2)


def _writable(name):
    return name.isidentifier() and not keyword.iskeyword(name) and unicodedata.normalize("NFKC", name) == name


IDENTIFIERS = st.sampled_from(["a", "city", "größe", "名前", "_x1"]) | st.text(
    st.characters(categories=["L", "Nd", "Pc"]), min_size=1, max_size=6
).filter(_writable)
DOTTED = st.lists(IDENTIFIERS, min_size=1, max_size=3).map(".".join)
BEHIND_MARK = st.text(st.characters(exclude_characters='[]{}"', exclude_categories=["Z", "C"]), min_size=1, max_size=8)


def call(name, arguments):
    return Call(
        name, tuple(Argument(key, value, NOWHERE, NOWHERE) for key, value in arguments.items()), NOWHERE, NOWHERE
    )


def calls_of(names, keys, values):
    one = st.builds(call, names, st.dictionaries(keys, values, max_size=3))
    return st.lists(one, min_size=1, max_size=3)


def python_calls(texts):
    return calls_of(DOTTED, IDENTIFIERS, python_values(texts))


def json_calls(texts):
    return calls_of(texts, texts, json_values(texts))


def named_calls(texts):
    return calls_of(BEHIND_MARK, texts, json_values(texts))


# ------------------------------------------------------------------------------ one meaning, written in many ways


@dataclass
class Writer:
    """Writes calls with white space, quotation marks, escapes and key order drawn by hypothesis."""

    draw: Callable

    def __post_init__(self):
        def endless(choices):
            return cycle(self.draw(st.lists(st.sampled_from(choices), min_size=1, max_size=5))).__next__

        self.space = endless(["", " ", "\n", "\t ", "\r\n"])
        self.style = endless(["shortest", "plain", "escaped"])
        self.quote = endless(["'", '"', "'''", '"""'])
        self.comma = endless(["", ","])

    def join(self, parts, opening, closing, trailing_comma=False):
        last = self.comma() if trailing_comma and parts else ""
        inner = ",".join(self.space() + part + self.space() for part in parts)
        return f"{opening}{inner}{last}{self.space()}{closing}"

    def json_text(self, text):
        style = self.style()
        if style != "escaped":
            return json.dumps(text, ensure_ascii=style == "plain")
        units = text.encode("utf-16-be")
        return '"' + "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2)) + '"'

    def json(self, value):
        if isinstance(value, str):
            return self.json_text(value)
        if isinstance(value, list):
            return self.join([self.json(item) for item in value], "[", "]")
        if isinstance(value, dict):
            return self.members({key: self.json(item) for key, item in value.items()})
        return json.dumps(value)

    def members(self, written):
        pairs = [f"{self.json_text(key)}{self.space()}:{self.space()}{value}" for key, value in written.items()]
        return self.join(pairs, "{", "}")

    def arguments(self, one):
        return self.json({argument.name: argument.value for argument in one.arguments})

    def json_call(self, one, name="name", arguments="arguments", as_text=False, extra=()):
        written = self.arguments(one)
        fields = {name: self.json(one.name), arguments: self.json_text(written) if as_text else written}
        fields |= {key: '"x"' for key in extra if self.draw(st.booleans())}
        return self.members(dict(self.draw(st.permutations(list(fields.items())))))

    def python_text(self, text):
        style, quote = self.style(), self.quote()
        if style == "shortest":
            return repr(text)
        escapes = {ord(character): f"\\x{ord(character):02x}" for character in "\\\n\r\0" + quote[0]}
        written = text.translate(escapes) if style == "plain" else "".join(f"\\U{ord(c):08x}" for c in text)
        return quote + written + quote

    def python(self, value):
        if isinstance(value, str):
            return self.python_text(value)
        if isinstance(value, list):
            return self.join([self.python(item) for item in value], "[", "]", trailing_comma=True)
        if isinstance(value, tuple):
            return self.join([self.python(item) for item in value], "(", ")", trailing_comma=True)
        if isinstance(value, dict):
            pairs = [f"{self.python(key)}{self.space()}:{self.space()}{self.python(v)}" for key, v in value.items()]
            return self.join(pairs, "{", "}", trailing_comma=True)
        return repr(value)

    def python_call(self, one):
        parts = [f"{a.name}{self.space()}={self.space()}{self.python(a.value)}" for a in one.arguments]
        return self.join(parts, one.name + "(", ")", trailing_comma=True)

    def python_list(self, calls):
        return self.join([self.python_call(one) for one in calls], "[", "]", trailing_comma=True)


# ------------------------------------------------------------------------------------------------- the dialects


@dataclass
class Case:
    """A dialect with options, the calls it can express, and ways to write and to read a part of a reply."""

    dialect: Dialect
    calls: Callable
    """From a strategy of texts to one of lists of calls."""
    write: Callable
    """A reply in any style: of a writer and calls."""
    value: Callable = json.loads
    """From the text of a value, name and argument name to the thing itself."""
    name: Callable = lambda text: json.loads(f'"{text}"')
    key: Callable = lambda text: json.loads(f'"{text}"')


def _python(dialect, write):
    return Case(dialect, python_calls, write, ast.literal_eval, str, str)


def _thinking(w):
    return w.draw(st.sampled_from(["<think></think>", "<think>Should I call f(a=1)?</think>", "<think>\nx\n</think>"]))


def _maybe_thinking(w):
    return w.draw(st.sampled_from(["", "<think>\nI call f(a=1).\n</think>\n\n"]))


def _python_calls(w, calls):
    around = w.draw(st.text(st.sampled_from("` \t\r\n"), max_size=3))
    return around + w.python_list(calls) + around


def _funrl(w, calls):
    return f"{_thinking(w)}\n<answer>{_python_calls(w, calls)}</answer>\n"


def _egpo(w, calls):
    return _thinking(w) + _python_calls(w, calls)


def _hermes(w, calls):
    return "".join(f"<tool_call>{w.space()}{w.json_call(one)}{w.space()}</tool_call>{w.space()}" for one in calls)


def _python_tag(w):
    return w.draw(st.sampled_from(["", "<|python_tag|>"])) + w.space()


def _llama3(w, calls):
    key = w.draw(st.sampled_from(["parameters", "arguments"]))
    return _python_tag(w) + f"{w.space()};{w.space()}".join(
        w.json_call(c, arguments=key, extra=["type"]) for c in calls
    )


def _mistral_named(w, calls):
    marks = st.sampled_from(["[ARGS]", "[CALL_ID]abcDEF123[ARGS]", ""])
    parts = (f"[TOOL_CALLS]{c.name}{w.draw(marks)}{w.space()}{w.arguments(c)}{w.space()}" for c in calls)
    return _maybe_thinking(w) + "".join(parts)


def _mistral_list(w, calls):
    return f"[TOOL_CALLS]{w.space()}" + w.join([w.json_call(one, extra=["id"]) for one in calls], "[", "]")


def _json_calls(w, calls, as_text=False):
    name = w.draw(st.sampled_from(["name", "function"]))
    arguments = w.draw(st.sampled_from(["arguments", "parameters"]))
    written = [w.json_call(one, name, arguments, as_text, ["id", "type"]) for one in calls]
    if name == "name" and w.draw(st.booleans()):
        written = [w.members({"type": '"function"', "function": text}) for text in written]
    text = written[0] if len(written) == 1 and w.draw(st.booleans()) else w.join(written, "[", "]")
    return f"```json\n{text}\n```" if w.draw(st.booleans()) else w.space() + text + w.space()


def unescaped(text):
    return json.loads(f'"{text}"')


CASES = {
    "python_calls": _python(PythonCalls(), _python_calls),
    "funrl": _python(FunRL(), _funrl),
    "egpo": _python(Egpo(), _egpo),
    "hermes": Case(Hermes(), json_calls, lambda w, calls: _maybe_thinking(w) + _hermes(w, calls)),
    "hermes-think": Case(Hermes(think=True), json_calls, lambda w, calls: _thinking(w) + _hermes(w, calls)),
    "llama3": Case(Llama3(), json_calls, _llama3),
    "llama3-pythonic": _python(Llama3(style="pythonic"), lambda w, calls: _python_tag(w) + w.python_list(calls)),
    "mistral": Case(Mistral(), named_calls, _mistral_named, name=str),
    "mistral-list": Case(Mistral(style="list", think_tag="[THINK]"), json_calls, _mistral_list),
    "json_calls": Case(JsonCalls(), json_calls, _json_calls),
    "json_calls-string": Case(
        JsonCalls(arguments_as="string", name_key="function", arguments_key="parameters"),
        json_calls,
        lambda w, calls: _json_calls(w, calls, as_text=True),
        value=lambda text: json.loads(unescaped(text)),
        key=lambda text: unescaped(unescaped(text)),
    ),
}
