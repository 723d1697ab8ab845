"""The stage `decontaminate`."""

import importlib
import inspect
import json
import math
import random
import re

import pytest
from callwright import CallwrightError, Dropped, Task, Tool
from callwright.pipeline.context import StageContext
from callwright_data.sources.bfcl import CATEGORIES, Bfcl
from callwright_data.stages.decontaminate import Decontaminate
from hypothesis import given
from hypothesis import strategies as st


def row(name, text, tools=()):
    return Task(name, ({"role": "user", "content": text},), tools)


def dropped(stage, tasks):
    return [result for result in stage.apply(tasks) if isinstance(result, Dropped)]


def against(folder, texts, **options):
    """The stage, against a file with these questions."""
    path = folder / "benchmark.jsonl"
    rows = [{"id": f"b{n}", "question": text, "tools": [], "calls": []} for n, text in enumerate(texts)]
    path.write_text("".join(json.dumps(fields) + "\n" for fields in rows))
    return Decontaminate(against=[{"use": "jsonl", "path": str(path)}], **options)


@pytest.fixture(scope="module")
def bfcl():
    """The stage with its defaults, and BFCL's rows by id."""
    return Decontaminate(), {task.id: task for task in Bfcl(list(CATEGORIES)).load()}


def plain(text):
    """The words of a text; independent of the stage's own way."""
    return re.sub(r"\s+", " ", re.sub(r"[\W]+", " ", text)).strip().casefold()


# ----------------------------------------------------------------------------------------------------- shared n-grams

TEXTS = st.lists(st.sampled_from("abc"), min_size=1, max_size=7)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmarks")


@given(st.lists(TEXTS, min_size=1, max_size=4), TEXTS, st.integers(1, 5), st.integers(2, 4))
def test_shared_ngrams_are_those_of_a_plain_search(folder, benchmark, asked, ngram, shortest):
    def stands_in(part, text):
        return any(text[i : i + len(part)] == part for i in range(len(text)))

    def is_shared(text):
        if len(text) < ngram:
            return text == asked if len(text) < shortest else stands_in(text, asked)
        return any(stands_in(text[i : i + ngram], asked) for i in range(len(text) - ngram + 1))

    stage = against(folder, map(" ".join, benchmark), ngram=ngram, shortest=shortest, threshold=None)
    (result,) = stage.apply([row("t", " ".join(asked))])
    assert isinstance(result, Dropped) == any(map(is_shared, benchmark))
    if isinstance(result, Dropped):
        assert result.code == "shared_ngram"
        words, name = re.fullmatch(r"shares the words '(.+)' with row 'b(\d+)' of jsonl", result.message).groups()
        assert stands_in(words.split(), asked)
        assert stands_in(words.split(), benchmark[int(name)])


# ---------------------------------------------------------------------------------------------------- near-duplicates


def test_near_duplicates_are_those_of_an_exact_comparison(tmp_path):
    def trigrams(words):
        return {tuple(words[i : i + 3]) for i in range(len(words) - 2)}

    rng, threshold = random.Random(4), 0.5
    benchmark = [[f"w{rng.randrange(500)}" for _ in range(30)] for _ in range(100)]
    texts = [list(rng.choice(benchmark)) for _ in range(600)]
    for text in texts:
        for _ in range(rng.randrange(1, 7)):
            text[rng.randrange(30)] = f"w{rng.randrange(500)}"
    stage = against(tmp_path, map(" ".join, benchmark), ngram=31, shortest=31, threshold=threshold)
    results = list(stage.apply([row(f"t{n}", " ".join(text)) for n, text in enumerate(texts)]))
    missed = similar = 0
    for text, result in zip(texts, results, strict=True):
        own = trigrams(text)
        exact = {n: len(own & t) / len(own | t) for n, t in enumerate(map(trigrams, benchmark))}
        name = max(exact, key=exact.__getitem__)
        similar += exact[name] >= threshold
        if isinstance(result, Dropped):
            assert result.code == "near_duplicate"
            said = f"its question has Jaccard similarity {exact[name]:.2f} with row 'b{name}' of jsonl"
            assert result.message == said
            assert exact[name] >= threshold
        else:
            missed += exact[name] >= threshold
    assert 100 < similar < 500
    assert missed <= 0.01 * similar + 3 * math.sqrt(0.01 * similar)


# --------------------------------------------------------------------------------------------------------------- BFCL


def with_other_marks(text, rng):
    """Upper and lower case at random, other punctuation and other white space between words."""
    words = plain(text).split()
    mark = [rng.choice([" ", "  ", ", ", "\n", "\t", " - ", "!? ", "\u00a0", " ... "]) for _ in words]
    return "".join(rng.choice([w.upper(), w, w.title()]) + m for w, m in zip(words, mark, strict=True))


@pytest.mark.parametrize("how", ["verbatim", "other marks", "in a sentence"])
def test_planted_rows_are_found(bfcl, how):
    stage, benchmark = bfcl
    rng = random.Random(how)
    planted = []
    for task in benchmark.values():
        text = "\n".join(m["content"] for m in task.messages if m["role"] != "system")
        words = len(plain(text).split())
        if how == "in a sentence" and words < stage.shortest:
            continue
        if words:
            changed = {
                "verbatim": text,
                "other marks": with_other_marks(text, rng) if text.isascii() else text,
                "in a sentence": f"Hello there, my colleague would like to know: {text} Please be brief.",
            }[how]
            planted.append(row(task.id, changed))
    assert len(planted) > (3200 if how == "in a sentence" else 3480)
    for before, result in zip(planted, stage.apply(planted), strict=True):
        assert isinstance(result, Dropped), before.id
        assert result.code == "shared_ngram"
        words, name = re.search(r"the words '(.+)' with row '(.+)' of bfcl", result.message).groups()
        if before.messages[0]["content"].isascii():  # other scripts are split otherwise than by `plain`
            for texts in (before.messages, benchmark[name].messages):
                assert f" {words} " in f" {plain(' '.join(m['content'] for m in texts))} "


