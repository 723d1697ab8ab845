"""The stage `deduplicate`, and the MinHash that it shares with `decontaminate`."""

import itertools
import math
import random
import re

import pytest
from callwright import Answer, Dropped, ExpectedCall, Task, Tool
from callwright_data.sources.bfcl import CATEGORIES, Bfcl
from callwright_data.stages import _near_duplicates as near
from callwright_data.stages.deduplicate import Deduplicate
from datasketch import MinHash, MinHashLSH
from hypothesis import given, settings
from hypothesis import strategies as st


def row(name, text, tools=(), answer=None):
    return Task(name, ({"role": "user", "content": text},), tools, answer)


def ngrams(text, n=3):
    """Independent of the stage's: tuples of words, of a text that is normalised already."""
    found = text.split()
    return {tuple(found[i : i + n]) for i in range(max(len(found) - n, 0) + 1)} if found else set()


def jaccard(one, other):
    return len(one & other) / len(one | other) if one | other else 0.0


def varied_texts(rng, count, vocabulary=400):
    """Texts of 20 to 40 words, of which most are an earlier one with some words changed: pairs of any similarity."""
    texts = []
    for _ in range(count):
        if texts and rng.random() < 0.8:
            changed = rng.choice(texts).split()
            for _ in range(rng.randrange(8)):
                changed[rng.randrange(len(changed))] = f"w{rng.randrange(vocabulary)}"
        else:
            changed = [f"w{rng.randrange(vocabulary)}" for _ in range(rng.randrange(20, 40))]
        texts.append(" ".join(changed))
    return texts


def dropped(stage, tasks):
    return [result for result in stage.apply(tasks) if isinstance(result, Dropped)]


# ------------------------------------------------------------------------------------------------------------ MinHash


@given(*[st.lists(st.sampled_from("abcde"), max_size=12)] * 2, st.integers(1, 4))
def test_shingles_have_the_jaccard_similarity_of_the_ngrams(one, other, n):
    hashes, expected = [near.shingles(w, n) for w in (one, other)], [ngrams(" ".join(w), n) for w in (one, other)]
    assert [len(h) for h in hashes] == [len(e) for e in expected]
    if one and other:
        assert near.jaccard(*hashes) == jaccard(*expected)


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=8), st.text(), st.text())
def test_texts_of_different_scopes_share_nothing(words, one, other):
    shared = near.shingles(words, 2, one) & near.shingles(words, 2, other)
    assert bool(shared) == (one == other)


@given(st.floats(0.01, 1), st.integers(16, 1024))
def test_bands(threshold, permutations):
    count, values = near.bands(threshold, permutations)
    assert 1 <= count * values <= permutations
    found = 1 - (1 - threshold**values) ** count
    assert found >= near.RECALL or values == 1


def test_estimates_err_as_the_formula_says():
    rng = random.Random(1)
    sketches = near.Signatures(0.5, 128, seed=3)
    errors = []
    for _ in range(400):
        shared, alone = rng.randrange(1, 60), rng.randrange(1, 60)
        numbers = rng.sample(range(2**32), shared + 2 * alone)
        one, other = set(numbers[: shared + alone]), set(numbers[:shared]) | set(numbers[shared + alone :])
        true = jaccard(one, other)
        estimate = float((sketches.of(one) == sketches.of(other)).mean())
        errors.append((estimate - true) / math.sqrt(true * (1 - true) / 128))
    assert abs(sum(errors) / 400) < 4.5 / math.sqrt(400)
    assert sum(error**2 for error in errors) / 400 == pytest.approx(1, abs=4.5 * math.sqrt(2 / 400))


@pytest.mark.parametrize("permutations", [64, 128])
@pytest.mark.parametrize("threshold", [0.5, 0.8])
def test_pairs_at_the_threshold_are_compared(threshold, permutations):
    rng, draws = random.Random(5), 1000
    shared = 60
    alone = round(shared * (1 / threshold - 1) / 2)  # of each side, for a similarity just at the threshold
    sketches = near.Signatures(threshold, permutations, seed=0)
    index = near.Index(sketches)
    others = []
    for pair in range(draws):
        numbers = rng.sample(range(2**32), shared + 2 * alone)
        index.add(pair, sketches.of(set(numbers[: shared + alone])).copy())
        others.append(sketches.of(set(numbers[:shared]) | set(numbers[shared + alone :])).copy())
    missed = sum(pair not in index.candidates(others[pair]) for pair in range(draws))
    expected = (1 - near.RECALL) * draws
    assert missed <= expected + 3 * math.sqrt(expected)


def test_the_smaller_index_finds_what_one_of_all_rows_finds():
    texts = varied_texts(random.Random(2), 400)
    hashes = [near.shingles(text.split(), 3) for text in texts]
    threshold, permutations = 0.6, 64
    earlier = near.EarlierRows(hashes, len(hashes), threshold, permutations, seed=9)

    # The library alone: every row that is kept is put in.
    lsh = MinHashLSH(num_perm=permutations, params=near.bands(threshold, permutations))
    kept = {}
    for number, of_row in enumerate(hashes):
        sketch = MinHash(permutations, 9, hashfunc=int)
        sketch.update_batch(of_row)
        pairs = [(kept[name].jaccard(sketch), -name) for name in lsh.query(sketch)]
        similarity, name = max(pairs, default=(0.0, 0))
        expected = (-name, similarity) if similarity >= threshold else None
        assert earlier.repeated_by(number) == expected
        if expected is None:
            lsh.insert(number, sketch)
            kept[number] = sketch
            earlier.keep(number)
    assert 50 < len(kept) < 350


