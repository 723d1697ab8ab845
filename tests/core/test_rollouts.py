"""From tokens to text, spans and segments; and what a run keeps of its completions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from callwright import (
    Answer,
    Argument,
    Call,
    CallwrightError,
    ExpectedCall,
    Parse,
    Reason,
    Rollouts,
    Segment,
    Task,
    Tool,
    Verdict,
)
from callwright.rollouts import decode, encode_prompt, token_segments, token_spans, write_rollouts
from callwright_dialects.funrl import FunRL
from callwright_dialects.python_calls import PythonCalls
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

S = Segment
END = 2
"""End of turn, in both tokenizers."""

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
same_tokenizer = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture(params=["tiny_tokenizer", "smol_tokenizer"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def check_spans(tokenizer: Any, ids: list[int]) -> None:
    text = decode(tokenizer, ids, [END])
    spans = token_spans(tokenizer, ids, text)
    assert len(spans) == len(ids)
    edges = [edge for span in spans for edge in span]
    assert edges == sorted(edges), "in order, without overlap"
    assert [start for start, _ in spans[1:]] == [end for _, end in spans[:-1]], "without gaps"
    if text:
        assert (edges[0], edges[-1]) == (0, len(text)), "the whole text"
    if ids and ids[-1] == END:
        assert spans[-1] == (len(text), len(text)), "the token that ends a turn covers nothing"


@same_tokenizer
@given(text=texts, ends=st.booleans())
@example("né😀 [f(a='€')]", True)
@example("\ufffd", True)
@example("a\ufffd\ufffdb", False)
def test_spans_of_any_text(tokenizer: Any, text: str, ends: bool) -> None:
    ids = tokenizer.encode(text, add_special_tokens=False) + [END] * ends
    check_spans(tokenizer, ids)


@same_tokenizer
@given(ids=st.lists(st.integers(0, 258), max_size=20))
@example([END])
@example([])
@example([0xC3 + 3, 0xA9 + 3, 0xFF + 3, END])
def test_spans_of_any_tokens(tokenizer: Any, ids: list[int]) -> None:
    """A model writes bytes that are no character, and special tokens in the middle."""
    check_spans(tokenizer, ids)


def test_a_split_character_belongs_to_the_token_that_completes_it(tiny_tokenizer: Any) -> None:
    ids = tiny_tokenizer.encode("a€b", add_special_tokens=False)
    assert token_spans(tiny_tokenizer, ids, "a€b") == [(0, 1), (1, 1), (1, 1), (1, 2), (2, 3)]


class _Spaceless:
    """Decodes as sentencepiece's tokenizers do: the space before the first word is lost."""

    words = ("▁def", "▁", "▁▁x", "y", "▁é")

    def decode(self, ids: list[int], **_: Any) -> str:
        return "".join(self.words[i] for i in ids).replace("▁", " ").removeprefix(" ")


@given(st.lists(st.integers(0, 4), min_size=1, max_size=12))
def test_spans_where_the_text_is_not_the_sum_of_its_pieces(ids: list[int]) -> None:
    tokenizer: Any = _Spaceless()
    text = tokenizer.decode(ids)
    spans = token_spans(tokenizer, ids, text)
    assert [text[start:end] for start, end in spans] == [
        word.replace("▁", " ")[(1 if i == 0 and word.startswith("▁") else 0) :]
        for i, word in enumerate(tokenizer.words[i] for i in ids)
    ]


def character(tokenizer: Any, parse: Parse, ends: bool = False) -> list[tuple[str, Segment]]:
    ids = tokenizer.encode(parse.text, add_special_tokens=False) + [END] * ends
    segments = token_segments(parse, token_spans(tokenizer, ids, parse.text))
    return [(tokenizer.decode([i]), Segment(s)) for i, s in zip(ids, segments, strict=True)]


def painted(pieces: list[tuple[str, Segment]]) -> list[tuple[str, Segment]]:
    """Neighbours of one kind joined."""
    joined: list[tuple[str, Segment]] = []
    for text, segment in pieces:
        if joined and joined[-1][1] == segment:
            joined[-1] = (joined[-1][0] + text, segment)
        else:
            joined.append((text, segment))
    return joined


