from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from callwright.recipe import Recipe, RecipeError, build, check, load_recipe
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

PLUGINS = '''
from dataclasses import dataclass
from callwright import RowError, Task, Dropped, Verdict, hookimpl

@dataclass
class Rows:
    """So many tasks."""
    rows: int = 5
    name: str = "row"

    def load(self):
        for row in range(self.rows):
            yield Task(f"{self.name}{row}", ())

class BadRow:
    def load(self):
        raise RowError("data.json", 7, "answer", "is missing")

class NoFile:
    def load(self):
        return open("no-such-file.json")

class Crash:
    def load(self):
        return [][0]

@dataclass
class Halve:
    def apply(self, tasks):
        for number, task in enumerate(tasks):
            yield task if number % 2 else Dropped(task, "even", "is even")

class Format:
    stop = ()
    def prompt(self, task): ...
    def parse(self, text): ...
    def render(self, calls): ...

class NoFormat:
    stop = ()
    def prompt(self, task): ...

@dataclass
class Good:
    alpha: float = 0.5
    scope: str = "all"

    def __post_init__(self):
        if self.alpha > 1:
            raise ValueError("alpha must be at most 1")

    @hookimpl
    def score(self, rollouts):
        return [Verdict(self.alpha) for _ in rollouts.texts]

@dataclass
class Baseline:
    beta: float

    @hookimpl
    def advantages(self, rollouts):
        return rollouts.total

class Typo:
    @hookimpl
    def token_weight(self, rollouts): ...

class Engine:
    pass
'''

