"""The source `hub`: data sets of the `datasets` library, here from folders and files."""

import json
from pathlib import Path

import datasets
import pytest
from callwright import CallwrightError, RowError, Source
from callwright_data.sources.hub import Hub
from callwright_data.sources.xlam import Xlam

DATA = Path(__file__).parent / "data"
TOOL = {"name": "f", "parameters": {"type": "object", "properties": {"a": {}, "b": {}}}}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture
def rows():
    return [
        {
            "prompt": f"q{n}",
            "functions": json.dumps([TOOL]),
            "gold": json.dumps([{"name": "f", "arguments": given}]),
            "x": n,
        }
        for n, given in enumerate(({"a": 1}, {"b": "y"}, {"c": 1}))
    ]


COLUMNS = {"question": "prompt", "tools": "functions", "calls": "gold"}


def test_a_saved_folder_with_a_map_of_columns(tmp_path, rows):
    datasets.DatasetDict({"train": datasets.Dataset.from_list(rows)}).save_to_disk(str(tmp_path / "set"))
    source = Hub(str(tmp_path / "set"), columns=COLUMNS)
    first, second, error = source.load()
    assert (first.id, second.id) == ("set-1", "set-2")
    assert [call.arguments for task in (first, second) for call in task.answer.calls] == [{"a": [1]}, {"b": ["y"]}]
    assert isinstance(error, RowError)
    assert (error.row, error.field_name) == (3, "calls[0].arguments.c")
    assert source.fingerprint() == Hub(str(tmp_path / "set"), columns=COLUMNS).fingerprint()
    with pytest.raises(CallwrightError, match="no split 'test'; there are train"):
        Hub(str(tmp_path / "set"), split="test").load()
    with pytest.raises(CallwrightError, match="no column 'gild'; there are prompt, functions, gold, x"):
        Hub(str(tmp_path / "set"), columns={"calls": "gild"}).load()


def test_files(tmp_path, rows):
    path = tmp_path / "rows.parquet"
    datasets.Dataset.from_list(rows[:2]).to_parquet(str(path))
    source = Hub("parquet", data_files=str(path), columns=COLUMNS, split="train[1:]")
    (task,) = source.load()
    assert task.messages == ({"role": "user", "content": "q1"},)
    assert str(path) in source.origin
    before = source.fingerprint()
    datasets.Dataset.from_list(rows[:1] * 2).to_parquet(str(path))
    assert Hub("parquet", data_files=str(path), columns=COLUMNS, split="train[1:]").fingerprint() != before


def test_another_format_reads_as_its_own_source(tmp_path):
    rows = [row for row in json.loads((DATA / "xlam.json").read_text()) if isinstance(row["tools"], str)]
    (tmp_path / "some").mkdir()
    (tmp_path / "some" / "train.json").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "same.json").write_text(json.dumps(rows))
    assert list(Hub(str(tmp_path / "some"), format="xlam").load()) == list(Xlam(str(tmp_path / "same.json")).load())


def test_structured_columns_lose_arrows_padding(tmp_path):
    calls = [[{"name": "f", "arguments": {"a": 1}}], [{"name": "f", "arguments": {"b": "y"}}]]
    rows = [{"question": "q", "tools": [TOOL], "calls": call} for call in calls]
    datasets.Dataset.from_list(rows).save_to_disk(str(tmp_path / "set"))
    first, second = Hub(str(tmp_path / "set")).load()
    assert first.answer.calls[0].arguments == {"a": [1]}
    assert second.answer.calls[0].arguments == {"b": ["y"]}


def test_options_go_to_the_format(tmp_path):
    turns = [{"from": "human", "value": "q"}, {"from": "gpt", "value": "no"}]
    datasets.Dataset.from_list([{"conversations": turns, "tools": "[]"}]).save_to_disk(str(tmp_path / "set"))
    options = {"turns": "all", "prose": "no_call"}
    (task,) = Hub(str(tmp_path / "set"), format="hermes", options=options).load()
    assert task.id == "set-1/1"
    assert task.answer.no_call
    with pytest.raises(CallwrightError, match=r"options\.turns: should be 'first' or 'all'"):
        Hub("x", format="hermes", options={"turns": "last"})
    with pytest.raises(CallwrightError, match=r"options.*prose"):
        Hub("x", format="xlam", options={"prose": "no_call"})
    with pytest.raises(ValueError, match="'path' is no option here"):
        Hub("x", options={"path": "y"})


def test_a_hub_that_cannot_be_reached(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import OfflineModeIsEnabled

    asked = []

    def refuse(name, **options):
        asked.append((name, options["revision"]))
        raise error

    monkeypatch.setattr(huggingface_hub, "dataset_info", refuse)
    error = OSError("no route")
    with pytest.raises(CallwrightError, match=r"some/set: the hub cannot be reached \(OSError\).*`data_files`"):
        Hub("some/set", revision="abc").load()
    assert asked == [("some/set", "abc")]
    error = OfflineModeIsEnabled("offline")
    with pytest.raises(CallwrightError, match="some/set is not in the cache"):
        Hub("some/set").load()


def test_what_the_data_card_needs():
    source = Hub("some/set", revision="abc")
    assert isinstance(source, Source)
    assert source.origin == "https://huggingface.co/datasets/some/set/tree/abc"
    assert source.licence == "see its card"
    assert Hub("some/set", licence="MIT").licence == "MIT"