def test_segments_of_python_calls(tiny_tokenizer: Any) -> None:
    parse = PythonCalls().parse("[add(a=1, b='x')]")
    assert painted(character(tiny_tokenizer, parse, ends=True)) == [
        ("[", S.OTHER),
        ("add", S.FUNCTION_NAME),
        ("(", S.CALL),
        ("a", S.ARGUMENT_NAME),
        ("=", S.CALL),
        ("1", S.ARGUMENT_VALUE),
        (", ", S.CALL),
        ("b", S.ARGUMENT_NAME),
        ("=", S.CALL),
        ("'x'", S.ARGUMENT_VALUE),
        (")", S.CALL),
        ("]", S.OTHER),
        ("<|im_end|>", S.TAG),
    ]


def test_segments_of_funrl(tiny_tokenizer: Any) -> None:
    parse = FunRL().parse("<think>so</think><answer>[f(a=1), g()]</answer>")
    assert painted(character(tiny_tokenizer, parse)) == [
        ("<think>", S.TAG),
        ("so", S.THINKING),
        ("</think><answer>", S.TAG),
        ("[", S.OTHER),
        ("f", S.FUNCTION_NAME),
        ("(", S.CALL),
        ("a", S.ARGUMENT_NAME),
        ("=", S.CALL),
        ("1", S.ARGUMENT_VALUE),
        ("), ", S.CALL),
        ("g", S.FUNCTION_NAME),
        ("()", S.CALL),
        ("]", S.OTHER),
        ("</answer>", S.TAG),
    ]


NAMES = st.from_regex(r"[a-z]{3,8}", fullmatch=True).filter(lambda name: not __import__("keyword").iskeyword(name))
VALUES = st.integers(-999, 999) | st.text("abc é€'", max_size=8) | st.booleans()


@same_tokenizer
@given(name=NAMES, arguments=st.dictionaries(NAMES, VALUES, max_size=3), funrl=st.booleans())
def test_the_characters_of_a_call_are_in_tokens_of_their_kind(
    tiny_tokenizer: Any, name: str, arguments: dict[str, Any], funrl: bool
) -> None:
    """One byte is one token here, so that tokens of a kind spell out exactly the call's names and values."""
    call = Call(name, tuple(Argument(key, value, (0, 0), (0, 0)) for key, value in arguments.items()), (0, 0), (0, 0))
    dialect = FunRL() if funrl else PythonCalls()
    parse = dialect.parse(dialect.render([call]))
    ids = tiny_tokenizer.encode(parse.text, add_special_tokens=False)
    spans = token_spans(tiny_tokenizer, ids, parse.text)
    segments = token_segments(parse, spans)

    def spelled(kind: Segment) -> str:
        chosen = [span for span, s in zip(spans, segments, strict=True) if s == kind]
        return "".join(parse.text[start:end] for start, end in chosen)

    found = parse.calls[0]
    assert spelled(S.FUNCTION_NAME) == name
    assert spelled(S.ARGUMENT_NAME) == "".join(arguments)
    assert spelled(S.ARGUMENT_VALUE) == "".join(parse.text[slice(*a.value_span)] for a in found.arguments)


def test_a_token_over_two_kinds_takes_the_commoner(smol_tokenizer: Any) -> None:
    text = "[get_weather(city='Paris')]"
    pieces = character(smol_tokenizer, PythonCalls().parse(text))
    assert "".join(piece for piece, _ in pieces) == text
    kinds = dict(pieces)
    assert kinds["weather"] == S.FUNCTION_NAME
    assert kinds["city"] == S.ARGUMENT_NAME
    assert kinds["Paris"] == S.ARGUMENT_VALUE


