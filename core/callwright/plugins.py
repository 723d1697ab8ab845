"""Plugins: the catalogue of what is installed, and building a component from its options.

Installing a plugin changes nothing: listing imports nothing, and only what a recipe names is loaded and registered.
Importing this module does not import torch.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import json
import operator
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pydantic

from callwright.types import CallwrightError

KINDS = ("reward", "explorer", "stage", "source", "dialect", "engine", "rollout", "suite", "tracker")
"""Kinds of plugin; the entry-point group of a kind is `callwright.` and its plural."""

Model = TypeVar("Model", bound=pydantic.BaseModel)
Place = tuple[str | int, ...]
"""Where a value stands in a nested mapping: keys and list indices."""


class PluginError(CallwrightError):
    """A plugin that cannot be found, loaded or built, or that broke a rule of its hook."""


class ComponentError(PluginError):
    """Options that do not fit a component: every mistake as (place inside the options, message)."""

    def __init__(self, place: str, mistakes: list[tuple[Place, str]]) -> None:
        super().__init__("\n".join(f"{'.'.join(map(str, (place, *path)))}: {text}" for path, text in mistakes))
        self.mistakes = mistakes


def near(name: str, names: Iterable[str]) -> str:
    """The repair for a mistyped name: "; did you mean '...'?", or nothing when no known name is near."""
    close = difflib.get_close_matches(name, list(names), 1)
    return f"; did you mean '{close[0]}'?" if close else ""


# ------------------------------------------------------------------------------------------------ catalogue


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a component of a run came from; a run's `versions.json` is made of these."""

    kind: str
    name: str
    distribution: str | None
    """None for a module that no installed distribution claims; the file's path for `./file.py:attr`."""
    version: str | None
    """For a file, the SHA-256 of its content."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An installed plugin, not yet imported."""

    kind: str
    name: str
    """The name in a recipe."""
    distribution: str
    version: str
    value: str
    """`package.module:attr`."""
    entry_point: importlib.metadata.EntryPoint = field(repr=False, compare=False)

    @property
    def written_for(self) -> str | None:
        """The versions of callwright that its distribution requires, `>=0.1,<0.2`; None if it sets no upper bound."""
        from callwright.api_version import said

        return None if self.entry_point.dist is None else said(self.entry_point.dist)

    def load(self) -> Any:
        """Import the plugin. Raises `PluginError` with distribution, version and traceback, and, before it imports
        anything, for a plugin that was written for another callwright."""
        if self.entry_point.dist is not None:
            _fits(f"{self.kind} '{self.name}'", self.entry_point.dist)
        what = f"{self.kind} '{self.name}' of {self.distribution} {self.version} ({self.value})"
        return _imported(what, self.entry_point.load)


def catalogue() -> list[Entry]:
    """Every installed plugin, sorted by kind, name and distribution. Imports none of them."""
    kinds = {f"callwright.{kind}s": kind for kind in KINDS}
    found: list[Entry] = []
    seen: set[str] = set()
    for distribution in importlib.metadata.distributions():
        try:
            points = [point for point in distribution.entry_points if point.group in kinds]
            name, version = (distribution.metadata["Name"], distribution.version) if points else ("", "")
        except (TypeError, ValueError, KeyError, OSError):
            continue  # metadata that cannot be read offers nothing, and must not take the other plugins down
        if not name or _normal(name) in seen:  # the first on the path is the one that Python imports
            continue
        seen.add(_normal(name))
        found += [Entry(kinds[point.group], point.name, name, version, point.value, point) for point in points]
    return sorted(found, key=lambda entry: (entry.kind, entry.name, entry.distribution))


def describe(entry: Entry) -> tuple[str | None, str | None]:
    """(first line of the plugin's docstring or None, why it does not load or None). Never raises."""
    try:
        loaded = entry.load()
    except PluginError as error:
        return None, summary(error.__cause__) if error.__cause__ else str(error)
    text = documentation(loaded)
    return (text.splitlines()[0] if text else None), None


def documentation(loaded: Any) -> str:
    """The docstring that the author of a plugin wrote, or "" without one."""
    text = getattr(loaded, "__doc__", None)
    generated = f"{getattr(loaded, '__name__', '')}("  # what `dataclass` writes when the author wrote nothing
    return "" if not isinstance(text, str) or text.startswith(generated) else inspect.cleandoc(text)


