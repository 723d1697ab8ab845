"""`callwright eval --suite bfcl` against the real bfcl-eval: prompts, verdicts, reasons, accuracies and tables."""

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import pytest
from callwright import Argument, Call, CallwrightError
from callwright.answering import Reply
from callwright.display import SilentDisplay
from callwright.plugins import find
from callwright.suites.answers import Answers
from callwright.suites.contract import Category, Suite
from callwright.suites.evaluation import evaluate
from callwright_data.sources.bfcl import OTHER_LANGUAGES
from callwright_dialects.egpo import Egpo
from callwright_dialects.funrl import FunRL
from callwright_dialects.hermes import Hermes
from callwright_dialects.json_calls import JsonCalls
from callwright_dialects.llama3 import Llama3
from callwright_dialects.mistral import Mistral
from callwright_dialects.python_calls import PythonCalls
from callwright_rewards.bfcl import Checker
from callwright_suites.bfcl import other_languages
from callwright_suites.bfcl.categories import CATEGORIES, LIVE_AST, NON_LIVE_AST, scores
from callwright_suites.bfcl.judge_process import JudgeProcess
from callwright_suites.bfcl.suite import UNWRITABLE, Bfcl
from hypothesis import given, settings
from hypothesis import strategies as st
from judge_server import Response, serving

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests" / "rewards"))
from bfcl_replies import MUTATIONS, concrete, gold, text_of  # noqa: E402

PEER = ROOT / ".venvs" / "bfcl" / "bin" / "python"
SCRIPT = Path(__file__).with_name("bfcl_evaluation.py")
MODEL = "some_model-1.5"


