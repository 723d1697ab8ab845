"""What a law is, how its counterexample is found and shown, and which laws are switched off."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, NoReturn, TypeVar

from callwright.plugins import near
from callwright.types import CallwrightError

try:
    import hypothesis
    from hypothesis import HealthCheck, Phase
    from hypothesis.strategies import SearchStrategy
except ModuleNotFoundError as error:
    raise CallwrightError("callwright.testing needs hypothesis: pip install hypothesis") from error

Subject = TypeVar("Subject")
Value = TypeVar("Value")


class Counterexample(Exception):
    """A law does not hold. `message` says what happened, `test` is Python source of a test that fails for it."""

    def __init__(self, message: str, test: str) -> None:
        super().__init__(message)
        self.message, self.test = message, test


@dataclass(frozen=True)
class Bench(Generic[Subject]):
    """What a law gets: the plugin, and how hard to look."""

    subject: Subject
    examples: int = 12
    """Random examples of each search, beside the fixed ones."""
    shrink: bool = True
    """Make the counterexample small. Without, a broken law is found several times faster."""
    source: str = ""
    """Python that builds the plugin, for regression tests."""
    imports: tuple[str, ...] = ()
    """Lines that `source` needs."""
    more: Mapping[str, Any] = field(default_factory=dict)
    """What only one kind of plugin has: the reward's dialect and range."""

    def search(
        self, strategy: SearchStrategy[Value], test: Callable[[Value], None], first: Iterable[Value] = ()
    ) -> None:
        """Call `test` with the values of `first`, then with drawn ones: the same at every run.

        Raises the `Counterexample` of the smallest value for which the test raises one.
        """
        for value in first:
            test(value)
        phases = [Phase.explicit, Phase.generate, *([Phase.shrink] if self.shrink else [])]
        settings = hypothesis.settings(
            max_examples=self.examples,
            deadline=None,
            database=None,
            derandomize=True,
            phases=phases,
            suppress_health_check=list(HealthCheck),
            report_multiple_bugs=False,
        )

        def run(value: Value) -> None:
            test(value)

        try:
            settings(hypothesis.given(strategy)(run))()
        except hypothesis.errors.Flaky as error:  # the plugin answers differently from one call to the next
            found = next(_counterexamples(error), None)
            if found is None:
                raise
            raise found from None

    def broken(self, message: str, body: str) -> NoReturn:
        """Raise the counterexample whose regression test has this body."""
        name = getattr(type(self.subject), "__name__", "plugin")
        raise Counterexample(message, regression_test(name, message, [*self.imports], body))


def _counterexamples(error: BaseException) -> Iterator[Counterexample]:
    if isinstance(error, Counterexample):
        yield error
    for inner in (*getattr(error, "exceptions", ()), error.__cause__, error.__context__):
        if inner is not None:
            yield from _counterexamples(inner)


def regression_test(name: str, message: str, imports: Sequence[str], body: str) -> str:
    """Python source of one test function, ready to paste into a test file."""
    lines = "\n".join(sorted(set(imports)))
    first = message.splitlines()[0].replace("\\", "\\\\").replace('"""', "'''")
    code = textwrap.indent(f'"""{first}"""\n{textwrap.dedent(body).strip()}', "    ")
    return f"{lines}\n\n\ndef test_{_snake(name)}() -> None:\n{code}\n"


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and i else c.lower() for i, c in enumerate(name) if c.isidentifier())


@dataclass(frozen=True)
class Law(Generic[Subject]):
    """A property that every plugin of a kind should have."""

    name: str
    statement: str
    """One sentence that is true of a plugin that keeps the law."""
    check: Callable[[Any], None]
    """Raises `Counterexample`."""


@dataclass(frozen=True)
class LawResult:
    """What became of one law."""

    name: str
    state: Literal["held", "broken", "off"]
    message: str = ""
    """Why it is off, or what broke it."""
    test: str = ""
    """Of a broken law: a regression test, as Python source."""
    seconds: float = 0.0


class LawsBroken(AssertionError):
    """A plugin breaks laws; `results` holds those that it breaks."""

    def __init__(self, name: str, results: Sequence[LawResult]) -> None:
        self.results = list(results)
        parts = [f"{name} breaks the law {r.name}: {r.message}\n\nA regression test:\n\n{r.test}" for r in results]
        super().__init__("\n\n".join(parts))


def switched_off(laws: Sequence[Law[Any]], subject: object, skip: Mapping[str, str] | None) -> dict[str, str]:
    """Law -> reason: what the plugin's class says in `laws`, and what the caller says.

    Raises `CallwrightError` for a law that does not exist, with the near name, and for a missing reason.
    """
    declared = getattr(subject, "laws", {})
    off = {**(declared if isinstance(declared, Mapping) else {}), **(skip or {})}
    names = [law.name for law in laws]
    for name, reason in off.items():
        if name not in names:
            raise CallwrightError(f"there is no law '{name}'{near(name, names)} (laws: {', '.join(names)})")
        if not isinstance(reason, str) or not reason.strip():
            raise CallwrightError(f"the law '{name}' is switched off without a reason: say why it does not apply")
    return off


def run_laws(laws: Sequence[Law[Subject]], bench: Bench[Subject], off: Mapping[str, str]) -> Iterator[LawResult]:
    """The laws one by one, in order."""
    for law in laws:
        if law.name in off:
            yield LawResult(law.name, "off", off[law.name])
            continue
        started = time.perf_counter()
        try:
            law.check(bench)
        except Counterexample as found:
            yield LawResult(law.name, "broken", found.message, found.test, time.perf_counter() - started)
        else:
            yield LawResult(law.name, "held", seconds=time.perf_counter() - started)


def source_of(subject: object, kind: str, use: str | None = None, options: Mapping[str, Any] | None = None) -> Any:
    """(Python that builds the plugin, the import lines it needs)."""
    helper = "from callwright.testing import plugin"
    if use is not None:
        given = "".join(f", {key}={value!r}" for key, value in (options or {}).items())
        return f"plugin({kind!r}, {use!r}{given})", (helper,)
    cls = type(subject)
    if "<locals>" in cls.__qualname__ or cls.__module__ == "__main__":
        return f"...  # here: {subject!r}", ()
    text = repr(subject)
    if not text.startswith(f"{cls.__qualname__}("):  # no dataclass
        text = f"{cls.__qualname__}()"
    return text, (f"from {cls.__module__} import {cls.__qualname__.partition('.')[0]}",)
