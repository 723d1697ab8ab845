"""What is compared: arms, each a recipe to run or run folders that are there, and whether they can be compared."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from callwright.display import shortened
from callwright.recipe import Mistake, Recipe, RecipeError, check, differences, load_recipe
from callwright.types import JSON, CallwrightError

RESOLVED = "recipe.resolved.yaml"
WRITTEN = ("comparison.json", "summary.json", "summary.csv", "report.html", "figures", ".lock")
"""Beside the arms' folders in OUT."""
OWN_KEYS = {"seed": "--seeds", "data.split_seed": "--seeds", "run": "--out"}
"""What a comparison sets for each run, and the option that says how."""
BUDGET = (
    "model.name",
    "data",
    "train.steps",
    "train.prompts_per_step",
    "train.group_size",
    "train.max_new_tokens",
    "evaluate.max_new_tokens",
)
"""Where arms differ here, more than the method is compared."""
NOT_THE_METHOD = ("run", "seed", "data.split_seed", "train.checkpoint_every", "train.keep_checkpoints")
SHOWN_VALUE = 80
"""Characters of a setting that are shown."""


@dataclass(slots=True)
class Arm:
    """One line of the comparison."""

    name: str
    recipe: Path | None
    """None for run folders that are only read."""
    folders: dict[int, Path] = field(default_factory=dict)
    """By seed."""
    settings: dict[int, Recipe] = field(default_factory=dict)
    """By seed: with overrides, seed and run folder."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The baseline, then the other arms in the order in which they were named; and the overrides of all recipes."""

    out: Path
    arms: list[Arm]
    baseline: str
    overrides: list[str]

    def arm(self, name: str) -> Arm:
        return next(arm for arm in self.arms if arm.name == name)

    @property
    def seeds(self) -> list[int]:
        """Of the arms that are run, in the order in which they are run."""
        return list(dict.fromkeys(seed for arm in self.arms if arm.recipe for seed in arm.folders))


# ------------------------------------------------------------------------------------------------- from words


def seeds_from(text: str) -> list[int]:
    """`3` is 0, 1, 2; `0,3,7` is what it says, and `3,` is seed 3 alone."""
    words = [word.strip() for word in text.split(",")]
    if len(words) > 1 and not words[-1]:
        words.pop()
    if not all(word.isascii() and word.isdecimal() for word in words):
        raise CallwrightError(f"--seeds {text}: should be a number of seeds, as in 5, or a list, as in 0,3,7")
    seeds = [int(word) for word in words]
    if "," not in text:
        seeds = list(range(seeds[0]))
    if not seeds:
        raise CallwrightError(f"--seeds {text}: nothing would run; write at least 1")
    if repeated := [seed for seed, count in Counter(seeds).items() if count > 1]:
        raise CallwrightError(f"--seeds {text}: seed {repeated[0]} is there twice; remove one")
    return seeds


def compare_what(words: Sequence[str], seeds: Sequence[int], out: Path, baseline: str | None) -> Comparison:
    """Find arms and overrides among the words of the command line; without any arm, those that `out` holds.

    Raises CallwrightError for what is no arm, RecipeError with the mistakes of all recipes.
    """
    named, overrides = _sorted_words(words)
    arms = _arms(named or _arms_of(out))
    for arm in arms:
        _check_name(arm.name)
        if arm.recipe is not None:
            arm.folders = {seed: out / arm.name / f"seed-{seed}" for seed in seeds}
    if overrides and not any(arm.recipe for arm in arms):
        raise CallwrightError(
            f"{overrides[0]} changes nothing: run folders are as they are; name a recipe, or leave it out"
        )
    names = [arm.name for arm in arms]
    if baseline is not None and baseline not in names:
        raise CallwrightError(f"--baseline {baseline}: there is no such arm; the arms are {', '.join(names)}")
    _load(arms, overrides)
    baseline = baseline or names[0]
    return Comparison(out, sorted(arms, key=lambda arm: arm.name != baseline), baseline, overrides)


def _sorted_words(words: Sequence[str]) -> tuple[list[tuple[str | None, Path]], list[str]]:
    """Arms, with the name that was given, and overrides."""
    arms: list[tuple[str | None, Path]] = []
    overrides = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or Path(word).exists():
            arms.append((None, Path(word)))
        elif name in OWN_KEYS:
            raise CallwrightError(f"{word}: a comparison sets `{name}` for each run; use {OWN_KEYS[name]}")
        elif name.split(".")[0] in Recipe.model_fields or ("." in name and not Path(value).exists()):
            overrides.append(word)
        elif Path(value).exists():
            arms.append((name, Path(value)))
        else:
            raise CallwrightError(
                f"{word}: `{name}` is no key of a recipe, and {value} no recipe or run folder; write KEY=VALUE,"
                " NAME=RECIPE or NAME=FOLDER"
            )
    return arms, overrides


def _arms_of(out: Path) -> list[tuple[str | None, Path]]:
    """Of an earlier comparison, in its order."""
    found = sorted({path.parent.parent for path in out.glob(f"*/seed-*/{RESOLVED}")})
    if not found:
        raise CallwrightError(f"nothing to compare: name recipes or run folders; {out} holds no runs either")
    try:
        order = json.loads((out / "comparison.json").read_text(encoding="utf-8"))["arms"]
    except (OSError, ValueError, KeyError):
        order = []
    found.sort(key=lambda path: (order.index(path.name) if path.name in order else len(order), path.name))
    return [(None, path) for path in found]