def peer(*words):
    if not PEER.exists():
        pytest.fail(
            f"{PEER} is missing: the real bfcl-eval is needed to compare with. Run `make test`, which makes it."
        )
    done = subprocess.run([PEER, SCRIPT, *map(str, words)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@cache
def loaded():
    return list(Bfcl().load(CATEGORIES))


@pytest.fixture
def tasks():
    return loaded()


class Scripted:
    """Replies as `script(task)` says: a text, or a Reply."""

    def __init__(self, script):
        self.script, self.asked = script, []

    def replies(self, tasks):
        for task in tasks:
            self.asked.append(task.id)
            reply = self.script(task)
            yield task, reply if isinstance(reply, Reply) else Reply(reply)


def run(folder, tasks, script, rows=None, dialect=None, settings=None):
    answerer = script if isinstance(script, Scripted) else Scripted(script)
    suite = Bfcl()
    answers = Answers(folder, suite, MODEL)
    dialect = dialect or suite.dialect
    return evaluate(suite, "bfcl", tasks, rows, answerer, dialect, answers, settings or {}, SilentDisplay())


# ------------------------------------------------------------------------------------------ replies from answer keys


def source_code(value, schema, category):
    """A value in Java's or JavaScript's notation."""
    kind = schema.get("type")
    if kind == "any" and isinstance(value, str):
        return value
    if isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        suffixes = {"long": "L", "Bigint": "n", "float": "f" if category == "simple_java" else ""}
        return f"{value}{suffixes.get(kind, '')}"
    if isinstance(value, list):
        items = ", ".join(source_code(item, schema.get("items", {}), category) for item in value)
        if kind == "ArrayList":
            return f"new ArrayList<>(Arrays.asList({items}))"
        return f"new String[]{{{items}}}" if kind == "Array" else f"[{items}]"
    pairs = [(json.dumps(key), source_code(item, {}, category)) for key, item in value.items()]
    if kind == "HashMap":
        return f"new HashMap<>() {{{{ {' '.join(f'put({key}, {item});' for key, item in pairs)} }}}}"
    return f"{{{', '.join(f'{key}: {item}' for key, item in pairs)}}}"


OTHER_MUTATIONS = (
    lambda text, rng: text,
    lambda text, rng: text[1:-1],
    lambda text, rng: f"{text[:-1]};]",
    lambda text, rng: f"```\n{text}\n```",
    lambda text, rng: f"Sure: {text}",
    lambda text, rng: text[: rng.randrange(len(text))],
    lambda text, rng: text.replace(", ", "; ", 1),
    lambda text, rng: text.replace('"', "'"),
    lambda text, rng: re.sub(r"\d+", lambda found: f"{found[0]}1", text),
    lambda text, rng: text.replace("true", "True").replace("false", "False"),
    lambda text, rng: re.sub(r"(\w+)=", r"\1_x=", text, count=1),
    lambda text, rng: re.sub(r"(, )?\w+=[^,()]*(?=\))", "", text, count=1),
    lambda text, rng: f"{text[:-1]}, {text[1:]}",
    lambda text, rng: re.sub(r"(\d)([Lfn])\b", r"\1", text),
    lambda text, rng: text.replace("a", "é", 1),
    lambda text, rng: text.replace("=", "=-", 1),
    lambda text, rng: text.replace("(", "(extra=1, ", 1),
    lambda text, rng: text.replace("(", "(positional, ", 1),
    lambda text, rng: "[]",
    lambda text, rng: "",
    lambda text, rng: "I cannot do that.",
)
NO_CALLS = ("[]", "", "I cannot help with that.", "[f(a=1)]", "f(a=", "[f(), g.h(1)]", "x", "[f(a=1+x)]", "[1]")


def reply_of(task, rng):
    """Right, wrong or broken, made from the task's key."""
    category, key = task.meta["category"], task.meta.get("possible_answer")
    if key is None:
        return rng.choice(NO_CALLS)
    if category not in OTHER_LANGUAGES:
        calls = gold(key, rng.randrange(3), rng.random() < 0.7)
        return text_of(calls) if rng.random() < 0.5 else rng.choice(list(MUTATIONS.values()))(calls, rng, task)
    ((name, arguments),) = key[0].items()
    properties = task.meta["functions"][0]["parameters"]["properties"]
    chosen = {argument: concrete(allowed, 0) for argument, allowed in arguments.items()}
    written = [f"{a}={source_code(v, properties.get(a, {}), category)}" for a, v in chosen.items() if v is not None]
    text = f"[{name}({', '.join(written)})]"
    return text if rng.random() < 0.5 else rng.choice(OTHER_MUTATIONS)(text, rng)


def their_verdicts(folder):
    """bfcl-eval's header of every category's score file, and the error type of every row that it rejects."""
    headers, errors = {}, {}
    for path in (folder / "score" / MODEL).rglob("*_score.json"):
        header, *rows = map(json.loads, path.read_text(encoding="utf-8").splitlines())
        headers[path.name.removeprefix("BFCL_v4_").removesuffix("_score.json")] = header
        errors |= {row["id"]: row["error_type"] for row in rows}
    return headers, errors


@pytest.mark.parametrize("seed", range(3))
def test_bfcl_eval_comes_to_the_same_verdict_on_every_row(tmp_path, tasks, seed):
    rng = random.Random(seed)
    found = run(tmp_path, tasks, lambda task: reply_of(task, rng))
    peer("evaluate", tmp_path, MODEL, "single_turn")
    headers, errors = their_verdicts(tmp_path)
    assert list(headers.keys() ^ CATEGORIES) == []
    for category in found.categories:
        theirs = headers[category.name]
        assert (category.asked, category.correct) == (theirs["total_count"], theirs["correct_count"]), category.name
        assert category.accuracy == pytest.approx(theirs["accuracy"], abs=1e-12)
        assert 0.05 < category.accuracy < 0.95, "the replies should be a mixture"
    assert errors == {row: outcome.reason for row, outcome in found.rows.items() if not outcome.correct}
    assert found.complete
    (table,) = csv.DictReader((tmp_path / "score" / "data_overall.csv").open(encoding="utf-8"))
    ours = {(score.by, score.name): score for score in found.scores}
    for column, name in {
        "Non-Live AST Acc": ("BFCL v4 weights", "Non-Live Overall"),
        "Live Acc": ("BFCL v4 weights", "Live Overall"),
        "Irrelevance Detection": ("BFCL v4 weights", "Irrelevance"),
        # What bfcl-eval prints where multi-turn and agentic results are missing: they are zeros in it.
        "Overall Acc": ("BFCL v4 weights", "share of Overall"),
    }.items():
        assert table[column] == f"{ours[name].value:.2%}", column
    assert ours["FunRL paper", "Non-live AST"].value == ours["BFCL v4 weights", "Non-Live Overall"].value
    assert ours["FunRL paper", "Live"].value == ours["BFCL v4 weights", "Live Overall"].value


def test_the_prompts_are_those_of_bfcl_eval(tmp_path, tasks):
    theirs = {}
    for line in peer("prompts", tmp_path, *CATEGORIES).splitlines():
        row = json.loads(line)
        theirs[row["id"]] = row["messages"]
    dialect = Bfcl().dialect
    assert {task.id for task in tasks} == theirs.keys()
    for task in tasks:
        assert dialect.prompt(task).messages == theirs[task.id]
        assert dialect.prompt(task).tools is None


# ---------------------------------------------------------------------------------------------------------- dialects

NAMES = st.sampled_from(["f", "g.h", "weather", "class", "a b"])
SCALARS = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False) | st.text(max_size=8)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
CALLS = st.lists(st.tuples(NAMES, st.dictionaries(st.sampled_from(["a", "b", "if"]), VALUES, max_size=2)), max_size=3)
JSON_DIALECTS = (Hermes(), JsonCalls(), Llama3(), Mistral())


def as_calls(calls):
    nowhere = (0, 0)
    return [Call(n, tuple(Argument(k, v, nowhere, nowhere) for k, v in a.items()), nowhere, nowhere) for n, a in calls]


@settings(max_examples=150)
@given(st.data())
def test_calls_in_json_are_judged_as_the_calls_they_are(data):
    """Written in Python's notation, they get the verdict that BFCL gives to the structures themselves."""
    tasks = loaded()
    dialect = data.draw(st.sampled_from(JSON_DIALECTS))
    task = data.draw(st.sampled_from([task for task in tasks if task.meta["category"] not in OTHER_LANGUAGES]))
    if "possible_answer" in task.meta and data.draw(st.booleans()):
        key = task.meta["possible_answer"]
        pairs = [(n, {a: concrete(v, 0) for a, v in args.items()}) for one in key for n, args in one.items()]
        calls = [(n, {a: v for a, v in args.items() if v is not None}) for n, args in pairs]
    else:
        calls = data.draw(CALLS)
    try:
        text = dialect.render(as_calls(calls))
    except CallwrightError:
        return
    suite, parse = Bfcl(), dialect.parse(text)
    result = suite.result(task, text, dialect)
    structures = [{call.name: call.to_json()["arguments"]} for call in parse.calls]
    expected = Checker(task.meta["functions"], task.meta.get("possible_answer"), task.meta["category"]).check(
        structures
    )
    judged = suite.judge(task, result)
    assert judged.correct == expected.valid
    if result != UNWRITABLE:
        assert judged.correct or judged.reason == expected.error_type


@given(st.text(max_size=60) | st.sampled_from(["<answer>[f(a=1)]</answer>", "<tool_call>{", "[f(a=1)]"]), st.data())
def test_any_reply_in_any_dialect_gets_a_verdict(text, data):
    tasks = loaded()
    dialect = data.draw(st.sampled_from([*JSON_DIALECTS, PythonCalls(), FunRL(), Egpo(), Bfcl().dialect]))
    task = data.draw(st.sampled_from(tasks))
    suite = Bfcl()
    judged = suite.judge(task, suite.result(task, text, dialect))
    assert judged.correct in (True, False)
    assert (judged.reason == "correct") == judged.correct
    assert isinstance(judged.message, str)


def test_only_the_place_for_calls_counts(tasks):
    task = next(task for task in tasks if task.meta["category"] == "simple_python")
    right = text_of(gold(task.meta["possible_answer"]))
    suite = Bfcl()

    def verdict(dialect, text):
        return suite.judge(task, suite.result(task, text, dialect)).correct

    assert verdict(FunRL(), f"<think>\nf(x=1)\n</think>\n<answer>\n{right}\n</answer>")
    assert not verdict(FunRL(), right)
    assert not verdict(FunRL(), f"<think>\n{right}\n</think>\n<answer>\n[]\n</answer>")
    assert verdict(PythonCalls(), right)
    assert not verdict(Hermes(), right)
    assert verdict(Bfcl().dialect, right)


@pytest.mark.parametrize("category", OTHER_LANGUAGES)
def test_json_calls_count_in_java_and_javascript(tmp_path, tasks, category):
    """As source code inside texts, which is how BFCL asks for it."""
    suite, right = Bfcl(), 0
    chosen = [task for task in tasks if task.meta["category"] == category]
    for task in chosen:
        ((name, arguments),) = task.meta["possible_answer"][0].items()
        properties = task.meta["functions"][0]["parameters"]["properties"]
        values = {argument: concrete(allowed, 0) for argument, allowed in arguments.items()}
        given = {
            a: v if isinstance(v, str) else source_code(v, properties.get(a, {}), category)
            for a, v in values.items()
            if v is not None
        }
        result = suite.result(task, Hermes().render(as_calls([(name, given)])), Hermes())
        right += bool(suite.judge(task, result).correct)
    assert right > 0.6 * len(chosen)


def test_every_dialect_is_told_that_a_language_is_another_one(tasks):
    for task in tasks:
        if task.meta["category"] in OTHER_LANGUAGES:
            schemas = [schema for tool in task.tools for schema in tool.parameters["properties"].values()]
            assert {schema["type"] for schema in schemas} <= {"string"}
            assert all("string representation" in schema["description"] for schema in schemas)
            assert all(re.search(r"in Java(Script| 8 SDK) syntax\.$", tool.description) for tool in task.tools)
            assert "Java" in PythonCalls().prompt(task).messages[-1]["content"]


def test_a_reply_that_would_take_for_ever_is_wrong_in_time(tasks):
    """bfcl-eval's regular expressions take 2^40 steps here, and it never ends."""
    arrays = ((task, *task.meta["functions"][0]["parameters"]["properties"].items()) for task in tasks)
    task, name = next(
        (task, name)
        for task, *schemas in arrays
        for name, schema in schemas
        if schema["type"] == "array" and task.meta["category"] == "simple_javascript"
    )
    function, judge = task.meta["functions"][0], JudgeProcess(seconds=1)

    def check(value):
        given = dict.fromkeys(function["parameters"]["required"], '"x"') | {name: value}
        reply = f"[{function['name']}({', '.join(f'{a}={v}' for a, v in given.items())})]"
        return judge.check(reply, [function], task.meta["possible_answer"], "simple_javascript")

    for _ in range(2):
        found = check(f"[{'[1],' * 40} 5]")
        assert not found.valid
        assert "within 1 s" in found.message
    assert "within" not in check("[1, 2]").message


def test_a_judge_that_does_not_start_is_no_verdict(tasks, monkeypatch, capfd):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    task = next(task for task in tasks if task.meta["category"] == "simple_java")
    with pytest.raises(CallwrightError, match="does not start"):
        Bfcl().judge(task, "[f()]")


def test_other_languages_are_not_judged_without_their_parsers(tmp_path, tasks, monkeypatch):
    monkeypatch.setattr(other_languages, "find_spec", lambda name: None)
    found = run(tmp_path, tasks, lambda task: "[]", rows=2)
    by_name = {one.name: one for one in found.categories}
    for category in OTHER_LANGUAGES:
        assert (by_name[category].asked, by_name[category].judged, by_name[category].accuracy) == (2, 0, None)
        assert "pip install 'callwright[bfcl]'" in by_name[category].why_not
    undefined = {(score.by, score.name): score for score in found.scores if score.value is None}
    assert {name for by, name in undefined if by == "FunRL paper"} == {"Non-live AST", "single turn"}
    assert "simple_java (not judged here)" in undefined["FunRL paper", "Non-live AST"].why_not
    # With the parsers installed, the same answers are judged, and nothing is asked again.
    monkeypatch.undo()
    again = Scripted(lambda task: pytest.fail("asked again"))
    assert all(one.judged == 2 for one in run(tmp_path, tasks, again, rows=2).categories)


# ------------------------------------------------------------------------------------------------------------ scores


def counted(accuracies, asked):
    return {
        name: Category(name, asked[name], asked[name], asked[name], round(share * asked[name]), 0)
        for name, share in accuracies.items()
    }


def test_the_papers_numbers_come_from_the_papers_parts():
    """Qwen3-4B-Instruct-2507 in the EGPO paper (v4, table 4): 86.35, 70.02, and 78.19 (table 1) of them."""
    parts = dict(zip(LIVE_AST, (0.7364, 0.6961, 0.8125, 0.4167), strict=True))
    asked = dict(zip(LIVE_AST, (258, 1053, 16, 24), strict=True))
    simple, rest = NON_LIVE_AST[:3], NON_LIVE_AST[3:]
    parts |= dict.fromkeys(simple, 0.7642) | dict(zip(rest, (0.915, 0.88, 0.895), strict=True))
    asked |= dict.fromkeys(NON_LIVE_AST, 10_000)
    found = {score.name: score for score in scores(counted(parts, asked)) if score.by == "FunRL paper"}
    assert found["Non-live AST"].value == pytest.approx(0.8635, abs=1e-4)
    assert found["Live"].value == pytest.approx(0.7002, abs=1e-4)
    assert found["single turn"].value == pytest.approx(0.7819, abs=1e-4)


@given(st.fixed_dictionaries({name: st.integers(0, 9) for name in CATEGORIES}), st.sets(st.sampled_from(CATEGORIES)))
def test_a_score_is_there_exactly_if_all_its_categories_are(correct, missing):
    everything = {name: Category(name, 9, 9, 9, count, 0) for name, count in correct.items()}
    full, perfect = scores(everything), scores({n: Category(n, 9, 9, 9, 9, 0) for n in CATEGORIES})
    without = scores({name: one for name, one in everything.items() if name not in missing})
    for score, best, part in zip(full, perfect, without, strict=True):
        if score.name == "Overall":
            assert (score.value, part.value) == (None, None)
            assert "multi-turn" in score.why_not
            continue
        assert 0 <= score.value <= score.of + 1e-12
        assert best.value == pytest.approx(score.of)
        if part.value is None:
            assert any(f"{name} (not asked)" in part.why_not for name in missing)
        else:
            assert part.value == score.value


# ------------------------------------------------------------------------------------------------- going on, mistakes


def test_the_same_command_asks_only_what_is_not_answered(tmp_path, tasks):
    small = [task for task in tasks if task.meta["category"] in ("live_relevance", "live_parallel")]

    class Dies(Scripted):
        def replies(self, tasks):
            for number, pair in enumerate(super().replies(tasks)):
                if number == 10:
                    raise KeyboardInterrupt
                yield pair

    script = Dies(lambda task: f"[f(a='{task.id}')]")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, small, script)
    rest = Scripted(script.script)
    found = run(tmp_path, small, rest)
    assert rest.asked == [task.id for task in small][10:]
    whole = run(tmp_path / "other", small, script.script)
    assert found == whole
    files = {path.name: path.read_bytes() for path in tmp_path.rglob("other/**/*_result.json")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "result").rglob("*_result.json")} == files