def find(kind: str, use: str) -> tuple[Any, Origin]:
    """What a recipe's `use` names, and where it came from.

    `use` is an installed name, `distribution:name`, `package.module:attr`, or `./file.py:attr` relative to the
    current folder. Raises `PluginError`: unknown (with near names), ambiguous (with the choices), or not loadable.
    """
    front, _, attr = use.rpartition(":")
    if use.endswith(".py"):
        raise PluginError(f"'{use}' names a file but no class in it; write '{use}:ClassName'")
    if front.endswith(".py"):
        return _from_file(kind, front, attr)
    entries = [entry for entry in catalogue() if entry.kind == kind]
    named = [e for e in entries if e.name == (attr or use) and (not front or _normal(e.distribution) == _normal(front))]
    if len(named) == 1:
        entry = named[0]
        return entry.load(), Origin(kind, entry.name, entry.distribution, entry.version)
    if named:
        choices = " or ".join(f"'{entry.distribution}:{entry.name}'" for entry in named)
        raise PluginError(f"several distributions offer the {kind} '{use}'; write {choices}")
    if front:
        return _from_module(kind, front, attr, entries)
    raise PluginError(_unknown(kind, use, [entry.name for entry in entries]))


def _unknown(kind: str, use: str, names: list[str]) -> str:
    installed = ", ".join(sorted(set(names))) or "none"
    repair = near(use, names)
    others = [entry.kind for entry in catalogue() if entry.name == use]
    if not repair and others:
        repair = f"; a plugin '{use}' is installed, but its kind is {others[0]}"
    elif not repair and "." in use:
        repair = "; a class of an importable module is written package.module:ClassName"
    return f"unknown {kind} '{use}'{repair} (installed: {installed})"


def _from_module(kind: str, module: str, attr: str, entries: list[Entry]) -> tuple[Any, Origin]:
    offered = [entry.name for entry in entries if _normal(entry.distribution) == _normal(module)]
    if offered:
        raise PluginError(f"distribution '{module}' offers no {kind} '{attr}'; it offers {', '.join(offered)}")
    owners = importlib.metadata.packages_distributions().get(module.partition(".")[0], [])
    if owners:
        _fits(f"{kind} '{module}:{attr}'", importlib.metadata.distribution(owners[0]))
    loaded = _imported(f"{kind} '{module}:{attr}'", lambda: operator.attrgetter(attr)(importlib.import_module(module)))
    version = importlib.metadata.version(owners[0]) if owners else None
    return loaded, Origin(kind, attr, owners[0] if owners else None, version)


def _from_file(kind: str, name: str, attr: str) -> tuple[Any, Origin]:
    path = Path(name).resolve()
    if not path.is_file():
        raise PluginError(f"there is no file '{name}' in {Path.cwd()}; a path is relative to the current folder")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    unique = f"callwright_file_{hashlib.sha256(f'{path}:{digest}'.encode()).hexdigest()[:16]}"

    def load() -> Any:
        if unique not in sys.modules:
            spec = importlib.util.spec_from_file_location(unique, path)
            if spec is None or spec.loader is None:
                raise ImportError(f"{path} is no Python module")
            # Registered first: dataclasses and pydantic look their module up there.
            sys.modules[unique] = importlib.util.module_from_spec(spec)
            try:
                spec.loader.exec_module(sys.modules[unique])
            except BaseException:
                del sys.modules[unique]
                raise
        return operator.attrgetter(attr)(sys.modules[unique])

    return _imported(f"{kind} '{name}:{attr}'", load), Origin(kind, attr, name, f"sha256:{digest}")


def _fits(what: str, distribution: importlib.metadata.Distribution) -> None:
    from callwright.api_version import mismatch

    if (why := mismatch(distribution)) is not None:
        raise PluginError(f"{what}: {why}")


def _imported(what: str, load: Callable[[], Any]) -> Any:
    try:
        return load()
    except (Exception, SystemExit) as error:
        raise PluginError(f"{what} does not load: {summary(error)}\n{traceback.format_exc()}") from error


