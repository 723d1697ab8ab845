"""Files of rows, read a piece at a time: JSON arrays, JSON lines and Parquet, the first two also compressed."""

from __future__ import annotations

import codecs
import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NoReturn, cast

from callwright import CallwrightError, RowError
from callwright.types import JSON

_CHUNK = 1 << 20
"""Bytes that are read at once."""
_SPACE = " \t\r\n"
_MARGIN = 16
"""A mistake this close to the end of what was read may be none: the text may go on. Longer than any JSON word."""
_BATCH = 1000
"""Parquet rows that are held at once."""
SUFFIXES = (".json", ".jsonl", ".ndjson", ".json.gz", ".jsonl.gz", ".ndjson.gz", ".parquet")

WHOLE = "(whole row)"
"""The field's name in an error that concerns all of a row."""

NumberedRow = tuple[int, JSON | RowError]
"""A row's number, which is its line's in a file of lines and counts from 1 elsewhere; and the row, or what is wrong."""


def read_rows(path: Path) -> Iterator[NumberedRow]:
    """The rows of a file, by its suffix, in order. Memory does not depend on the number of rows.

    A `.json` file is an array of rows or, as on many a hub, JSON lines. Where a row alone cannot be read, as a line
    that is no JSON, its place is taken by a RowError. Raises CallwrightError for a file that is missing, has another
    suffix, or cannot be read on.
    """
    if not path.is_file():
        raise CallwrightError(f"data file not found: {path.absolute()}")
    if not path.name.lower().endswith(SUFFIXES):
        raise CallwrightError(f"{path}: rows are read from {', '.join(SUFFIXES)}; name the file after its format")
    return _parquet(path) if path.suffix.lower() == ".parquet" else _json(path)


def stem(path: Path) -> str:
    """The file's name without its suffixes."""
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem


def sha256(paths: Iterable[Path]) -> str:
    """Hexadecimal, of the contents of files one after the other. Raises CallwrightError for one that is missing."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except FileNotFoundError as error:
            raise CallwrightError(f"data file not found: {path.absolute()}") from error
        except OSError as error:
            raise CallwrightError(f"data file {path.absolute()} cannot be read: {error.strerror}") from error
    return digest.hexdigest()


def without_padding(value: Any) -> JSON:
    """A nested Arrow value as JSON: keys that Arrow padded with None left out, dates and bytes as texts."""
    if isinstance(value, dict):
        return {str(key): without_padding(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [without_padding(item) for item in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)


# ------------------------------------------------------------------------------------------------------------ JSON


class _Decoder(json.JSONDecoder):
    """Python's decoder; it notes whether a value held NaN or Infinity, which JSON has not (RFC 8259), or a number too
    large for a float."""

    def __init__(self) -> None:
        self.constant: str | None = None
        super().__init__(parse_constant=self._note, parse_float=self._float)

    def _note(self, name: str) -> None:
        self.constant = name

    def _float(self, written: str) -> float:
        number = float(written)
        if math.isinf(number):
            self.constant = written[:40]
        return number

    def problem(self) -> str | None:
        constant, self.constant = self.constant, None
        return None if constant is None else f"not JSON: {constant} is no finite number"


def _json(path: Path) -> Iterator[NumberedRow]:
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb") as file:
            stream = cast(IO[bytes], file)
            if path.name.lower().endswith((".json", ".json.gz")) and _first_character(stream) == b"[":
                yield from _Array(path, stream).rows()
            else:
                yield from _lines(path, stream)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise CallwrightError(f"{path} is no whole gzip file ({error}); fetch or compress it again") from error
    except OSError as error:
        raise CallwrightError(f"{path} cannot be read: {error.strerror or error}") from error


def _first_character(file: IO[bytes]) -> bytes:
    start = file.read(_CHUNK).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    file.seek(0)
    return start


def _lines(path: Path, file: IO[bytes]) -> Iterator[NumberedRow]:
    decoder = _Decoder()
    for number, line in enumerate(file, 1):
        line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
        if line.strip():
            try:
                row = decoder.decode(line.decode())
                problem = decoder.problem()
            except (ValueError, RecursionError) as error:  # broken JSON, bytes that are no UTF-8, too long a number
                decoder.problem()
                row, problem = None, f"not JSON: {error}"
            yield number, row if problem is None else RowError(str(path), number, WHOLE, problem)


class _Array:
    """The items of a JSON array that need not fit into memory."""

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file = path, file
        self.decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self.text = ""
        self.position = 0
        self.line = 1
        """Of the start of `text`."""
        self.ended = False

    def rows(self) -> Iterator[NumberedRow]:
        decoder, number = _Decoder(), 0
        self.next_character()
        self.position += 1  # the bracket
        separator = self.next_character()
        if separator == "]":
            self.position += 1
        while separator != "]":
            number += 1
            item = self.item(decoder)
            problem = decoder.problem()
            if problem is None:
                yield number, item
            else:
                line = self.line_at(self.position)
                yield number, RowError(str(self.path), number, WHOLE, f"{problem} (line {line})")
            separator = self.next_character()
            if separator not in (",", "]"):
                self.fail("',' or ']' is missing" if separator else "the file ends inside the array", self.position)
            self.position += 1
        if self.next_character():
            self.fail("text behind the end of the array", self.position)

    def item(self, decoder: _Decoder) -> JSON:
        """The value at the position, which moves behind it."""
        self.next_character()
        while True:
            try:
                value, end = decoder.raw_decode(self.text, self.position)
                cut = isinstance(value, int | float) and end >= len(self.text) - _MARGIN  # 0.5 read as far as "0."
                if self.ended or not cut:
                    self.position = end
                    return value
            except json.JSONDecodeError as error:
                unfinished = error.msg.startswith("Unterminated string") or error.pos >= len(self.text) - _MARGIN
                if self.ended or not unfinished:
                    self.fail(error.msg, error.pos)
            except (ValueError, RecursionError) as error:  # a number of thousands of digits; a value nested too deep
                self.fail(str(error), self.position)
            decoder.problem()
            self.more()

    def next_character(self) -> str:
        """The next one that is no white space; it stays to be read. Empty at the end of the file."""
        while True:
            while self.position < len(self.text):
                if self.text[self.position] not in _SPACE:
                    return self.text[self.position]
                self.position += 1
            if self.ended:
                return ""
            self.more()

    def more(self) -> None:
        """Forget what was read and append the next piece: as much again as is left, so that a long item is not decoded
        for every piece of it."""
        self.line = self.line_at(self.position)
        self.text = self.text[self.position :]
        self.position = 0
        data = self.file.read(max(_CHUNK, len(self.text)))
        self.ended = not data
        try:
            self.text += self.decode(data, final=self.ended)
        except UnicodeDecodeError as error:
            line = self.line + self.text.count("\n") + error.object[: error.start].count(b"\n")
            raise CallwrightError(f"{self.path}: line {line} is no UTF-8 text ({error.reason})") from error

    def line_at(self, position: int) -> int:
        return self.line + self.text.count("\n", 0, position)

    def fail(self, message: str, position: int) -> NoReturn:
        raise CallwrightError(f"{self.path}: malformed JSON at line {self.line_at(position)}: {message}")


# --------------------------------------------------------------------------------------------------------- Parquet


def _parquet(path: Path) -> Iterator[NumberedRow]:
    import pyarrow as pa  # half a second, and only for these files
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=_BATCH):
            for row in batch.to_pylist():
                number += 1
                yield number, without_padding(row)
    except (pa.ArrowException, OSError) as error:
        raise CallwrightError(f"{path} cannot be read behind row {number}: {error}") from error