def test_rows_without_a_reply_count_as_in_bfcl_eval(tmp_path, tasks):
    wanted = ("simple_python", "irrelevance", "live_relevance")
    some = [task for task in tasks if task.meta["category"] in wanted]
    found = run(tmp_path, some, lambda task: Reply("", unanswered="9000 tokens do not fit"), rows=3)
    assert [(one.unanswered, one.correct) for one in found.categories] == [(3, 0), (3, 3), (3, 0)]
    peer("evaluate", tmp_path, MODEL, *wanted)
    headers, _ = their_verdicts(tmp_path)
    assert {name: header["correct_count"] for name, header in headers.items()} == {
        one.name: one.correct for one in found.categories
    }


def test_the_suite_is_found_and_is_one():
    cls, origin = find("suite", "bfcl")
    assert cls is Bfcl
    assert origin.distribution == "callwright"
    assert isinstance(Bfcl(), Suite)


def command(folder, url, *words):
    arguments = ["eval", "m", "--endpoint", url, "--suite", "bfcl", "--out", str(folder), *words]
    return [sys.executable, "-m", "callwright", *arguments]


def test_kill_and_go_on(tmp_path):
    """kill -9 in the middle: only the question that was under way is asked again, and nothing is half-written."""

    def script(row, body, number):
        time.sleep(0.05)
        return f"[f(a={number})]"

    with serving(script) as server:
        words = command(tmp_path, server.url, "--category", "live_relevance", "--batch-size", "1")
        process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while server.requests < 7:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        (file,) = tmp_path.rglob("*_result.json")
        with file.open("ab") as end:  # as if the kill had come in the middle of a write
            end.write(b'{"id": "live_relevance_9-')
        before = server.requests
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert server.requests in (16, 17)
        assert server.requests > before
        assert "16 answers" in done.stdout or f"of 16 answers are in {tmp_path} already" in done.stdout
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert len({line["id"] for line in lines}) == len(lines) == 16
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["categories"][0]["accuracy"] == 1.0
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert not list(tmp_path.rglob(".*.new"))