def test_a_prompt_that_cannot_be_encoded_names_its_task(tiny_tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lone = Task("t7", ({"role": "user", "content": "half of an emoji: \ud83d"},))
    with pytest.raises(CallwrightError, match=r"task 't7': .* refuses its prompt"):
        encode_prompt(tiny_tokenizer, PythonCalls(), lone)
    refusing = "{{ raise_exception('System role not supported') }}"
    monkeypatch.setattr(tiny_tokenizer, "chat_template", refusing)
    with pytest.raises(CallwrightError, match="System role not supported"):
        encode_prompt(tiny_tokenizer, PythonCalls(), Task("t8", ({"role": "user", "content": "hi"},)))


# ---------------------------------------------------------------------------------------------------- on disk

hostile = st.text(st.characters(), max_size=12)  # lone surrogates, NUL and all


@st.composite
def rollouts(draw: st.DrawFn) -> Rollouts:
    n, t = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    lengths = torch.tensor(draw(st.lists(st.integers(1, t), min_size=n, max_size=n)))
    completions = draw(st.lists(hostile, min_size=n, max_size=n))
    word = draw(hostile)
    answer = draw(st.none() | st.just(Answer((ExpectedCall(word, {word: [word]}),))))
    task = Task(word, ({"role": "user", "content": word},), (Tool(word, word),), answer)
    numbers = torch.randn(n, t, generator=torch.Generator().manual_seed(0))
    return Rollouts(
        step=7,
        tasks=[task] * n,
        group_ids=torch.arange(n),
        prompt_ids=[[1]] * n,
        texts=completions,
        parses=[PythonCalls().parse(text) for text in completions],
        completion_ids=torch.arange(n * t).reshape(n, t),
        mask=torch.arange(t) < lengths[:, None],
        behaviour_logps=numbers,
        policy_logps=numbers,
        entropy=numbers,
        segments=torch.ones(n, t, dtype=torch.int8),
        truncated=torch.zeros(n, dtype=torch.bool),
        temperature=torch.ones(n),
        off_policy=torch.zeros(n, dtype=torch.bool),
        token_ends=draw(st.sampled_from([None, torch.tensor([2, 2, 7, 9, 9], dtype=torch.int32)[:t].repeat(n, 1)])),
        verdicts={word: [Verdict(0.5, (Reason(word, word, (0, 1)),))] * (n - 1) + [Verdict.failed(word)]},
        total=torch.tensor([0.5] * (n - 1) + [float("nan")]),
        advantages=draw(st.sampled_from([None, numbers])),
    )


def readable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


@same_tokenizer
@given(given_rollouts=rollouts())
def test_what_is_written_is_read_back(tmp_path: Path, given_rollouts: Rollouts) -> None:
    step = given_rollouts
    path = tmp_path / "rollouts" / "step-000008.parquet"
    write_rollouts(step, path)
    table = pq.read_table(path).to_pylist()
    assert len(table) == len(step)
    for row, (found, task) in enumerate(zip(table, step.tasks, strict=True)):
        length = int(step.lengths[row])
        assert (found["step"], found["task"]) == (7, readable(task.id))
        assert found["completion"] == readable(step.texts[row])
        assert json.loads(found["messages"]) == [
            {"role": "user", "content": readable(str(task.messages[0]["content"]))}
        ]
        assert (found["answer"] is None) == (task.answer is None)
        assert found["token_ids"] == step.completion_ids[row, :length].tolist()
        assert found["entropy"] == step.entropy[row, :length].tolist()
        assert found["segments"] == [1] * length
        characters = None if step.token_ends is None else [2, 0, 5, 2, 0][:length]
        assert found["characters"] == characters
        assert found["advantages"] == (None if step.advantages is None else step.advantages[row, :length].tolist())
        failed = row == len(step) - 1
        assert found["total"] == (None if failed else 0.5)
        assert list(json.loads(found["rewards"]).values()) == [None if failed else 0.5]
        reason = json.loads(found["reasons"])[0]
        assert reason["span"] == (None if failed else [0, 1])
        assert reason["message"] == readable(task.id)
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing half-written is left"


@same_tokenizer
@given(steps=st.lists(rollouts(), min_size=1, max_size=4))
def test_the_files_of_a_run_read_as_one_table(tmp_path_factory: Any, steps: list[Rollouts]) -> None:
    """Also when the first step's update was skipped, or none of its tasks has an answer."""
    folder = tmp_path_factory.mktemp("rollouts")
    for number, step in enumerate(steps):
        write_rollouts(step, folder / f"step-{number:06d}.parquet")
    assert pq.read_table(folder).num_rows == sum(map(len, steps))


@settings(max_examples=1, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(step=rollouts())
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, step: Rollouts) -> None:
    path = tmp_path / "step-000001.parquet"
    path.write_text("old")
    (tmp_path / f".{path.name}.new").mkdir()
    with pytest.raises(OSError, match="Is a directory"):
        write_rollouts(step, path)
    assert path.read_text() == "old"
