"""Data preparation: the source, then the stages in the recipe's order, each kept on disk under what it depends on.

    <cache>/data/<key>/    one step: step.json, changes.parquet and, for the steps to go on from, rows.arrow

A key is the hash of the step before, of what the recipe names with its options, and of the plugin's version and file;
so a step is done once, and again when any of that has changed. A folder appears whole or not at all.
"""

from __future__ import annotations

import errno
import hashlib
import inspect
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from filelock import FileLock, Timeout

from callwright.gguf_cache import cache_folder
from callwright.pipeline.context import StageContext
from callwright.pipeline.prepared import Prepared, Step
from callwright.pipeline.rows import Rows
from callwright.pipeline.stage_run import CHANGED, ROWS, Named, StepWriter, run_source, run_stage
from callwright.plugins import Origin
from callwright.recipe import Components, Recipe
from callwright.types import JSON, CallwrightError, RowError, Stage

_FORMAT = 1
"""Part of every key. Raise it when what is written changes."""
_SHOWN_ERRORS = 5
_STEP = "step.json"


class Watch(Protocol):
    """Where data preparation reports to; a `Display` is one."""

    def note(self, text: str) -> None: ...
    def phase(self, name: str, done: int, total: int) -> None: ...


class NotPrepared(CallwrightError):
    """A stage that asks a model would have to run first."""


def prepare(
    recipe: Recipe, components: Components, watch: Watch, *, fresh: bool = False, without_models: bool = False
) -> Prepared:
    """Run what has not been run yet, and give all rows that are left.

    fresh: run everything again. without_models: raise NotPrepared instead of running a stage that asks a model.

    Raises CallwrightError for a source without rows, for rows that cannot be read if `data.unreadable` is "stop", for
    ids that occur twice, for a stage that breaks its rules, and for a disk that is full. What steps finished before
    stays, and so does what a stage kept in its own cache.
    """
    work = _Work(recipe, components, watch)
    with work.alone():
        steps = work.steps()
        index = 0 if fresh else _first_to_run(steps)
        ran: set[int] = set()
        while index < len(steps):
            if without_models and _costly(steps[index].plugin):
                raise NotPrepared(f"the stage '{steps[index].named.use}' asks a model, and has not been run yet")
            unknown = not steps[index].key
            work.run(steps, index)
            ran.add(index)
            # What a source without a fingerprint gives is known only now, and may have been prepared before.
            index = max(1, _first_to_run(steps)) if unknown and not fresh else index + 1
        work.tidy(steps)
        done = tuple(work.step(planned, cached=number not in ran) for number, planned in enumerate(steps))
        loaded, rows = Rows.open(steps[0].folder / ROWS), Rows.open(steps[-1].folder / ROWS)
    source = components.source
    return Prepared(loaded, rows, done, getattr(source, "licence", None), getattr(source, "origin", None))


def estimates(recipe: Recipe, components: Components, watch: Watch) -> Iterator[tuple[str, str]]:
    """(place, text) of every stage that would have to ask a model: what it says that this would cost.

    What comes before the first of them is run. The later ones are asked about the same rows, which are as many as they
    can get.
    """
    work = _Work(recipe, components, watch)
    with work.alone():
        steps = work.steps()
        index = _first_to_run(steps)
        while index < len(steps) and not (index and _costly(steps[index].plugin)):
            unknown = not steps[index].key
            work.run(steps, index)
            index = max(1, _first_to_run(steps)) if unknown else index + 1
        rows = Rows.open(steps[index - 1].folder / ROWS)
    for planned in steps[index:]:
        if _costly(planned.plugin):
            if hasattr(planned.plugin, "prepare"):
                planned.plugin.prepare(work.context(planned))
            yield planned.named.place, str(planned.plugin.estimate(rows))


def _costly(plugin: object) -> bool:
    return bool(getattr(plugin, "costly", False))


@dataclass
class _Planned:
    """A step to be done, or done before."""

    name: str
    named: Named
    plugin: Any
    origin: Origin
    key: str
    folder: Path


def _first_to_run(steps: Sequence[_Planned]) -> int:
    """The step after the last one from which everything is there: its rows, and the records of all before it."""
    known = 0
    while known < len(steps) and steps[known].key and (steps[known].folder / _STEP).exists():
        known += 1
    # The source's rows are shown beside those that are left, so they are never done without.
    if not known or not (steps[0].folder / ROWS).exists():
        return 0
    while not (steps[known - 1].folder / ROWS).exists():
        known -= 1
    return known