def _arms(named: Sequence[tuple[str | None, Path]]) -> list[Arm]:
    arms: dict[str, Arm] = {}
    for name, path in named:
        if path.is_file():
            name = name or path.stem
            if name in arms:
                raise _taken(name, arms[name], path)
            arms[name] = Arm(name, path)
            continue
        folders = _run_folders(path)
        if name is None:
            whole = path.resolve()
            name = whole.parent.name if re.fullmatch(r"seed-\d+", whole.name) else whole.name
        arm = arms.setdefault(name, Arm(name, None))
        if arm.recipe is not None:
            raise _taken(name, arm, path)
        for folder in folders:
            seed = load_recipe(folder / RESOLVED).seed
            if seed in arm.folders:
                raise CallwrightError(
                    f"{arm.folders[seed]} and {folder} are both seed {seed} of the arm '{name}'; leave one out, or give"
                    f" one another name: NAME={folder}"
                )
            arm.folders[seed] = folder
    return list(arms.values())


def _taken(name: str, arm: Arm, path: Path) -> CallwrightError:
    other = arm.recipe or next(iter(arm.folders.values()))
    return CallwrightError(f"two arms are called '{name}': {other} and {path}; name one of them: NAME={path}")


def _run_folders(path: Path) -> list[Path]:
    if not path.exists():
        raise CallwrightError(f"there is no recipe and no run folder {path}; look at the spelling")
    if (path / RESOLVED).is_file():
        return [path]
    found = sorted(resolved.parent for resolved in path.glob(f"seed-*/{RESOLVED}"))
    if not found:
        raise CallwrightError(
            f"{path} is no run folder: it holds no {RESOLVED}, and no folder seed-N with one; name a folder that"
            " `callwright train` or `callwright compare` wrote"
        )
    return found


def _check_name(name: str) -> None:
    if not name or name in (".", "..", *WRITTEN) or "/" in name or "\0" in name:
        raise CallwrightError(f"an arm cannot be called '{name}': runs go to OUT/NAME; name it: NAME=RECIPE")


def _load(arms: Sequence[Arm], overrides: Sequence[str]) -> None:
    mistakes: list[Mistake] = []
    for arm in arms:
        for number, (seed, folder) in enumerate(arm.folders.items()):
            if arm.recipe is None:
                arm.settings[seed] = load_recipe(folder / RESOLVED)
                continue
            words = [*overrides, *own_overrides(seed, folder)]
            found = check(arm.recipe, words) if number == 0 else []
            mistakes += found
            if not found:
                arm.settings[seed] = load_recipe(arm.recipe, words)
            else:
                break
    if mistakes:
        raise RecipeError(list(dict.fromkeys(mistakes)))


def own_overrides(seed: int, folder: Path) -> list[str]:
    """What a comparison sets for one run."""
    return [f"seed={seed}", f"data.split_seed={seed}", f"run={json.dumps(str(folder), ensure_ascii=False)}"]


# ------------------------------------------------------------------------------------------- what arms differ in


def changed_settings(comparison: Comparison) -> dict[str, dict[str, tuple[JSON, JSON]]]:
    """By arm and place: the baseline's value and the arm's. Seeds, and what changes no number, are left out."""
    base = comparison.arm(comparison.baseline)
    found = {}
    for arm in comparison.arms:
        seed = next((s for s in arm.settings if s in base.settings), None)
        pair = [one.settings[next(iter(one.settings)) if seed is None else seed] for one in (base, arm)]
        old, new = (settings.model_dump(mode="json") for settings in pair)
        places = [place for place in differences(old, new) if place not in NOT_THE_METHOD]
        found[arm.name] = {place: (_at(old, place), _at(new, place)) for place in places}
    return found


def unfair(comparison: Comparison) -> list[str]:
    """Why the arms cannot be compared as they are; one remark for each reason."""
    remarks = []
    for name, changed in changed_settings(comparison).items():
        budget = [place for place in changed if _inside(place, BUDGET)]
        if budget:
            shown = "; ".join(f"{p} is {_short(changed[p][1])}, not {_short(changed[p][0])}" for p in budget)
            remarks.append(
                f"a reduced comparison: '{name}' has another budget or other data than the baseline: {shown}"
            )
        if any(_inside(place, ("rewards",)) for place in changed):
            remarks.append(f"'{name}' has other rewards than the baseline, and accuracy is judged by each arm's own")
    return remarks + list(_unpaired(comparison))


def _unpaired(comparison: Comparison) -> Iterator[str]:
    base = comparison.arm(comparison.baseline).settings
    for arm in comparison.arms:
        alone = [seed for seed in arm.settings if seed not in base]
        if alone:
            yield f"'{arm.name}' has seeds that the baseline lacks, which no difference uses: {_listed(alone)}"
        other = [s for s in arm.settings if s in base and arm.settings[s].data.split_seed != base[s].data.split_seed]
        if other:
            yield f"'{arm.name}' holds out other rows than the baseline (data.split_seed) at the seeds {_listed(other)}"


def _inside(place: str, around: Sequence[str]) -> bool:
    return any(place == one or place.startswith(f"{one}.") for one in around)


def _listed(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _at(value: JSON, place: str) -> JSON:
    for key in place.split("."):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _short(value: JSON) -> str:
    return shortened(json.dumps(value, ensure_ascii=False), SHOWN_VALUE)