def summary(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".strip().splitlines()[0]


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


# ------------------------------------------------------------------------------- components and their options

_EXTRA = ("extra_forbidden", "unexpected_keyword_argument")  # pydantic's names, of a model and of a dataclass
_EXPONENT = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+")


def build_component(cls: Any, options: Mapping[str, Any], place: str) -> Any:
    """An instance of the component class `cls` with the options that the recipe's `place` gives (JSON values).

    A dataclass's fields are its options, checked against their types. Any other class may be used without options.
    Raises `ComponentError` with all mistakes.
    """
    if not inspect.isclass(cls):
        raise ComponentError(place, [((), f"{cls!r} is not a class; a plugin is a class whose methods are its hooks")])
    if dataclasses.is_dataclass(cls):
        options = _checked_options(cls, options, place)
    elif options:
        text = f"{cls.__name__} takes no options; make it a dataclass whose fields are its options"
        raise ComponentError(place, [((name,), text) for name in options])
    try:
        return cls(**options)
    except (ValueError, CallwrightError) as error:
        raise ComponentError(place, [((), str(error))]) from error
    except Exception as error:
        text = f"{cls.__name__} cannot be built: {summary(error)}\n{traceback.format_exc()}"
        raise ComponentError(place, [((), text)]) from error


def _checked_options(cls: type[Any], options: Mapping[str, Any], place: str) -> dict[str, Any]:
    model = options_model(cls, place)
    values, mistakes = checked(model, dict(options), "option")
    if values is None:
        raise ComponentError(place, mistakes)
    given = {str(info.alias): key for key, info in model.model_fields.items() if key in values.model_fields_set}
    return {name: getattr(values, key) for name, key in given.items()}


def options_model(cls: type[Any], place: str) -> type[pydantic.BaseModel]:
    """What checks the options of the component class `cls`, a dataclass: a field for each, whose alias is its name.

    A default is always None: what is not given is the dataclass's matter. Raises `ComponentError` for a type that does
    not exist at run time.
    """
    fields = {f"option_{i}": f for i, f in enumerate(dataclasses.fields(cls)) if f.init}
    # Options become the model's aliases, so that they may have any name; what is not given is left to the dataclass.
    definitions: dict[str, Any] = {}
    for key, option in fields.items():
        required = option.default is dataclasses.MISSING and option.default_factory is dataclasses.MISSING
        settings = pydantic.Field(alias=option.name) if required else pydantic.Field(None, alias=option.name)
        definitions[key] = (_annotation(cls, option, place), settings)
    config = pydantic.ConfigDict(extra="forbid", strict=True, arbitrary_types_allowed=True)
    return pydantic.create_model(cls.__name__, __config__=config, **definitions)


def _annotation(cls: type[Any], option: dataclasses.Field[Any], place: str) -> Any:
    """The option's type. One by one, as fields that are no options may have types that exist for type checkers only."""
    home = next((base for base in cls.__mro__ if option.name in inspect.get_annotations(base)), cls)
    holder = type("Holder", (), {"__annotations__": {option.name: option.type}})
    names = vars(sys.modules[home.__module__])
    try:
        return typing.get_type_hints(holder, names, dict(vars(home)), include_extras=True)[option.name]
    except NameError as error:
        text = f"{cls.__name__} declares the type {option.type!r}, which does not exist at run time: {error}"
        raise ComponentError(place, [((option.name,), text)]) from error


def checked(model: type[Model], values: Any, noun: str) -> tuple[Model | None, list[tuple[Place, str]]]:
    """`values` as `model`, or None and every mistake as (place, message); `noun` is what a key is called.

    Strict as JSON is: no bool is an int, no text is a number, but a list may become a tuple and text an enum. The one
    kindness is text such as "1e-6", a number to everybody but YAML 1.1.
    """
    errors: list[Any] = []
    for _ in range(2):
        try:
            return model.model_validate_json(json.dumps(values)), []
        except pydantic.ValidationError as failure:
            errors = failure.errors(include_url=False)
        patched = json.loads(json.dumps(values))
        exponents = [e for e in errors if isinstance(e["input"], str) and _EXPONENT.fullmatch(e["input"])]
        for error in [e for e in exponents if e["type"] == "float_type"]:
            _replace(patched, _resolved(patched, error["loc"]), float(error["input"]))
        if patched == values:
            break
        values = patched
    mistakes: dict[Place, list[str]] = {}
    for error in errors:
        place = error["loc"] if error["type"] in ("missing", *_EXTRA) else _resolved(values, error["loc"])
        mistakes.setdefault(place, []).append(_explained(error, model, noun))
    return None, [(place, " or ".join(dict.fromkeys(texts))) for place, texts in mistakes.items()]


def _explained(error: Any, model: type[pydantic.BaseModel], noun: str) -> str:
    if error["type"] in _EXTRA:
        return f"unknown {noun}" + near(str(error["loc"][-1]), _known_keys(model, error["loc"][:-1]))
    if error["type"] == "missing":
        return f"missing; this {noun} has no default"
    text = re.sub(r"^(Value error, |Input )", "", error["msg"])
    text = text.replace("a valid array", "a list").replace("an object", "a mapping")
    shown = json.dumps(error["input"], ensure_ascii=False, default=repr)
    return f"{text}, but is {shown if len(shown) <= 80 else shown[:77] + '...'}"


def _known_keys(model: type[pydantic.BaseModel], place: Place) -> list[str]:
    inner: Any = model
    for key in place:
        fields = {info.alias or name: info for name, info in inner.model_fields.items()}
        annotation = fields[str(key)].annotation if key in fields else None
        options = [annotation, *typing.get_args(annotation)]
        inner = next((o for o in options if inspect.isclass(o) and issubclass(o, pydantic.BaseModel)), None)
        if inner is None:
            return []
    return [info.alias or name for name, info in inner.model_fields.items()]


def _resolved(values: Any, loc: Place) -> Place:
    """The part of pydantic's location that exists in the values: it also names branches of unions."""
    for depth, key in enumerate(loc):
        inside = (isinstance(values, dict) and key in values) or (isinstance(values, list) and isinstance(key, int))
        if not inside:
            return loc[:depth]
        values = values[key]
    return loc


def _replace(values: Any, place: Place, value: Any) -> None:
    for key in place[:-1]:
        values = values[key]
    values[place[-1]] = value