RECIPE = """\
model: {name: tiny}
dialect: plugins.py:Format
data:
  source: {use: "plugins.py:Rows"}
rewards:
  use:
    - "plugins.py:Good"
engine: plugins.py:Engine
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("plugins.py").write_text(PLUGINS)
    Path("q.yaml").write_text(RECIPE)
    return tmp_path


def write(text, name="q.yaml"):
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text)
    return Path(name)


def lines(text=RECIPE, overrides=(), how=check):
    """Every mistake as the user sees it."""
    path = write(text)
    if how is check:
        return [str(mistake) for mistake in check(path, overrides)]
    with pytest.raises(RecipeError) as caught:
        how(path, overrides)
    assert str(caught.value).splitlines() == [str(m) for m in caught.value.mistakes]
    return str(caught.value).splitlines()


# --------------------------------------------------------------------------------------------- loading


def test_a_recipe_is_loaded_with_all_defaults(folder):
    recipe = load_recipe(Path("q.yaml"))
    assert recipe.model.name == "tiny"
    assert recipe.train.steps == 100
    assert recipe.evaluate.max_new_tokens is None
    assert recipe.run == Path("runs/q")
    assert recipe.path == Path("q.yaml")
    assert recipe.rewards.use[0].use == "plugins.py:Good"
    assert (recipe.rewards.use[0].weight, recipe.rewards.use[0].name) == (1.0, None)
    with pytest.raises(ValueError, match="frozen"):
        recipe.train.steps = 3


def test_options_stand_beside_use_and_some_keys_are_the_runs(folder):
    text = RECIPE.replace('"plugins.py:Good"', '{use: "plugins.py:Good", alpha: 1e-5, weight: 2, name: short}')
    reward = load_recipe(write(text.replace('Rows"', 'Rows", name: task'))).rewards.use[0]
    assert (reward.options, reward.weight, reward.name) == ({"alpha": 1e-5}, 2.0, "short")
    source = load_recipe(Path("q.yaml")).data.source
    assert source.options == {"name": "task"}, "a source may have an option called name"
    assert next(task.id for task in build(load_recipe(Path("q.yaml"))).source.load()) == "task0"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5),
        ("1.0e-6", 1e-6),
        ("1E5", 1e5),
        (".5", 0.5),
        ("1_000", 1000),
        ("010", 10),
        ("-3", -3),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("no", "no"),
        ("off", "off"),
        ("2020-01-01", "2020-01-01"),
        ("1:30", "1:30"),
        ("true", True),
        ("~", None),
        ("", None),
        ("'1e-5'", "1e-5"),
        ("[1e-5, {a: 2}]", [1e-5, {"a": 2}]),
        ("{1: x, true: y}", {"1": "x", "true": "y"}),
    ],
)
def test_yaml_means_what_it_looks_like(folder, text, value):
    loaded = load_recipe(Path("q.yaml"), [f"engine.option={text}"]).engine.options["option"]
    assert loaded == value
    assert type(loaded) is type(value)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.sampled_from(
        ["1e5", "010", "no", "~", "null", "1:30", ".inf", "2020-01-01", "<<", "=", "# no", "- a", "a: b"]
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab 1:#'", max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    options=st.dictionaries(st.sampled_from(["a", "1", "true", "long name"]), json_values),
    learning_rate=st.floats(1e-12, 1.0),
    run=st.none() | st.just("elsewhere/run"),
)
@example({"a": "\x85"}, 1.0, None)
@example({"a": "b\u2028c\u2029 \x85\n"}, 1.0, None)
def test_the_resolved_yaml_loads_back_to_an_equal_recipe(folder, options, learning_rate, run):
    overrides = [f"train.learning_rate={learning_rate}", f"engine={json.dumps({'use': 'x', **options})}"]
    overrides += [f"run={run}"] if run else []
    recipe = load_recipe(Path("q.yaml"), overrides)
    assert recipe.train.learning_rate == learning_rate
    assert recipe.engine.options == options
    again = load_recipe(write(recipe.to_yaml(), "runs/q/recipe.resolved.yaml"))
    assert again == recipe
    assert again.run == recipe.run
    assert again.path != recipe.path
    assert again.to_yaml() == recipe.to_yaml()
    assert again != load_recipe(Path("q.yaml"), [*overrides, "seed=1"])


def test_infinity_goes_round_too(folder):
    recipe = load_recipe(Path("q.yaml"), ["engine.limits=[.inf, -.inf]"])
    assert load_recipe(write(recipe.to_yaml(), "again.yaml")).engine.options == {"limits": [math.inf, -math.inf]}


def test_every_key_is_documented():
    def undocumented(model):
        for name, info in model.model_fields.items():
            inner = info.annotation
            if isinstance(inner, type) and hasattr(inner, "model_fields"):
                yield from undocumented(inner)
                if not inner.__doc__:
                    yield name
            elif not info.description:
                yield name

    assert list(undocumented(Recipe)) == []


# --------------------------------------------------------------------------------------------- extends


def test_extends_merges_mappings_and_replaces_lists(folder):
    write(RECIPE + "train: {steps: 3, kl: 0.5}\nexplore: [a, b]\n", "base.yaml")
    write("train: {kl: 0.25, passes: 2}\n", "parts/more.yaml")
    path = write("extends: [../base.yaml, ../parts/more.yaml]\nexplore: [c]\ntrain: {passes: 4}\n", "parts/q.yaml")
    recipe = load_recipe(path)
    assert (recipe.train.steps, recipe.train.kl, recipe.train.passes) == (3, 0.25, 4)
    assert [c.use for c in recipe.explore] == ["c"]
    assert recipe.model.name == "tiny"
    assert "extends" not in recipe.to_yaml()


def test_extends_does_not_mix_the_options_of_two_plugins(folder):
    base = RECIPE.replace("engine: plugins.py:Engine", "engine: {use: a, x: 1}\n")
    write(base, "base.yaml")
    assert load_recipe(write("extends: base.yaml\nengine: {use: b, y: 2}")).engine.options == {"y": 2}
    assert load_recipe(write("extends: base.yaml\nengine: {use: a, y: 2}")).engine.options == {"x": 1, "y": 2}
    assert load_recipe(write("extends: base.yaml\nengine: {y: 2}")).engine.options == {"x": 1, "y": 2}


def test_a_mistake_in_an_extended_file_names_that_file(folder):
    write(RECIPE + "train:\n  stpes: 3\n", "base.yaml")
    expected = "base.yaml:10:3 train.stpes: unknown key; did you mean 'steps'?"
    assert lines("extends: base.yaml\ntrain: {kl: 0.5}", how=load_recipe) == [expected]


def test_recipes_that_extend_each_other_are_an_error(folder):
    write("extends: q.yaml", "base.yaml")
    (line,) = lines("\nextends: base.yaml", how=load_recipe)
    assert line.startswith(
        "base.yaml:1:1 extends: recipes extend each other in a circle: q.yaml -> base.yaml -> q.yaml"
    )


def test_a_missing_base_is_an_error_at_the_line_that_names_it(folder):
    (line,) = lines("model: {name: a}\nextends: nothing.yaml", how=load_recipe)
    assert line == "q.yaml:2:1 extends: cannot read nothing.yaml: No such file or directory"


# ------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("model: [1\ndata: 2", "q.yaml:2:5: no valid YAML: "),
        ("a: b: c", "q.yaml:1:5: no valid YAML: "),
        ("a: \x00", "q.yaml:1:1: no valid YAML: "),
        ("a: 1\n---\nb: 2", "q.yaml:2:1: no valid YAML: "),
        ("- a\n- b", "q.yaml:1:1: a recipe is a mapping; write keys"),
        ("just words", "q.yaml:1:1: a recipe is a mapping"),
    ],
)
def test_what_is_no_recipe_is_one_clear_mistake(folder, text, message):
    (line,) = lines(text, how=load_recipe)
    assert line.startswith(message)
    assert lines(text) == [line]


def test_files_that_cannot_be_read(folder):
    with pytest.raises(RecipeError, match=r"nothing\.yaml:1:1: cannot read nothing.yaml: No such file"):
        load_recipe(Path("nothing.yaml"))
    Path("latin.yaml").write_bytes(b"model: {name: \xff}")
    with pytest.raises(RecipeError, match="is not UTF-8 text"):
        load_recipe(Path("latin.yaml"))


def test_an_empty_recipe_lacks_what_has_no_default(folder):
    assert [line.split(":")[2] for line in lines("", how=load_recipe)] == [
        "1 model",
        "1 dialect",
        "1 data",
        "1 rewards",
    ]


def test_a_key_given_twice_is_a_mistake(folder):
    text = RECIPE + "train:\n  steps: 1\n  kl: 0.5\n  steps: 2\n"
    (line,) = lines(text, how=load_recipe)
    assert line == "q.yaml:12:3 train.steps: given twice, first in q.yaml:10:3; remove one"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ("x: !!python/object:os.system {}", ""),
        ("seed: !mine 3", "the tag !mine means nothing"),
        ("explore: &a [*a]", "an alias that holds itself"),
        ("? [a, b]\n: 1", "a key must be a word"),
    ],
)
def test_yaml_that_means_nothing_in_a_recipe(folder, extra, message):
    assert any(message in line and line.startswith("q.yaml:9:") for line in lines(RECIPE + extra, how=load_recipe))


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("train: {group_size: 1}", "train.group_size", "a group of one has no baseline"),
        ("train: {steps: 0}", "train.steps", "greater than 0, but is 0"),
        ("train: {steps: 1.5}", "train.steps", "integer, but is 1.5"),
        ("train: {steps: true}", "train.steps", "integer, but is true"),
        ("train: {steps: ten}", "train.steps", 'integer, but is "ten"'),
        ("train: {top_p: 1.5}", "train.top_p", "less than or equal to 1"),
        ("train: {min_p: 1}", "train.min_p", "less than 1"),
        ("train: {temperature: .nan}", "train.temperature", "finite"),
        ("train: {learning_rate: .inf}", "train.learning_rate", "finite"),
        ("train: {aggregation: tokens}", "train.aggregation", "'token', 'sequence' or 'constant'"),
        ("train: 3", "train", "should be a mapping, but is 3"),
        ("explore: temperature", "explore", "list"),
        ("explore: [3]", "explore.0", "a plugin's name, or a mapping"),
        ("explore: [{start: 1}]", "explore.0.use", "missing"),
        ("evaluate: {batch_sise: 3}", "evaluate.batch_sise", "did you mean 'batch_size'"),
        ("trian: {steps: 3}", "trian", "unknown key; did you mean 'train'?"),
        ("seed: -1", "seed", "greater than or equal to 0"),
        ("train: {evaluate_every: 5}", "train.evaluate_every", "set data.validation above 0"),
        ("train: {watch_held_out: true}", "train.watch_held_out", "set data.held_out and train.evaluate_every"),
    ],
)
def test_a_wrong_value_is_named_with_its_line_and_place(folder, line, place, message):
    (found,) = lines(RECIPE + line, how=load_recipe)
    assert found.startswith("q.yaml:9:")
    assert f" {place}: " in found
    assert message in found


@pytest.mark.parametrize(
    ("old", "new", "place"),
    [
        ("tiny", "tiny, devise: cpu", "model.devise"),
        ("tiny", "tiny, device: gpu", "model.device"),
        ("tiny", "tiny, lora: {rank: 0}", "model.lora.rank"),
        ("tiny", "tiny, lora: {rnak: 3}", "model.lora.rnak"),
        ('    - "plugins.py:Good"', "    []", "rewards.use"),
        ('"plugins.py:Good"', '{use: "plugins.py:Good", weight: a}', "rewards.use.0.weight"),
    ],
)
def test_a_wrong_value_deep_inside(folder, old, new, place):
    (found,) = lines(RECIPE.replace(old, new), how=load_recipe)
    assert f" {place}: " in found


def test_a_mistake_has_its_parts(folder):
    (mistake,) = check(write(RECIPE + "train:\n  stpes: 3"))
    assert (mistake.file, mistake.line, mistake.column) == ("q.yaml", 10, 3)
    assert (mistake.place, mistake.message, mistake.repair) == ("train.stpes", "unknown key", "did you mean 'steps'?")


# ------------------------------------------------------------------------------------------ overrides


def test_overrides_set_any_line(folder):
    recipe = load_recipe(
        Path("q.yaml"),
        [
            "train.steps=20",
            "rewards.use.0.alpha=0.2",
            "explore=[a, {use: b}]",
            "explore.1.kappa=2",
            "model.lora.rank=4",
        ],
    )
    assert recipe.train.steps == 20
    assert recipe.rewards.use[0].options == {"alpha": 0.2}
    assert [(c.use, c.options) for c in recipe.explore] == [("a", {}), ("b", {"kappa": 2})]
    assert recipe.model.lora is not None
    assert recipe.model.lora.rank == 4
    assert load_recipe(Path("q.yaml"), ["model.name=a=b"]).model.name == "a=b"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.stpes=3", "override 'train.stpes=3' train.stpes: unknown key; did you mean 'steps'?"),
        ("train.steps=x", "override 'train.steps=x' train.steps: should be a valid integer, but is \"x\""),
        ("explore.0.alpha=1", "override 'explore.0.alpha=1' explore.0: no entry 0 in a list of 0"),
        ("rewards.use.first.alpha=1", "rewards.use.first: no entry first in a list of 1"),
        ("train.steps", "override 'train.steps': is no override; write place=value"),
        ("train..steps=3", "is no override"),
        ("train.steps=[", "override 'train.steps=[': no valid YAML"),
    ],
)
def test_a_wrong_override_is_shown_as_it_was_given(folder, override, message):
    (found,) = lines(RECIPE + "explore: []", [override], how=load_recipe)
    assert message in found


# ------------------------------------------------------------------------------------ building, checking


def test_build_gives_components_names_and_origins(folder):
    text = RECIPE.replace("  use:\n", '  use:\n    - {use: "plugins.py:Good", name: other, weight: 0.5, alpha: 1}\n')
    recipe = load_recipe(write(text + 'explore: [{use: "plugins.py:Baseline", beta: 2}]'))
    parts = build(recipe)
    assert [(r.name, r.kind, r.weight, r.place) for r in parts.rewards] == [
        ("other", "reward", 0.5, "rewards.use.0"),
        ("Good", "reward", 1.0, "rewards.use.1"),
    ]
    assert parts.rewards[0].plugin.alpha == 1.0
    assert [(e.name, e.kind, e.plugin.beta) for e in parts.explorers] == [("Baseline", "explorer", 2.0)]
    assert type(parts.engine).__name__ == "Engine"
    assert [o.kind for o in parts.origins] == ["dialect", "source", "reward", "reward", "explorer", "engine", "rollout"]
    assert check(Path("q.yaml")) == []


def test_all_component_mistakes_come_at_once_with_their_lines(folder):
    text = """\