class _Work:
    def __init__(self, recipe: Recipe, components: Components, watch: Watch) -> None:
        self.recipe, self.components, self.watch = recipe, components, watch
        self.cache = cache_folder()
        self.data = self.cache / "data"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """No other process prepares the same data meanwhile: it would tidy away what this one reads."""
        name = _digest(self.recipe.model_dump(mode="json", include={"data"}))[:16]
        with self._on_disk("data"):
            self.data.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.data / f".{name}.lock")
            try:
                lock.acquire(timeout=1)
            except Timeout:
                self.watch.note("waiting for another process, which prepares the same data")
                lock.acquire()
        try:
            yield
        finally:
            lock.release()

    # ------------------------------------------------------------------------------------------------------ plan

    def steps(self) -> list[_Planned]:
        """The source and the stages, with their keys as far as these are known before the source was read."""
        data, components = self.recipe.data, self.components
        places = ["data.source", *(f"data.stages.{number}" for number in range(len(data.stages)))]
        origins = [origin for origin in components.origins if origin.kind in ("source", "stage")]
        configs, plugins = [data.source, *data.stages], [components.source, *components.stages]
        planned = [
            _Planned(config.use, Named(place, config.use, config.options), plugin, origin, "", Path())
            for place, config, plugin, origin in zip(places, configs, plugins, origins, strict=True)
        ]
        planned[0].name = "source"
        for number, one in enumerate(planned):  # the record of a stage that is named twice is to be told apart
            same = sum(other.named.use == one.named.use for other in planned[1:number])
            one.name += f" ({same + 1})" if number and same else ""
        fingerprint = getattr(planned[0].plugin, "fingerprint", None)
        if fingerprint is not None:
            self._set_keys(planned, str(fingerprint()))
        return planned

    def _set_keys(self, steps: Sequence[_Planned], content: str) -> None:
        before = content
        for planned in steps:
            planned.key = before = self._key(planned, before)
            planned.folder = self.data / before

    def _key(self, planned: _Planned, before: str) -> str:
        plugin = planned.plugin
        reads = {name: self._of_recipe(name) for name in getattr(plugin, "reads", ())}
        own = "" if planned.name == "source" else _call(plugin, "fingerprint")
        parts = [_FORMAT, before, planned.named.use, planned.named.options, asdict(planned.origin), own]
        unread = self.recipe.data.unreadable if planned.name == "source" else ""
        return _digest([*parts, _code_of(plugin), reads, unread])

    def _of_recipe(self, name: str) -> JSON:
        """A part of the recipe that a stage's result depends on, with the versions of the plugins it names."""
        kinds = {"rewards": "reward", "dialect": "dialect", "explore": "explorer"}
        origins = [asdict(origin) for origin in self.components.origins if origin.kind == kinds.get(name)]
        return [self.recipe.model_dump(mode="json")[name], origins]

    # ------------------------------------------------------------------------------------------------------- run

    def run(self, steps: list[_Planned], index: int) -> None:
        planned = steps[index]
        started = time.perf_counter()
        with self._new_folder(planned) as folder:
            with StepWriter(folder, planned.name) as writer:
                if index == 0:
                    self._load(planned, writer)
                else:
                    self._apply(planned, steps[index - 1].folder / ROWS, writer)
            if index == 0:
                self._check_source(folder, writer)
            if not planned.key:
                self._set_keys(steps, _digest_of(folder / ROWS))
            written = writer.written
            values = {
                "rows_in": written.rows_in,
                "rows_out": written.rows_out,
                "counts": {outcome: dict(sorted(codes.items())) for outcome, codes in written.counts.items()},
                "seconds": time.perf_counter() - started,
            }
            (folder / _STEP).write_text(json.dumps(values), encoding="utf-8")
            if planned.folder.exists():  # older rows went missing, or --fresh
                shutil.rmtree(planned.folder)
            folder.chmod(0o755)  # mkdtemp keeps others out, and a cache may be shared
            folder.rename(planned.folder)

    @contextmanager
    def _new_folder(self, planned: _Planned) -> Iterator[Path]:
        """A folder to fill, which is gone afterwards unless it was given its name."""
        with self._on_disk(planned.named.place):
            folder = Path(tempfile.mkdtemp(prefix=".new-", dir=self.data))
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def _on_disk(self, place: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in _OF_THE_DISK:
                raise
            text = f"{place}: cannot write to {self.data}: {os.strerror(error.errno)}"
            repair = "free some space, or set CALLWRIGHT_CACHE to a folder that can be written"
            raise CallwrightError(f"{text}; {repair}. The steps before it are kept") from error

    def _load(self, planned: _Planned, writer: StepWriter) -> None:
        errors = run_source(planned.plugin, writer, self._progress(planned))
        if errors and self.recipe.data.unreadable == "stop":
            raise CallwrightError(_unreadable(errors))

    def _check_source(self, folder: Path, writer: StepWriter) -> None:
        if not writer.written.rows_out:
            lost = f"; {writer.written.rows_in} could not be read" if writer.written.rows_in else ""
            raise CallwrightError(f"data.source: the source '{self.recipe.data.source.use}' gives no rows{lost}")
        repeated = _repeated(Rows.open(folder / ROWS))
        if repeated is not None:
            raise CallwrightError(f"data.source: two rows have the id '{repeated}'; ids must be unique, or be left out")

    def _apply(self, planned: _Planned, rows: Path, writer: StepWriter) -> None:
        stage: Stage = planned.plugin
        progress = self._progress(planned)
        if hasattr(stage, "prepare"):
            stage.prepare(self.context(planned))
        run_stage(stage, planned.named, rows, writer, progress, self.recipe.data.processes)
        if writer.written.rows_in and not writer.written.rows_out:
            codes = ", ".join(f"{count} as {code}" for code, count in writer.written.counts["dropped"].items())
            self.watch.note(f"warning: {planned.named.place}: '{planned.named.use}' dropped every row ({codes})")

    def context(self, planned: _Planned) -> StageContext:
        return StageContext(
            self.recipe,
            self.components,
            self.cache / "stages" / planned.origin.name,
            self._progress(planned),
            self.watch.note,
        )

    def _progress(self, planned: _Planned) -> Callable[[int, int], None]:
        return lambda done, total: self.watch.phase(planned.name, done, total)

    # ------------------------------------------------------------------------------------------------------ after

    def tidy(self, steps: Sequence[_Planned]) -> None:
        """Delete the rows between two steps, unless it was costly to get there: their record is enough."""
        for planned in steps[1:-1]:
            if not _costly(planned.plugin):
                (planned.folder / ROWS).unlink(missing_ok=True)

    def step(self, planned: _Planned, *, cached: bool) -> Step:
        values = json.loads((planned.folder / _STEP).read_text(encoding="utf-8"))
        origin, named = planned.origin, planned.named
        return Step(
            name=planned.name,
            use=named.use,
            options=named.options,
            origin=" ".join(filter(None, (origin.distribution, origin.version))),
            key=planned.key,
            cached=cached,
            changes=planned.folder / CHANGED,
            **values,
        )


_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG)


