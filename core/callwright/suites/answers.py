"""A model's answers on disk: written as they come, found again after a kill, in the benchmark's own files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from callwright.files import replacing
from callwright.suites.contract import Suite
from callwright.types import JSON, CallwrightError, Task

Line = dict[str, JSON]
"""`id` and `result`, as the benchmark reads them; and, where there are such, `input_token_count`, `output_token_count`,
`reply` (the model's text, where the result is not that), `cut_off` and `unanswered`."""

SETTINGS = "evaluation.json"


class Answers:
    """The answers of one model in one folder. Every method raises CallwrightError where the folder cannot be used."""

    def __init__(self, folder: Path, suite: Suite, model: str) -> None:
        """model: its name in a file system."""
        self.folder, self.suite, self.model = folder, suite, model

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No other process may write here: it would ask the same questions again."""
        with _explained(self.folder, "cannot be written"):
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / ".lock", timeout=0)
            try:
                lock.acquire()
            except Timeout:
                raise CallwrightError(
                    f"another process is evaluating into {self.folder}: wait for it, end it, or give another --out"
                ) from None
        try:
            yield
        finally:
            lock.release()

    def agree(self, settings: Mapping[str, JSON]) -> None:
        """Raises if the folder's answers were given under other settings; else writes these down."""
        path = self.folder / SETTINGS
        known = _read_settings(path) if path.exists() else None
        if known is None:
            with _explained(path, "cannot be written"), replacing(path) as temporary:
                temporary.write_text(json.dumps(dict(settings), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        elif known != settings:
            keys = [key for key in {**known, **settings} if known.get(key) != settings.get(key)]
            changes = "; ".join(f"{key}: {known.get(key)!r} there, {settings.get(key)!r} now" for key in keys)
            raise CallwrightError(
                f"{self.folder} holds the answers of another evaluation ({changes}): give another --out, or delete"
                " them with --fresh"
            )

    def delete(self, names: Sequence[str]) -> None:
        """Delete the answers and settings, and the files `names`; anything else in the folder is the user's."""
        paths = [self.folder / self.suite.file(category, self.model) for category in self.suite.categories]
        for path in [*paths, *(self.folder / name for name in (SETTINGS, *names))]:
            with _explained(path, "cannot be deleted"):
                path.unlink(missing_ok=True)

    def read(self, category: str, tasks: Iterable[Task]) -> dict[str, Line]:
        """The answers to `tasks`, by id. What a kill left half-written at the end of the file is taken away."""
        path = self._path(category)
        if not path.exists():
            return {}
        with _explained(path, "cannot be read"):
            content = path.read_bytes()
        whole, _, torn = content.rpartition(b"\n")
        if torn:
            self._write(path, whole + b"\n" if whole else b"")
        known = {task.id for task in tasks}
        lines: dict[str, Line] = {}
        for number, text in enumerate(whole.split(b"\n") if whole else [], 1):
            line = _line(text, path, number)
            if line["id"] in known:
                lines.setdefault(line["id"], line)
        return lines

    def add(self, category: str, line: Line) -> None:
        """Keep an answer. It outlives the process when this returns."""
        path = self._path(category)
        with _explained(path, "cannot be written"):
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(_encoded(line))

    def sort(self, category: str, tasks: Sequence[Task]) -> None:
        """Put the file into the order of the benchmark's rows, in which its own tools leave it too."""
        lines = self.read(category, tasks)
        content = b"".join(_encoded(lines[task.id]) for task in tasks if task.id in lines)
        if content and content != self._path(category).read_bytes():
            self._write(self._path(category), content)

    def _path(self, category: str) -> Path:
        return self.folder / self.suite.file(category, self.model)

    def _write(self, path: Path, content: bytes) -> None:
        with _explained(path, "cannot be written"), replacing(path) as temporary:
            temporary.write_bytes(content)


def _encoded(line: Line) -> bytes:
    return json.dumps(line).encode() + b"\n"  # ASCII: a reply may hold surrogates, which no UTF-8 file can


def _line(text: bytes, path: Path, number: int) -> Line:
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        line = None
    if not isinstance(line, dict) or not isinstance(line.get("id"), str) or "result" not in line:
        raise CallwrightError(
            f"{path}:{number}: no JSON object with 'id' and 'result'; delete the line, and its question is asked again"
        )
    return line


def _read_settings(path: Path) -> JSON:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CallwrightError(
            f"{path}: cannot be read: {error}; give another --out, or delete it with --fresh"
        ) from error


@contextmanager
def _explained(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        repair = "give another --out, or make room and rights for this one"
        raise CallwrightError(f"{path}: {what}: {error.strerror or error}; {repair}") from error
