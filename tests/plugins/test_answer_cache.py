"""Answers on disk, by the content of their question."""

import copy
import json
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from callwright import CallwrightError
from callwright_data.answer_cache import AnswerCache, answer_key
from hypothesis import given
from hypothesis import strategies as st

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return AnswerCache(tmp_path_factory.mktemp("cache") / "not there yet" / "answers.sqlite")


@given(st.lists(st.tuples(st.sampled_from("abc"), JSON_VALUES), min_size=1, max_size=6))
def test_it_behaves_as_a_dict_does(shared, puts):
    model = {}
    for name, value in puts:
        shared.put(name, value)
        model[name] = value
        assert all(shared.get(key) == kept for key, kept in model.items())
    shared.close()
    assert {key: AnswerCache(shared.path).get(key) for key in model} == model


@given(JSON_VALUES, JSON_VALUES)
def test_keys_are_equal_exactly_if_the_parts_are(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (answer_key(first, 1) == answer_key(second, 1)) == same
    assert answer_key(first, second) != answer_key([first, second])


def test_what_is_not_there(tmp_path):
    assert AnswerCache(tmp_path / "a.sqlite").get("a") is None


def test_a_copy_opens_the_file_for_itself(tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("a", 1)
    for other in (copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))):
        assert other.get("a") == 1


def _put_many(path, first):
    cache = AnswerCache(path)
    for number in range(first, first + 50):
        cache.put(str(number), {"value": number})


def test_processes_and_threads_share_a_file(tmp_path):
    """From the first moment, when each finds no file."""
    path = tmp_path / "answers.sqlite"
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_put_many, args=(path, 100 * n)) for n in range(4)]
    for child in children:
        child.start()
    cache = AnswerCache(path)
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda n: cache.put(str(n), {"value": n}), range(1000, 1100)))
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0] * 4
    wanted = [100 * n + i for n in range(4) for i in range(50)] + list(range(1000, 1100))
    assert [cache.get(str(n)) for n in wanted] == [{"value": n} for n in wanted]


def test_a_fork_opens_the_file_for_itself(tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("before", 1)
    child = multiprocessing.get_context("fork").Process(target=lambda: cache.put("child", cache.get("before")))
    child.start()
    child.join()
    cache.put("after", 2)
    assert (child.exitcode, cache.get("child"), cache.get("after")) == (0, 1, 2)


def test_killed_in_the_middle_nothing_is_lost(tmp_path):
    path = tmp_path / "answers.sqlite"
    program = f"""
        from pathlib import Path
        from callwright_data.answer_cache import AnswerCache
        cache = AnswerCache(Path({str(path)!r}))
        for number in range(10**6):
            cache.put(str(number), "x" * 1000)
            print(number, flush=True)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True)
    lines = child.stdout
    assert lines is not None
    for _ in range(50):
        assert lines.readline()
    os.kill(child.pid, signal.SIGKILL)
    reported = 49 + len(lines.read().splitlines())
    child.wait()
    cache = AnswerCache(path)
    assert all(cache.get(str(number)) == "x" * 1000 for number in range(reported + 1))
    cache.put("more", 1)
    assert cache.get("more") == 1


def _put_much(cache):
    for number in range(100):
        cache.put(str(number), "x" * 4096)


def test_a_full_disk_is_said(tmp_path):
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("kept", "before")
    cache._connections[os.getpid()].execute("PRAGMA max_page_count = 8")  # SQLite then says SQLITE_FULL
    with pytest.raises(CallwrightError, match="free space on this disk"):
        _put_much(cache)
    assert cache.get("kept") == "before"


def test_a_file_that_may_not_grow_is_said(tmp_path):
    """What the system says of a quota: an input/output error."""
    cache = AnswerCache(tmp_path / "answers.sqlite")
    cache.put("kept", "before")
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, old[1]))
        with pytest.raises(CallwrightError, match="free space on this disk"):
            _put_much(cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert cache.get("kept") == "before"


def test_a_damaged_file_and_one_of_something_else_are_said(tmp_path):
    path = tmp_path / "answers.sqlite"
    path.write_text("no database, but a text that is long enough to be looked at as one" * 40)
    with pytest.raises(CallwrightError, match="delete it") as caught:
        AnswerCache(path).get("a")
    assert str(path) in str(caught.value)


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CallwrightError, match="make the folder writable"):
        AnswerCache(tmp_path / "file" / "answers.sqlite").put("a", 1)


def _put_as_nobody(path, said):
    if os.geteuid() == 0:  # who may write everywhere
        os.setuid(65534)
    try:
        AnswerCache(path).put("b", 2)
    except CallwrightError as error:
        said.put(str(error))


@pytest.mark.parametrize("there", [False, True], ids=["no file yet", "a file"])
def test_a_read_only_folder_is_said(there):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if there:
            AnswerCache(folder / "answers.sqlite").put("a", 1)
        folder.chmod(0o555)
        context = multiprocessing.get_context("fork")
        said = context.SimpleQueue()
        child = context.Process(target=_put_as_nobody, args=(folder / "answers.sqlite", said))
        child.start()
        child.join()
        assert "make the folder writable" in said.get()
        folder.chmod(0o755)