def _unreadable(errors: Sequence[RowError]) -> str:
    count = f"{len(errors)} rows cannot be read" if len(errors) > 1 else "a row cannot be read"
    lines = [f"  {error}" for error in errors[:_SHOWN_ERRORS]]
    lines += [f"  and {len(errors) - _SHOWN_ERRORS} more"] if len(errors) > _SHOWN_ERRORS else []
    return "\n".join([f"data.source: {count}; mend them, or leave them out with `data.unreadable: drop`:", *lines])


def _repeated(rows: Rows) -> str | None:
    """An id that two rows have. pyarrow counts them in a fraction of the memory that a set of texts takes."""
    import pyarrow.compute as pc

    counts = rows.column("id").value_counts()
    double = counts.filter(pc.greater(counts.field("counts"), 1))
    return double.field("values")[0].as_py() if len(double) else None


def _call(plugin: object, name: str) -> str:
    method = getattr(plugin, name, None)
    return "" if method is None else str(method())


def _code_of(plugin: object) -> str:
    """The hash of the file that the plugin's class is from: versions do not change while one is written."""
    try:
        file = inspect.getsourcefile(type(plugin))
        return "" if file is None else _digest_of(Path(file))
    except (OSError, TypeError):  # built in, or no file any more
        return ""


def _digest(value: JSON) -> str:
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
