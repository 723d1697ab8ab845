"""Files of rows: JSON arrays, JSON lines and Parquet give the same rows, and say where they break."""

import gzip
import hashlib
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from callwright import CallwrightError, RowError
from callwright_data.sources import _row_files
from callwright_data.sources._row_files import read_rows, sha256, stem, without_padding
from hypothesis import given
from hypothesis import strategies as st

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


def written(folder, name, data):
    path = folder / name
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@given(
    rows=st.lists(JSON, max_size=5),
    chunk=st.integers(1, 40),
    indent=st.none() | st.integers(0, 20),
    escaped=st.booleans(),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    ending=st.sampled_from([".json", ".json.gz"]),
)
def test_an_array_is_read_as_json_reads_it_however_it_is_cut(folder, rows, chunk, indent, escaped, mark, ending):
    text = json.dumps(rows, indent=indent, ensure_ascii=escaped)
    data = mark + text.encode(errors="replace")
    path = written(folder, f"a{ending}", data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_row_files, "_CHUNK", max(chunk, 4 if mark else 1))
        found = list(read_rows(path)) if chunk >= 8 else list(first_seen(path))
    assert found == list(enumerate(json.loads(data.decode("utf-8-sig")), 1))


def first_seen(path):
    """Chunks of few bytes, but the bracket found: only that looks at one whole chunk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_row_files, "_first_character", lambda file: b"[")
        yield from read_rows(path)


@given(rows=st.lists(JSON, min_size=1, max_size=5), ending=st.sampled_from([".jsonl", ".ndjson", ".jsonl.gz", ".json"]))
def test_lines(folder, rows, ending):
    lines = [json.dumps(row) for row in rows]
    if ending == ".json":  # not an array: lines of objects
        lines = [json.dumps({"row": row}) for row in rows]
    path = written(folder, f"b{ending}", "\n\n".join(lines).encode())
    assert list(read_rows(path)) == [(2 * n + 1, json.loads(line)) for n, line in enumerate(lines)]


@given(data=st.binary(max_size=60), start=st.sampled_from([b"", b"[", b"[1,", b'[{"a": "', b"\xef\xbb\xbf["]))
def test_any_bytes_are_rows_or_a_clear_error(folder, data, start):
    for name in ("c.json", "c.jsonl"):
        numbers, message = [], ""
        try:
            for number, row in read_rows(written(folder, name, start + data)):
                numbers.append(number)
                assert not isinstance(row, RowError) or row.row == number
        except CallwrightError as error:
            message = str(error)
        assert numbers == sorted(set(numbers))
        assert " line " in message if name == "c.json" and message else not message


def test_the_same_tasks_whatever_the_format(folder):
    from callwright_data.sources.jsonl import Jsonl

    tool = {"name": "f", "parameters": {"type": "object", "properties": {"a": {}}}}
    rows = [
        {"id": f"r{n}", "question": f"q{n}", "tools": [tool], "calls": [{"name": "f", "arguments": {"a": value}}]}
        for n, value in enumerate((1, "x", None, {"b": None}))
    ]
    text = "\n".join(map(json.dumps, rows)).encode()
    columns = [
        {name: json.dumps(value) if name in ("tools", "calls") else value for name, value in row.items()}
        for row in rows
    ]
    pq.write_table(pa.Table.from_pylist(columns), folder / "d.parquet", row_group_size=2)
    paths = [
        written(folder, "d.jsonl", text),
        written(folder, "d.jsonl.gz", text),
        written(folder, "d.json", json.dumps(rows, indent=1).encode()),
        folder / "d.parquet",
    ]
    first, *others = (list(Jsonl(str(path)).load()) for path in paths)
    assert [task.id for task in first] == ["r0", "r1", "r2", "r3"]
    assert others == [first] * 3


def test_arrow_padding_is_no_argument(folder):
    rows = [{"calls": {"a": 1, "b": None}, "day": None}, {"calls": {"a": None, "b": [{"c": 1}, {"d": b"x"}]}, "day": 3}]
    pq.write_table(pa.Table.from_pylist(rows), folder / "e.parquet")
    assert list(read_rows(folder / "e.parquet")) == [
        (1, {"calls": {"a": 1}}),
        (2, {"calls": {"b": [{"c": 1}, {"d": "b'x'"}]}, "day": 3}),
    ]
    assert without_padding({"a": (None, 1)}) == {"a": [None, 1]}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("f.json", b'[\n{"a": 1},\n{"a": tru}]', "malformed JSON at line 3"),
        ("f.json", b'[\n{"a": 1}\n{"a": 2}]', "line 3: ',' or ']' is missing"),
        ("f.json", b'[\n{"a": 1},\n{"a": 2}', "line 3: the file ends inside the array"),
        ("f.json", b'[\n{"a": 1},\n{"a": "x', "line 3: Unterminated string"),
        ("f.json", b'[\n{"a": 1}]\n\nmore', "line 4: text behind the end"),
        ("f.json", b'[{"a": 1},\n\n{"b": "\xff"}]', "line 3 is no UTF-8"),
        ("f.json", b"[" + b"1," * 40_000 + b"\n\xff]", "line 2 is no UTF-8"),
        ("f.json", b"[\n" + b"[" * 100_000, "malformed JSON at line 2"),
        ("f.json.gz", gzip.compress(b"[1, 2]", mtime=0)[:-9], "no whole gzip file"),
        ("f.jsonl.gz", b"[1]", "cannot be read|no whole gzip file"),
        ("f.parquet", b"PAR1", "behind row 0"),
        ("f.csv", b"a,b", "rows are read from .json, .jsonl"),
    ],
)
def test_files_that_break(folder, name, data, message):
    path = folder / name
    path.write_bytes(data)
    with pytest.raises(CallwrightError, match=message) as caught:
        list(read_rows(path))
    assert str(path) in str(caught.value)


def test_a_row_that_holds_no_json_number_is_an_error_of_its_own(folder):
    for name, data in (
        ("g.json", b'[{"a": 1},\n{"a": [NaN]},\n{"a": 2}]'),
        ("g.jsonl", b'{"a": 1}\n{"a": [-1e999]}\n{"a": 2}'),
    ):
        first, (number, error), last = read_rows(written(folder, name, data))
        assert (first, last) == ((1, {"a": 1}), (3, {"a": 2}))
        assert number == error.row == 2
        assert "is no finite number" in str(error)


def test_an_item_longer_than_a_piece(folder, monkeypatch):
    monkeypatch.setattr(_row_files, "_CHUNK", 64)
    rows = [{"text": "x" * 100_000}, {"text": "é" * 5000}, 12345678901234567890]
    path = written(folder, "h.json", json.dumps(rows, ensure_ascii=False).encode())
    assert [row for _, row in read_rows(path)] == rows


def test_stem_and_hash(folder):
    path = written(folder, "i.jsonl", b"1")
    assert [stem(Path(name)) for name in ("a/b.jsonl", "b.json.gz", "b.c.parquet")] == ["b", "b", "b.c"]
    assert sha256([path]) == sha256([path]) != sha256([path, path])
    assert sha256([path]) == hashlib.sha256(hashlib.sha256(b"1").digest()).hexdigest()
    with pytest.raises(CallwrightError, match=r"data file not found: .*nowhere\.json"):
        sha256([folder / "nowhere.json"])