def test_ctrl_c_says_how_to_go_on(tmp_path):
    with serving(lambda row, body, number: Response(body="", seconds=60) if number == 3 else "[]") as server:
        words = command(tmp_path, server.url, "--category", "live_relevance", "--batch-size", "1")
        process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        while server.requests < 4:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert f"3 answers are kept in {tmp_path}: the same command goes on" in out
    assert "Traceback" not in out + err


def test_two_models_side_by_side(tmp_path):
    """Table, chart and changes of a model that calls and one that does not."""
    replies = {"calls": "[f(a=1)]", "talks": "I cannot."}
    with serving(lambda row, body, number: replies[body["model"]]) as server:
        for model in replies:
            words = ["eval", model, "--endpoint", server.url, "--suite", "bfcl", "--rows", "3", "--out", model]
            words += ["--category", "live_relevance", "--category", "irrelevance"]
            words += ["--against", "calls", "--json", "again.json"] if model == "talks" else []
            done = subprocess.run(
                [sys.executable, "-m", "callwright", *words], capture_output=True, text=True, cwd=tmp_path
            )
            assert done.returncode == 0, done.stderr
    rows = [line.split() for line in done.stdout.splitlines()]
    assert ["live_relevance", "3", "100.00%", "0.00%", "-100.00", "0", "3"] in rows
    assert ["irrelevance", "3", "0.00%", "100.00%", "+100.00", "3", "0"] in rows
    assert ["irrelevance", "irrelevance_error:decoder_success", "3", "0", "-3"] in rows
    assert "6 rows flipped" in done.stdout
    assert "6 of these categories' 256 rows were asked: no number here compares with a published one" in done.stdout
    changes = json.loads((tmp_path / "talks" / "changes.json").read_text())
    assert [(one["name"], one["gained"], one["lost"]) for one in changes["categories"]] == [
        ("irrelevance", 3, 0),
        ("live_relevance", 0, 3),
    ]
    assert len(changes["flips"]) == 6
    report = json.loads((tmp_path / "talks" / "report.json").read_text())
    assert json.loads((tmp_path / "again.json").read_text()) == report
    assert not report["complete"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--category", "simple_pyton"], "did you mean 'simple_python'?"),
        (["--against", "nowhere"], "--against nowhere: there is no report.json"),
        (["--suite", "bfcll"], "unknown suite 'bfcll'; did you mean 'bfcl'?"),
        (["--held-out"], "leave --category and --suite out"),
        (["--device", "cpu"], "leave them out"),
        (["--key-env", "sk-123-456"], "--key-env: should be the name of an environment variable"),
        (["--endpoint", "localhost:8000"], "--endpoint: should be like http://localhost:8000/v1"),
    ],
)
def test_mistakes(tmp_path, words, message):
    done = subprocess.run(
        command(tmp_path / "out", "http://127.0.0.1:9/v1", *words), capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode in (1, 2)
    assert message in re.sub(r"[^\x21-\x7e]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*_result.json"))