def test_a_question_with_changed_words_is_a_near_duplicate():
    simple = {"use": "bfcl", "categories": ["simple_python"]}
    # simple_python_0: "Find the area of a triangle with a base of 10 units and height of 5 units."
    changed = [row("t", "Please find the area of a triangle with a base of 10 units with height of 5 units")]
    stage = Decontaminate(against=[simple], ngram=14)
    assert not dropped(stage, changed)  # 12 of 19 trigrams: below 0.8
    (found,) = dropped(Decontaminate(against=[simple], ngram=14, threshold=0.6), changed)
    assert found.code == "near_duplicate"
    assert found.message == "its question has Jaccard similarity 0.63 with row 'simple_python_0' of bfcl"


LIBRARY = (
    "argparse asyncio collections csv datetime decimal email fractions functools heapq http inspect ipaddress json"
)
LIBRARY += " logging os pathlib random shutil socket subprocess tarfile tempfile textwrap threading urllib uuid zipfile"


def real_sentences():
    """What the standard library says of its functions: English that has nothing to do with BFCL."""
    for module in LIBRARY.split():
        for _, value in inspect.getmembers(importlib.import_module(module)):
            words = (inspect.getdoc(value) or "").split()
            if len(words) > 4:
                yield " ".join(words[:60])


def test_unrelated_rows_are_kept(bfcl):
    stage, benchmark = bfcl
    texts = sorted(set(real_sentences()))
    assert len(texts) > 500
    # And BFCL's own words, in no order.
    rng = random.Random(0)
    words = {word for task in benchmark.values() for word in plain(task.messages[-1]["content"]).split()}
    vocabulary = sorted(filter(str.isascii, words))  # where no spaces part words, one may be a whole question
    texts += [" ".join(rng.choices(vocabulary, k=rng.randrange(6, 40))) for _ in range(2000)]
    tasks = [row(f"t{n}", text) for n, text in enumerate(texts)]
    assert list(stage.apply(tasks)) == tasks


# -------------------------------------------------------------------------------------------------------- what it reads


def test_same_tools(bfcl):
    _, benchmark = bfcl
    against = [{"use": "bfcl", "categories": ["multiple"]}]
    stage = Decontaminate(against, same_tools=True)
    theirs = benchmark["multiple_0"].tools
    renamed = [Tool(t.name.replace(".", "_"), "Other words.", t.parameters) for t in reversed(theirs)]
    tasks = [
        row("same", "x", theirs),
        row("renamed", "x", tuple(renamed)),
        row("more", "x", (*theirs, Tool("new_one"))),
    ]
    tasks.append(row("none", "x"))
    found = dropped(stage, tasks)
    assert [(d.task.id, d.code) for d in found] == [("same", "same_tools"), ("renamed", "same_tools")]
    assert found[0].message == "offers the same tools as row 'multiple_0' of bfcl"
    assert not dropped(Decontaminate(against), tasks)


def test_several_sources(tmp_path):
    (tmp_path / "more.jsonl").write_text(json.dumps({"question": "Sing me a song", "tools": [], "calls": []}))
    few = {"use": "bfcl", "categories": ["irrelevance"], "limit": 1}
    stage = Decontaminate(against=[few, {"use": "jsonl", "path": str(tmp_path / "more.jsonl")}])
    (theirs,) = Bfcl(["irrelevance"], limit=1).load()
    found = dropped(stage, [theirs, row("song", "sing me a song!"), row("other", "What is the time in Oslo now?")])
    assert [re.search("of (bfcl|jsonl)$", d.message).group() for d in found] == ["of bfcl", "of jsonl"]


def context(folder, notes):
    return StageContext(None, None, folder, lambda done, of: None, notes.append)


def test_rows_that_cannot_be_read_are_noted(tmp_path):
    path = tmp_path / "b.jsonl"
    good = {"question": "How tall is the tower of Pisa?", "tools": [], "calls": []}
    path.write_text(json.dumps(good) + '\n{"question": 3}\n')
    stage, notes = Decontaminate(against=[{"use": "jsonl", "path": str(path)}]), []
    stage.prepare(context(tmp_path, notes))
    assert notes == ["decontaminate: 1 rows of jsonl cannot be read, and nothing is compared with them"]
    assert len(dropped(stage, [row("t", "How tall is the tower of Pisa")])) == 1


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"use": "bfcl_9"}, "bfcl_9"),
        ({"use": "bfcl", "categories": ["nothing"]}, "nothing"),
        ({"use": "jsonl", "path": "missing.jsonl"}, "missing.jsonl"),
    ],
)
def test_sources_that_cannot_be_read(tmp_path, source, message):
    with pytest.raises(CallwrightError, match=message):
        Decontaminate(against=[source]).prepare(context(tmp_path, []))


def test_no_rows_to_compare_with(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"question": 3}\n')
    stage = Decontaminate(against=[{"use": "jsonl", "path": str(tmp_path / "b.jsonl")}])
    with pytest.raises(CallwrightError, match="no rows to compare with"):
        stage.prepare(context(tmp_path, []))


def test_the_fingerprint_knows_the_benchmarks_rows(tmp_path):
    before = against(tmp_path, ["one"]).fingerprint()
    assert against(tmp_path, ["one"]).fingerprint() == before
    assert against(tmp_path, ["two"]).fingerprint() != before