model: {name: tiny}
dialect: plugins.py:NoFormat
data:
  source:
    use: plugins.py:Rows
    rosw: 3
  stages: [no_such_stage]
rewards:
  use:
    - use: plugins.py:Good
      alpha: 2
    - use: plugins.py:Good
      alpha: true
explore:
  - {use: "plugins.py:Baseline"}
  - {use: "plugins.py:Gone"}
engine: plugins.py:Engine
"""
    path = write(text)
    with pytest.raises(RecipeError) as caught:
        build(load_recipe(path))
    found = [str(m).splitlines()[0] for m in caught.value.mistakes]
    assert found == [
        "q.yaml:2:1 dialect.use: plugins.py:NoFormat is no dialect: it lacks `parse`, `render`",
        "q.yaml:6:5 data.source.rosw: unknown option; did you mean 'rows'?",
        found[2],
        "q.yaml:10:7 rewards.use.0: alpha must be at most 1",
        "q.yaml:13:7 rewards.use.1.alpha: should be a valid number, but is true",
        "q.yaml:12:7 rewards.use.1: 'Good' is also the name of rewards.use.0; give one of them a `name: ...`",
        "q.yaml:15:5 explore.0.beta: missing; this option has no default",
        found[7],
    ]
    assert found[2].startswith("q.yaml:7:12 data.stages.0.use: unknown stage 'no_such_stage'")
    assert found[7].startswith("q.yaml:16:6 explore.1.use: explorer 'plugins.py:Gone' does not load: AttributeError")


def test_check_finds_mistakes_of_recipe_and_plugins_together(folder):
    text = RECIPE.replace('"plugins.py:Good"', '{use: "plugins.py:Good", aplha: 1, weight: heavy}')
    found = lines(text + "train: {stpes: 3, steps: x, evaluate_every: 2}", ["modle.name=x"])
    places = {line.split(": ")[0].split(" ")[-1] for line in found}
    assert places == {"rewards.use.0.weight", "train.stpes", "train.steps", "modle", "rewards.use.0.aplha"}


def test_check_finds_rules_between_keys_and_plugins_together(folder):
    found = lines(RECIPE + "train: {evaluate_every: 2}\nexplore: [no_such_explorer]")
    assert len(found) == 2


@pytest.mark.parametrize(
    ("explore", "message"),
    [
        (
            '[{use: "plugins.py:Baseline", beta: 1}, {use: "plugins.py:Baseline", beta: 2, name: b}]',
            "q.yaml:9:50 explore.1: only one plugin may answer `advantages`",
        ),
        (
            '["plugins.py:Typo"]',
            "explore.0: Typo.token_weight: unknown hook 'token_weight'; did you mean 'token_weights'?",
        ),
        ('[{use: "plugins.py:Good", name: b}]', "explore.0: 'b' implements `score`; put it under rewards.use"),
        ('["plugins.py:Engine"]', "explore.0: 'Engine' implements no hook; mark its methods with @hookimpl"),
    ],
)
def test_check_finds_what_does_not_go_together(folder, explore, message):
    (found,) = lines(RECIPE + f"explore: {explore}")
    assert message in found


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("source: plugins.py:BadRow", "data.source: data.json, row 7, field 'answer': is missing"),
        ("source: plugins.py:NoFile", "no-such-file.json"),
        ("source: plugins.py:Crash", "the data cannot be loaded: IndexError"),
        (
            "source: plugins.py:Rows\n  held_out: 3\n  validation: 2",
            "5 rows are too few for 3 held-out and 2 validation",
        ),
        ("source: plugins.py:Rows\n  stages: [plugins.py:Halve]\n  held_out: 2", "3 rows were dropped"),
    ],
)
def test_check_loads_the_data(folder, data, message):
    text = RECIPE.replace('source: {use: "plugins.py:Rows"}', data)
    (found,) = lines(text)
    assert message in found
    assert found.startswith(("q.yaml:3:1 data: ", "q.yaml:4:3 data.source: "))


def test_one_row_to_train_on_is_enough(folder):
    assert lines(RECIPE.replace("data:\n", "data:\n  held_out: 3\n  validation: 1\n")) == []


def test_check_needs_no_torch(folder):
    code = (
        "import sys; from pathlib import Path; from callwright.recipe import check;"
        "mistakes = check(Path('q.yaml')); print(*mistakes); sys.exit(bool(mistakes) or 'torch' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
