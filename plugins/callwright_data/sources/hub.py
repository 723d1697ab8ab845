"""Tasks from any data set that the `datasets` library reads."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from callwright import CallwrightError, RowError, Task
from callwright.types import JSON

from callwright_data.sources._row_files import NumberedRow, without_padding
from callwright_data.sources._rows import FileSource, tasks

_FORMATS = {
    "jsonl": "jsonl:Jsonl",
    "xlam": "xlam:Xlam",
    "toolace": "toolace:ToolAce",
    "openai": "openai:OpenAI",
    "hermes": "hermes:Hermes",
    "glaive": "glaive:Glaive",
}
_TIMEOUT = 10.0
"""Seconds."""


@dataclass
class Hub:
    """Any data set of the `datasets` library, from a hub, a folder or files, with a map of its columns.

    Its rows, their columns renamed, are read as those of the source that `format` names. Columns of structures lose
    keys that are None: Arrow pads them. Where arguments differ from row to row, a column of JSON texts is safer.
    """

    name: str
    """On the hub, such as `Salesforce/xlam-function-calling-60k`; or a folder that `save_to_disk` wrote or that holds
    data files; or, with `data_files`, `json`, `parquet` or `csv`."""
    split: str = "train"
    """As `datasets` takes it, slices included: `train[:1000]`. Of a folder that `save_to_disk` wrote, a name only."""
    config: str | None = None
    """The data set's configuration, if it has several."""
    revision: str | None = None
    """Commit, tag or branch on the hub. Name a commit, and the rows stay what they are."""
    data_files: str | list[str] | None = None
    """Files, relative to the working directory, or in the data set."""
    format: Literal["jsonl", "xlam", "toolace", "openai", "hermes", "glaive"] = "jsonl"
    """The source whose rows these are; `jsonl`, callwright's own, takes question, tools, calls and so on."""
    columns: dict[str, str] = field(default_factory=dict)
    """From fields of the format to the columns that hold them, such as `{question: prompt, calls: answers}`. With a
    map, format `jsonl` passes over all other columns."""
    options: dict[str, JSON] = field(default_factory=dict)
    """Those of the format's source, such as `{turns: all}`."""
    licence: str = "see its card"
    """For the data card."""

    def __post_init__(self) -> None:
        from callwright.plugins import build_component

        module, _, attribute = _FORMATS[self.format].partition(":")
        source = getattr(importlib.import_module(f"callwright_data.sources.{module}"), attribute)
        if "path" in self.options:
            raise ValueError("options: 'path' is no option here; name the data set with `name` or `data_files`")
        self._format: FileSource = build_component(source, {**self.options, "path": self.name}, "options")
        self._dataset: Any = None

    @property
    def origin(self) -> str:
        if self.data_files is not None or Path(self.name).exists():
            return f"{self.name} {self.data_files or ''}".strip()
        return f"https://huggingface.co/datasets/{self.name}" + (f"/tree/{self.revision}" if self.revision else "")

    def load(self) -> Iterator[Task | RowError]:
        """Tasks in the data set's order, called after its last name and their number if they have no id. Raises
        CallwrightError for a data set that cannot be reached or has no such split or column."""
        dataset = self._open()
        missing = [column for column in self.columns.values() if column not in dataset.column_names]
        if missing:
            there = ", ".join(dataset.column_names)
            raise CallwrightError(f"{self.name}: there is no column '{missing[0]}'; there are {there}")
        return tasks(self._rows(dataset), self.name, Path(self.name).name, self._format.read)

    def fingerprint(self) -> str:
        """That of `datasets`: it changes with the files, on the hub with the commit."""
        return str(self._open()._fingerprint)

    def _rows(self, dataset: Any) -> Iterable[NumberedRow]:
        columns = {column: name for name, column in self.columns.items()}
        alone = bool(columns) and self.format == "jsonl"
        for number, row in enumerate(dataset, 1):
            kept = (name for name in row if name in columns or not (alone or name in self.columns))
            yield number, {columns.get(name, name): without_padding(row[name]) for name in kept}

    def _open(self) -> Any:
        if self._dataset is None:
            try:
                self._dataset = self._read()
            except CallwrightError:
                raise
            except ConnectionError as error:
                raise CallwrightError(
                    f"{self.name} is not in the cache, and the hub cannot be asked ({error}); unset HF_HUB_OFFLINE"
                    " where there is a network, or fetch the files elsewhere and name them with `data_files`"
                ) from error
            except Exception as error:  # `datasets` raises what its parts raise, of a hundred kinds
                raise CallwrightError(f"{self.name}: the data set cannot be loaded: {error}") from error
        return self._dataset

    def _read(self) -> Any:
        import datasets  # seconds

        folder = Path(self.name)
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
            if isinstance(loaded, datasets.DatasetDict):
                if self.split not in loaded:
                    raise CallwrightError(f"{folder}: there is no split '{self.split}'; there are {', '.join(loaded)}")
                return loaded[self.split]
            return loaded
        if self.data_files is None and not folder.exists():
            self._check_reachable()
        return datasets.load_dataset(
            self.name, self.config, split=self.split, revision=self.revision, data_files=self.data_files
        )

    def _check_reachable(self) -> None:
        """`datasets` tries an unreachable hub again and again for half a minute; one question is enough."""
        import huggingface_hub
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

        try:
            huggingface_hub.dataset_info(self.name, revision=self.revision, timeout=_TIMEOUT)
        except OfflineModeIsEnabled:
            pass  # what is in the cache can still be read
        except HfHubHTTPError as error:
            raise CallwrightError(
                f"{self.name}: the hub refuses the data set ({error}); check its name, or, if it asks for terms to be"
                " accepted, accept them on its page and log in with `hf auth login`"
            ) from error
        except Exception as error:  # whatever a connection can fail with
            raise CallwrightError(
                f"{self.name}: the hub cannot be reached ({type(error).__name__}); set HF_HUB_OFFLINE=1 to read what"
                " is in the cache, or fetch the files elsewhere and name them with `data_files`"
            ) from error