# ---------------------------------------------------------------------------------------------------------- the stage


@pytest.mark.parametrize(("threshold", "permutations", "seed"), [(0.8, 128, 0), (0.6, 128, 1), (0.7, 64, 2)])
def test_kept_rows_are_below_the_threshold_and_dropped_ones_above(threshold, permutations, seed):
    texts = varied_texts(random.Random(seed), 500)
    tasks = [row(f"t{n}", text) for n, text in enumerate(texts)]
    results = list(Deduplicate(threshold, within="anywhere", permutations=permutations, seed=seed).apply(tasks))
    kept = {result.id: ngrams(text) for result, text in zip(results, texts, strict=True) if isinstance(result, Task)}

    def may_err(similarity):
        return 4.5 * math.sqrt(similarity * (1 - similarity) / permutations)

    for one, other in itertools.combinations(kept.values(), 2):
        exact = jaccard(one, other)
        assert exact < threshold + may_err(exact)

    near_duplicates = 0
    for text, result in zip(texts, results, strict=True):
        if isinstance(result, Dropped) and result.code == "near_duplicate":
            near_duplicates += 1
            name, estimate = re.search(r"'(.+)' \(estimated Jaccard (.+)\)", result.message).groups()
            exact = jaccard(kept[name], ngrams(text))  # the row that it names was kept
            assert int(name[1:]) < int(result.task.id[1:])
            assert exact > threshold - may_err(threshold)
            assert float(estimate) == pytest.approx(exact, abs=may_err(exact) + 0.006)
            assert float(estimate) >= threshold - 0.006  # it is rounded
    assert near_duplicates > 20


KEYS = st.tuples(st.sampled_from(["go", "Go!", "stop"]), st.sampled_from(["f", "g"]), st.sampled_from([None, 1, 2]))


@given(st.lists(KEYS, max_size=12), st.lists(KEYS, max_size=6))
def test_exact_duplicates(keys, more):
    def tasks(keys):
        for n, (text, tool, value) in enumerate(keys):
            answer = None if value is None else Answer((ExpectedCall(tool, {"a": [value]}),))
            yield row(f"t{n}", text, (Tool(tool),), answer)

    results = list(Deduplicate(threshold=None).apply(list(tasks(keys))))
    first = {}
    for n, (text, tool, value) in enumerate(keys):
        same = (text.strip("!").lower(), tool, value)
        if same in first:
            assert results[n].code == "exact_duplicate"
            assert f"as row 't{first[same]}'" in results[n].message
        else:
            assert isinstance(results[n], Task)
            first[same] = n


@settings(max_examples=20)
@given(st.integers(0, 10**6), st.integers(1, 30))
def test_rows_that_follow_change_nothing(seed, more):
    texts = varied_texts(random.Random(seed), 30 + more, vocabulary=30)
    tasks = [row(f"t{n}", text) for n, text in enumerate(texts)]
    stage = Deduplicate(threshold=0.5)
    assert list(stage.apply(tasks[:30])) == list(stage.apply(tasks))[:30]


def test_within_the_same_tools_or_anywhere():
    text = "What will the weather be in Bergen on the morning of next Monday?"
    f, g = Tool("f", "", {"properties": {"a": {}}}), Tool("f", "", {"properties": {"b": {}}})
    tasks = [row("one", text, (f,)), row("other tools", text, (g,)), row("both", text.replace("next", "a"), (f,))]
    assert [d.task.id for d in dropped(Deduplicate(0.6), tasks)] == ["both"]
    assert [d.task.id for d in dropped(Deduplicate(0.6, within="anywhere"), tasks)] == ["other tools", "both"]
    assert not dropped(Deduplicate(threshold=None), tasks)


def test_questions_without_words_have_no_near_duplicates():
    tasks = [row("a", "?"), row("b", "!"), row("c", ""), row("d", " ?")]
    assert [(d.task.id, d.code) for d in dropped(Deduplicate(0.01, within="anywhere"), tasks)] == [
        ("d", "exact_duplicate")
    ]


def test_bfcl():
    tasks = list(Bfcl(list(CATEGORIES)).load())
    # BFCL has five rows of its own that repeat another one: same words, tools and answer.
    own = dropped(Deduplicate(threshold=None), tasks)
    assert len(own) == 5
    assert {d.task.meta["category"] for d in own} == {"live_irrelevance"}
    repeated = [
        Task(f"again {t.id}", ({"role": "user", "content": t.messages[-1]["content"].upper()},), t.tools, t.answer)
        for t in tasks[:400]
    ]
    found = dropped(Deduplicate(threshold=None), [*tasks, *repeated])[len(own) :]
    assert [d.task for d in found] == repeated
    assert all(f"as row '{d.task.id.removeprefix('again ')}'" in d.message for d in found)

    # The categories `simple_python` and `multiple` ask 101 questions both, with other tools beside the right one.
    left = [task for task in tasks if task.meta["category"] in ("simple_python", "multiple")]
    assert not dropped(Deduplicate(), left)
    assert len(dropped(Deduplicate(within="anywhere"), left)) == pytest.approx(101, abs=3)