def test_answers_of_another_evaluation_are_not_mixed(tmp_path):
    with serving(lambda row, body, number: "[]") as server:
        words = ("--category", "live_relevance", "--rows", "1")
        assert subprocess.run(command(tmp_path, server.url, *words), capture_output=True).returncode == 0
        other = command(tmp_path, server.url, *words, "--max-new-tokens", "9")
        done = subprocess.run(other, capture_output=True, text=True)
        assert done.returncode == 1
        assert "(max_new_tokens: 512 there, 9 now): give another --out, or delete them with --fresh" in done.stderr
        assert server.requests == 1
        assert subprocess.run([*other, "--fresh"], capture_output=True).returncode == 0
        assert server.requests == 2
        assert server.bodies[1]["max_tokens"] == 9


def test_an_endpoint_that_breaks_leaves_what_it_answered(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret-key-123456")

    def script(row, body, number):
        return "[]" if number < 4 else Response(401, "no secret-key-123456")

    with serving(script) as server:
        words = command(
            tmp_path, server.url, "--category", "live_relevance", "--batch-size", "1", "--key-env", "MY_KEY"
        )
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 1
        assert "the endpoint refuses the key" in done.stderr
        assert "environment variable MY_KEY, which is set" in done.stderr
        (file,) = tmp_path.rglob("*_result.json")
        assert len(file.read_text().splitlines()) == 4
        assert server.keys == ["Bearer secret-key-123456"] * 5
    everything = done.stdout + done.stderr + "".join(p.read_text() for p in tmp_path.rglob("*.json"))
    assert "secret-key" not in everything
