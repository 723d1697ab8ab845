"""Tasks in the format of xlam-function-calling-60k."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from callwright import Task

from callwright_data.sources._json_schema import xlam_parameters
from callwright_data.sources._rows import FileSource, Row, answer


@dataclass
class Xlam(FileSource):
    """xlam-function-calling-60k (APIGen): a question, its tools with Python's types, and the calls.

    Fields of a row, by the data set's card: `query`, a text; `tools` and `answers`, JSON in a text (lists are read
    too); `id`, a number. An empty list of answers says that no call should be made. Source: Liu et al., APIGen,
    arXiv 2406.18518; the file is Salesforce/xlam-function-calling-60k's `xlam_function_calling_60k.json`, to be had
    there after its terms are accepted.
    """

    licence: ClassVar[str] = "CC-BY-4.0; the card also asks to accept terms of use, for research: see it"
    origin: ClassVar[str] = "https://huggingface.co/datasets/Salesforce/xlam-function-calling-60k"

    def read(self, row: Row) -> Iterator[Task]:
        question = {"role": "user", "content": row.text("query")}
        tools = row.tools(row.items("tools"), parameters=xlam_parameters)
        calls = [row.call(call, f"answers[{index}]") for index, call in enumerate(row.items("answers"))]
        yield Task(row.id(), (question,), tools, answer(calls))
