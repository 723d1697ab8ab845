"""The `callwright` command. torch is imported inside the commands that need it, so that the others start at once."""

from __future__ import annotations

import importlib.util
import json
import os
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from callwright import CallwrightError, Task, __version__
from callwright.display import Display, SilentDisplay, make_display, safe, scoring_progress
from callwright.tables import print_evaluation, print_plugins, print_run

if TYPE_CHECKING:
    from callwright.answering import Answerer
    from callwright.pipeline.prepare import Watch
    from callwright.recipe import Components, Recipe
    from callwright.score_rows import Row
    from callwright.suites.command import SuiteCommand
    from callwright.suites.evaluation import Evaluation

HELP = """Train language models to call functions with GRPO. Every reward, exploration strategy, data source and
output format is a plugin, and a recipe, a YAML file, names those of a run."""

EPILOG = "\n\n".join(
    (
        "[bold]How it fits together[/bold]",
        "A recipe names a model, a source of tasks, the format in which the model calls functions (the dialect), "
        "what judges its completions (rewards), and what makes it explore (explorers). In each step of training the "
        "model answers some prompts several times over, the rewards judge the answers, and the model learns from how "
        "each answer compares with the others to the same prompt.",
        "[bold]Three commands to start with[/bold]",
        "callwright plugins  [dim]# what a recipe can name[/dim]",
        "callwright check recipes/quickstart.yaml  [dim]# find its mistakes[/dim]",
        "callwright train recipes/quickstart.yaml train.steps=10  [dim]# set a line of it[/dim]",
    )
)

WRITTEN_BY_A_RUN = (
    "recipe.resolved.yaml",
    "versions.json",
    "metrics.jsonl",
    "eval.json",
    "report.html",
    "timeline.json",
    "trackers.json",
    "tensorboard",
    "rollouts",
    "checkpoints",
)
"""What `--fresh` deletes in a run folder; anything else in there is the user's."""

app = typer.Typer(
    help=HELP,
    epilog=EPILOG,
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="A YAML file.", show_default=False)]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Lines of the recipe to set, such as train.steps=20 explore.0.alpha=0.2"
    ),
]


def main() -> None:
    """Entry point of the console script."""
    # Both are read when the libraries are loaded. OpenMP's idle threads otherwise spin, and on a busy machine take the
    # cores from those that have work; tokenizers otherwise warns at every fork.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a completion may hold what the terminal cannot show
    try:
        app()
    except CallwrightError as error:
        Console(stderr=True).print(Text.assemble(("error: ", "bold red"), safe(str(error))), soft_wrap=True)
        sys.exit(_exit_code(error))


def _exit_code(error: CallwrightError) -> int:
    from callwright.recipe import RecipeError

    return 2 if isinstance(error, RecipeError) else 1


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"callwright {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None: ...


# ---------------------------------------------------------------------------------------------------- train


@app.command()
def train(
    recipe: RecipeFile,
    overrides: Overrides = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in the recipe's run folder.")] = False,
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete the run in the run folder and start over.")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write when each part of a step ran, as a trace for ui.perfetto.dev.")
    ] = False,
) -> None:
    """Train a model as a recipe says, and show what it gets right before and after."""
    if resume and fresh:
        raise typer.BadParameter("--resume goes on and --fresh starts over: give one of them")
    from callwright.recipe import build, load_recipe
    from callwright.report.command import report_afterwards

    settings = load_recipe(recipe, [*(overrides or []), *(["train.profile=true"] if profile else [])])
    components = build(settings)
    # Of the processes that a launcher starts, the first one speaks for all.
    speaks = os.environ.get("RANK", "0") == "0"
    if speaks:
        _prepare(settings.run, resume, fresh)
    console = Console(quiet=not speaks)
    display = make_display(console) if speaks else SilentDisplay()
    with report_afterwards(settings.run, console) if speaks else nullcontext():
        try:
            result = components.engine.train(settings, components, display, resume)
        finally:
            display.finished()
        print_run(console, result)
        if speaks and result.stopped != "interrupted":
            from callwright.findings.view import print_after_training

            print_after_training(console, settings.run)
    if result.stopped == "interrupted":
        raise typer.Exit(130)


def _prepare(run: Path, resume: bool, fresh: bool) -> None:
    """Never write over a run: its metrics and rollouts would be a mixture of two."""
    written = [run / name for name in WRITTEN_BY_A_RUN if (run / name).exists()]
    if not written or resume:
        return
    if not fresh:
        raise CallwrightError(
            f"{run} already holds a run: --resume goes on with it, --fresh deletes it and starts over"
        )
    for path in written:
        try:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError as error:
            raise CallwrightError(f"--fresh cannot delete {path}: {error.strerror}") from error


# ----------------------------------------------------------------------------------------------------- plan


@app.command()
def plan(
    recipe: RecipeFile,
    overrides: Overrides = None,
    gpu: Annotated[
        str | None,
        typer.Option(help="h100, h200, b200, a100-80, a100-40, l40s, l4, rtx4090 or cpu. Default: h100."),
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, help="GPUs in each machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    sharding: Annotated[
        str | None,
        typer.Option(help="ddp, fsdp, zero2 or zero3. Default: ddp if it fits, else fsdp.", show_default=False),
    ] = None,
    rollouts: Annotated[
        str | None, typer.Option(help="local, vllm or vllm_server. Default: the recipe's.", show_default=False)
    ] = None,
    server_gpus: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of a vLLM server, beside the others, an engine on each. Default: 1.", show_default=False
        ),
    ] = None,
    prompt_tokens: Annotated[int, typer.Option(min=1, help="Mean length of a prompt.")] = 1024,
    shared_tokens: Annotated[int, typer.Option(min=0, help="Of them those with which all prompts begin.")] = 0,
    completion_tokens: Annotated[
        int | None,
        typer.Option(min=1, help="Mean length of a completion. Default: the longest allowed.", show_default=False),
    ] = None,
    model_shape: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A known shape, such as qwen3-8b, or a config.json, where the model itself is not at hand.",
            show_default=False,
        ),
    ] = None,
    mfu: Annotated[
        float | None, typer.Option(help="Share of the peak rate that long passes reach.", show_default=False)
    ] = None,
    assume: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Any other assumption, as often as wanted; the plan names them all."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print an object instead of tables; bytes, seconds.")] = False,
) -> None:
    """Calculate what a run would need: memory by part, whether it fits, time by part. No model is loaded.

    docs/scaling.md has every formula, and says how it was tested.
    """
    from callwright.planning.command import plan_recipe
    from callwright.planning.view import print_plan
    from callwright.recipe import load_recipe

    loaded = load_recipe(recipe, overrides or [])
    found = plan_recipe(
        loaded,
        gpu=gpu,
        gpus=gpus,
        nodes=nodes,
        sharding=sharding,
        rollouts=rollouts,
        server_gpus=server_gpus,
        prompt_tokens=prompt_tokens,
        shared_tokens=shared_tokens,
        completion_tokens=completion_tokens,
        model_shape=model_shape,
        assumed=[*([] if mfu is None else [f"mfu={mfu}"]), *(assume or [])],
    )
    if as_json:
        typer.echo(json.dumps(found.to_json(), indent=2))
    else:
        print_plan(Console(), found, shlex.join(map(str, [recipe, *(overrides or [])])), loaded.rollouts)


# -------------------------------------------------------------------------------------------------- compare


@app.command()
def compare(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ARM|KEY=VALUE]...",
            help="Recipes, run folders, or folders of runs seed-N, each also as NAME=PATH; and lines to set in all "
            "recipes. Default: what OUT holds.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="N|N,N,...", help="So many seeds, from 0, or these.")] = "3",
    baseline: Annotated[
        str | None, typer.Option(metavar="NAME", help="The arm that the others are compared with. Default: the first.")
    ] = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Runs go to OUT/ARM/seed-N.")] = Path("runs/compare"),
    fresh: Annotated[bool, typer.Option("--fresh", help="Delete these runs in OUT and start over.")] = False,
    report_only: Annotated[bool, typer.Option("--report-only", help="Run nothing: draw what is there.")] = False,
) -> None:
    """Run recipes with the same seeds and budget, and show what differs: a table, curves, a page.

    What is finished is not run again, what was interrupted goes on. Each arm is named after its recipe's file.
    """
    if fresh and report_only:
        raise typer.BadParameter("--fresh runs everything again and --report-only nothing: give one of them")
    from callwright.compare.arms import compare_what, seeds_from, unfair
    from callwright.compare.report import report
    from callwright.compare.runner import jobs_of, run_all

    comparison = compare_what(words or [], seeds_from(seeds), out, baseline)
    console = Console()
    remarks = unfair(comparison)
    for remark in [] if report_only else remarks:  # the report has them too, but that may be hours away
        console.print(Text.assemble(("warning: ", "bold yellow"), safe(remark)), soft_wrap=True)
    for job in jobs_of(comparison) if fresh else []:
        _prepare(job.folder, resume=False, fresh=True)
    ended = None if report_only else run_all(comparison, console)
    report(comparison, console, remarks, ended.failed if ended else {})
    if ended and (ended.interrupted or ended.failed):
        raise typer.Exit(130 if ended.interrupted else 1)


# ------------------------------------------------------------------------------------------- report, watch


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Write the page here. Default: report.html, of a single run in its folder.",
            show_default=False,
        ),
    ] = None,
    completions: Annotated[
        str | None,
        typer.Option(
            metavar="N|all",
            help="Show so many completions of each run, or all. Default: as many as a page holds with ease.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a page about runs, finished or not: curves, reasons, completions, what differs. It needs no network."""
    from callwright.report.command import print_report

    print_report(Console(), runs, out, completions)


@app.command()
def watch(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Run folders.", show_default=False)],
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Default: 8765, or a free one if that is taken.", show_default=False),
    ] = None,
    tui: Annotated[bool, typer.Option("--tui", help="In the terminal instead of a browser.")] = False,
) -> None:
    """Follow runs while they train, also before they have begun: the page of `report`, live on this machine."""
    from callwright.watch.command import watch_runs

    watch_runs(Console(), runs, port, tui)


# ------------------------------------------------------------------------------------------------- findings


@app.command("findings")
def look_for_reward_hacking(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of runs.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects instead of tables.")] = False,
) -> None:
    """Look for evidence of reward hacking in runs, with the completions that show it. No model is loaded.

    Also: the time that plugins took, slow rewards, and single completions to look at. docs/findings.md says what is
    looked at and why; a person decides what it means.
    """
    from callwright.findings.view import looks_at, print_look

    console = Console()
    looks = looks_at(runs, Console(stderr=True) if as_json else console)
    if as_json:
        typer.echo(json.dumps([look.to_json() for look in looks], indent=2))
        return
    for look in looks:
        print_look(console, look, several=len(looks) > 1)


# ----------------------------------------------------------------------------------------------------- eval


@app.command("eval")
def evaluate(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Hub name, folder, GGUF file, package:NAME/FILE.gguf, or a run folder. With --endpoint: what the "
            "endpoint calls it.",
            show_default=False,
        ),
    ],
    suite: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="A benchmark, such as bfcl, in its own terms.", show_default=False),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Ask vLLM or any OpenAI-compatible endpoint, such as http://localhost:8000/v1.",
            show_default=False,
        ),
    ] = None,
    key_env: Annotated[
        str, typer.Option(metavar="VARIABLE", help="The environment variable that holds the endpoint's key.")
    ] = "OPENAI_API_KEY",
    category: Annotated[
        list[str] | None,
        typer.Option(
            help="A category, as often as wanted. Default: all of the suite, else the recipe's, else simple_python."
        ),
    ] = None,
    recipe: Annotated[
        Path | None,
        typer.Option(
            help="Take data, dialect and rewards from this recipe; of it a suite takes the dialect. Default: the run "
            "folder's, else the suite's own dialect.",
            show_default=False,
        ),
    ] = None,
    rows: Annotated[int | None, typer.Option(min=1, help="At most so many rows of each category.")] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Only the rows that the recipe holds out.")] = False,
    batch_size: Annotated[int | None, typer.Option(min=1, help="Prompts answered at once.")] = None,
    max_new_tokens: Annotated[int | None, typer.Option(min=1, help="Longest completion, in tokens.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = None,
    dtype: Annotated[str | None, typer.Option(help="auto, float32 or bfloat16.")] = None,
    rollouts: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What draws completions, such as vllm. Default: the recipe's, else local."),
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", dir_okay=False, help="Also write the result here.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            file_okay=False, help="Of a suite: where the answers go. Default: evals/NAME.", show_default=False
        ),
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of a suite: what the model is called in files and tables.", show_default=False),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Of a suite: the --out of another model; show what differs."),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Of a suite: delete its answers and ask again.")] = False,
) -> None:
    """Let a model answer function-calling tasks greedily; show what it gets right, and why it fails.

    A suite's answers are kept as they come: the same command goes on where it was interrupted.
    """
    from callwright.recipe import build

    if held_out and (category or suite):
        raise typer.BadParameter("--held-out means rows of the recipe's own data: leave --category and --suite out")
    of_a_suite = {"--out": out, "--name": name, "--against": against, "--fresh": fresh or None}
    if suite is None and (lost := [option for option, value in of_a_suite.items() if value is not None]):
        raise typer.BadParameter(f"{', '.join(lost)} need --suite")
    if endpoint is not None and (device or dtype or rollouts):
        raise typer.BadParameter("--device, --dtype and --rollouts are the endpoint's own matter: leave them out")
    given = {
        "data.source.categories": None if suite else category or None,
        # Without --held-out all rows count, also in a category too small to hold so many out.
        "data.held_out": None if held_out else 0,
        "data.validation": None if held_out else 0,
        "evaluate.batch_size": batch_size,
        "evaluate.max_new_tokens": max_new_tokens,
        "model.device": device,
        "model.dtype": dtype,
        "rollouts": rollouts,
    }
    settings = _evaluation_recipe(model, recipe, given)
    console = Console()
    if suite is not None:
        from callwright.suites.command import SuiteCommand

        command = SuiteCommand(suite, model, name, category or [], rows, out, against, fresh)
        trained_on_a_recipe = recipe is not None or _recipe_of_the_run(model).is_file()
        found = _evaluate_suite(command, settings, build(settings), trained_on_a_recipe, endpoint, key_env, console)
        if json_file is not None:
            _write_json(json_file, found.to_json())
        return
    from callwright.evaluate import evaluate_answers, evaluate_model

    components = build(settings)
    longest = settings.evaluate.max_new_tokens or settings.train.max_new_tokens
    display = make_display(console)
    try:
        tasks = _first_rows(_tasks(settings, components, held_out, display), rows)
        if endpoint is not None or settings.rollouts.use != "local":
            answerer = _answerer(settings, components, longest, endpoint, key_env, display)
            result = evaluate_answers(answerer, tasks, settings, components, display)
        else:
            result = evaluate_model(
                settings.model,
                components.dialect,
                components.rewards,
                tasks,
                max_new_tokens=longest,
                batch_size=settings.evaluate.batch_size,
                display=display,
            )
    finally:
        display.finished()
    print_evaluation(console, result)
    if json_file is not None:
        _write_json(json_file, {"model": model, **result.to_json()})


def _evaluate_suite(
    command: SuiteCommand,
    settings: Recipe,
    components: Components,
    as_in_the_recipe: bool,
    endpoint: str | None,
    key_env: str,
    console: Console,
) -> Evaluation:
    """as_in_the_recipe: ask in the recipe's dialect, and not in the suite's own."""
    from callwright.locate import state_of
    from callwright.suites.command import run_suite, suite_of

    suite = suite_of(command.suite)
    asked_as = settings.dialect.model_dump() if as_in_the_recipe else {"use": "the suite's own"}
    longest = settings.train.max_new_tokens if as_in_the_recipe else suite.max_new_tokens
    longest = settings.evaluate.max_new_tokens or longest
    if not as_in_the_recipe:
        components = replace(components, dialect=suite.dialect)
    depends_on = {
        "model": command.model,
        "weights": None if endpoint else state_of(command.model),
        "dtype": None if endpoint else settings.model.dtype,
        "answered_by": "endpoint" if endpoint else settings.rollouts.use,
        "dialect": asked_as,
        "max_new_tokens": longest,
    }
    display = make_display(console)
    answerer = _answerer(settings, components, longest, endpoint, key_env, display)
    return run_suite(command, suite, answerer, components.dialect, depends_on, display, console)


def _answerer(
    settings: Recipe, components: Components, longest: int, endpoint: str | None, key_env: str, notes: Display
) -> Answerer:
    from callwright.answering import LocalAnswerer
    from callwright.endpoint import EndpointAnswerer

    at_once = settings.evaluate.batch_size
    if endpoint is not None:
        return EndpointAnswerer(endpoint, settings.model.name, components.dialect, longest, at_once, key_env)
    return LocalAnswerer(settings, components.sampler, components.dialect, longest, notes.note, notes.warn)


def _evaluation_recipe(model: str, path: Path | None, given: Mapping[str, object]) -> Recipe:
    """The recipe that was named, else the one in the run folder, else the one that ships with this file."""
    from callwright.recipe import load_recipe

    of_the_run = _recipe_of_the_run(model)
    if path is None:
        path = of_the_run if of_the_run.is_file() else Path(__file__).with_name("evaluate.yaml")
    values = {"model.name": model, **{place: value for place, value in given.items() if value is not None}}
    return load_recipe(path, [f"{place}={json.dumps(value)}" for place, value in values.items()])


def _recipe_of_the_run(model: str) -> Path:
    return Path(model) / "recipe.resolved.yaml"


def _tasks(settings: Recipe, components: Components, held_out: bool, watch: Watch) -> Sequence[Task]:
    from callwright.data import load_split

    if held_out and not settings.data.held_out:
        raise CallwrightError("--held-out: the recipe holds no rows out; leave the option out, or set data.held_out")
    split = load_split(settings, components, watch)
    return split.held_out if held_out else [*split.held_out, *split.validation, *split.train]


def _first_rows(tasks: Iterable[Task], rows: int | None) -> list[Task]:
    """At most `rows` tasks of each category."""
    seen: Counter[str] = Counter()
    chosen = []
    for task in tasks:
        category = str(task.meta.get("category"))
        seen[category] += 1
        if rows is None or seen[category] <= rows:
            chosen.append(task)
    return chosen


def _write_json(path: Path, value: Mapping[str, object]) -> None:
    try:
        path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise CallwrightError(f"--json: cannot write {path}: {error.strerror}") from error


# ---------------------------------------------------------------------------------------------------- score


@app.command()
def score(
    completions: Annotated[
        Path,
        typer.Argument(
            metavar="COMPLETIONS", help="JSON lines, parquet as a run writes it, or a run folder.", show_default=False
        ),
    ],
    overrides: Overrides = None,
    recipe: Annotated[
        Path | None, typer.Option(help="Whose rewards. Default: the run folder's recipe.", show_default=False)
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False, help="Write scores, reasons and spans here: .jsonl or .parquet.", show_default=False
        ),
    ] = None,
    explain: Annotated[
        int | None, typer.Option(min=1, metavar="ROW", help="Show one row and what is wrong where.", show_default=False)
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another recipe: show which rows it judges differently.", show_default=False)
    ] = None,
) -> None:
    """Score completions from a file, without a model, and show how the rewards judge them.

    A line holds `completion`, and `id` (of a task of the recipe's source) or question, tools and answer.

    Strange rows are those on which a reward failed, the rewards disagree, or the reason is rare.
    """
    from callwright.recipe import build, load_recipe
    from callwright.score import recipe_of, rows_of, score_rows, write_scores
    from callwright.score_view import print_changes, print_explanation, print_scores

    path = recipe or recipe_of(completions)
    if path is None:
        raise CallwrightError(f"{completions} is not in a run folder, which would hold a recipe; write --recipe FILE")
    settings = load_recipe(path, overrides or [])
    components = build(settings)
    rows = rows_of(completions, settings, components)
    console = Console()
    if explain is not None:
        rows = _rows_to_explain(rows, explain)
    with scoring_progress(console) as progress:
        scored = score_rows(rows, settings, components, progress("score"))
        if against is not None:
            other = load_recipe(against, [])
            judged_by_the_other = score_rows(rows, other, build(other), progress("score with the other recipe"))
    if explain is not None:
        print_explanation(console, next(one for one in scored if one.row.number == explain))
    else:
        print_scores(console, scored)
    if against is not None:
        print_changes(console, scored, judged_by_the_other)
    if out is not None:
        write_scores(scored, out)
        console.print(Text(f"scores with spans: {safe(str(out))}"), soft_wrap=True)


def _rows_to_explain(rows: list[Row], number: int) -> list[Row]:
    """The row and those of its group: rewards may compare them."""
    asked = next((row for row in rows if row.number == number), None)
    if asked is None:
        raise CallwrightError(
            f"--explain {number}: there is no such row; rows are {rows[0].number} to {rows[-1].number}"
        )
    return [row for row in rows if (row.step, row.group) == (asked.step, asked.group)]


# ------------------------------------------------------------------------------------------------------ dev


@app.command()
def dev(
    reward: Annotated[
        str,
        typer.Argument(
            metavar="FILE[:CLASS]", help="The reward's file, and its class if it holds several.", show_default=False
        ),
    ],
    tasks: Annotated[
        Path, typer.Option(dir_okay=False, help="Tasks, as the source jsonl reads them; lines may carry a completion.")
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="The reward's options, with YAML values.")
    ] = None,
    completions: Annotated[
        Path | None,
        typer.Option(help="Also judge these: JSON lines, parquet, or a run folder, as in `score`.", show_default=False),
    ] = None,
    dialect: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In which completions are written. Default: the run's, else funrl."),
    ] = None,
    rows: Annotated[int, typer.Option(min=1, help="Tasks that are judged, from the first on.")] = 20,
    show: Annotated[int, typer.Option(min=0, help="Tasks shown one by one, those with something strange first.")] = 3,
    misses: Annotated[int, typer.Option(min=0, help="Near misses of each right reply.")] = 8,
    laws: Annotated[bool, typer.Option("--laws/--no-laws", help="Check the laws too, behind the scores.")] = True,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds that the completions of one task may take.")] = 10.0,
    once: Annotated[
        bool, typer.Option("--once", help="Do not wait for a save; exit with 1 if anything failed.")
    ] = False,
) -> None:
    """Judge tasks with a reward, and again whenever its file is saved: scores, reasons, broken laws.

    Of each task the right reply is judged, the same calls written otherwise, and near misses. Nothing need be
    installed.
    """
    _need_hypothesis()
    from callwright.dev.session import Session, Setting

    given = tuple(options or ())
    setting = Setting(reward, tasks, completions, given, dialect, rows, show, misses, laws, timeout)
    try:
        well = Session(setting, Console()).run(once)
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    if not well:
        raise typer.Exit(1)


# ----------------------------------------------------------------------------------------------------- data


@app.command()
def data(
    recipe: RecipeFile,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(file_okay=False, help="Where the rows, the report and the data card go.")] = Path(
        "prepared"
    ),
    processes: Annotated[
        int | None, typer.Option(min=1, help="For stages that look at each row by itself. Default: the recipe's.")
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Run every stage again; answers of a judge are still not asked for twice.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask no model and write nothing: say what asking would cost.")
    ] = False,
) -> None:
    """Prepare a recipe's data: run its stages, write the rows that are left, and why the others are not.

    A stage that ran before, with the same options on the same rows, is not run again. `callwright train` does the same
    first.
    """
    from callwright.pipeline.output import write_prepared
    from callwright.pipeline.prepare import estimates, prepare
    from callwright.pipeline.view import print_prepared
    from callwright.recipe import build, load_recipe

    given = [*(overrides or []), *([] if processes is None else [f"data.processes={processes}"])]
    settings = load_recipe(recipe, given)
    components = build(settings)
    console = Console()
    display = make_display(console)
    try:
        if dry_run:
            _print_estimates(console, estimates(settings, components, display))
            return
        prepared = prepare(settings, components, display, fresh=fresh)
        display.phase("write", 0, 1)
        written = write_prepared(prepared, settings, out)
    finally:
        display.finished()
    print_prepared(console, prepared)
    for path in written:
        console.print(Text(safe(str(path))), soft_wrap=True)


def _print_estimates(console: Console, found: Iterable[tuple[str, str]]) -> None:
    nothing = True
    for place, text in found:
        nothing = False
        console.print(Text.assemble((f"{place}: ", "bold"), safe(text)), soft_wrap=True)
    if nothing:
        console.print("no stage asks a model, or all of them have their answers already")


# ------------------------------------------------------------------------------------------- plugins, check


@app.command()
def plugins(
    as_json: Annotated[bool, typer.Option("--json", help="Print an array of objects instead of a table.")] = False,
    kind: Annotated[str | None, typer.Option(help="Only this kind, such as reward.", show_default=False)] = None,
) -> None:
    """List what a recipe can name, and say which plugins are broken."""
    from callwright.plugins import KINDS, catalogue, describe

    if kind is not None and kind not in KINDS:
        raise typer.BadParameter(f"{kind!r} is none of {', '.join(KINDS)}", param_hint="--kind")
    rows = []
    for entry in catalogue():
        if kind in (None, entry.kind):
            description, error = describe(entry)
            row = {name: getattr(entry, name) for name in ("kind", "name", "distribution", "version", "written_for")}
            rows.append({**row, "description": description, "error": error})
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
    else:
        print_plugins(Console(), rows)


@app.command()
def check(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="A YAML file.", show_default=False)] = None,
    overrides: Overrides = None,
    laws: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Instead of a recipe, check a plugin against the laws of its kind: an installed name, "
            "distribution:name or ./file.py:Class. KEY=VALUE are then its options.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Find every mistake of a recipe at once, without loading a model; without any, say what it does."""
    from callwright.recipe import build, load_recipe
    from callwright.recipe import check as mistakes_of

    if laws is not None:
        _check_laws(laws, [*([str(recipe)] if recipe else []), *(overrides or [])])
        return
    if recipe is None:
        raise typer.BadParameter("name a recipe, or a plugin with --laws")
    display = make_display(Console(stderr=True))
    try:
        mistakes = mistakes_of(recipe, overrides or [], display)
    finally:
        display.finished()
    for mistake in mistakes:
        typer.echo(safe(str(mistake)))
    if mistakes:
        raise typer.Exit(2)
    settings = load_recipe(recipe, overrides or [])
    for name, text in _summary(settings, build(settings)).items():
        typer.echo(f"{name:10}  {safe(text)}")


@app.command()
def schema(
    file: Annotated[Path, typer.Argument(dir_okay=False, help="Where it goes.")] = Path("recipe.schema.json"),
) -> None:
    """Write a JSON Schema of the recipe, with the options of every installed plugin, for editors.

    Those with yaml-language-server (VS Code's YAML extension, Neovim, Helix, Emacs) then complete and check recipes.
    """
    from callwright.recipe_schema import write_schema

    errors = Console(stderr=True)
    for mistake in write_schema(file):
        errors.print(Text.assemble(("warning: ", "bold yellow"), safe(mistake)), soft_wrap=True)
    typer.echo(f"{safe(str(file))} is written; write it again when a plugin comes or goes. First line of a recipe:")
    typer.echo(f"# yaml-language-server: $schema={safe(str(file))}")


@app.command()
def new(
    kind: Annotated[
        str, typer.Argument(metavar="KIND", help="reward, explorer, stage, dialect or source.", show_default=False)
    ],
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What recipes call it, such as short-reply.", show_default=False)
    ],
    out: Annotated[
        Path | None,
        typer.Option(file_okay=False, help="Where it goes. Default: a folder callwright-NAME.", show_default=False),
    ] = None,
) -> None:
    """Write a plugin of your own: a distribution that installs, with a test of the laws, a recipe and CI."""
    from callwright.scaffold import new_plugin

    made = new_plugin(kind, name, out)
    for path in made.files:
        typer.echo(safe(str(made.folder / path)))
    typer.echo("\nnext:")
    for command in made.commands:
        typer.echo(f"  {safe(command)}")


def _check_laws(use: str, options: list[str]) -> None:
    """A line per law, and for a broken one a regression test."""
    _need_hypothesis()
    from callwright.testing.check import check_installed
    from callwright.testing.laws import LawResult

    def show(result: LawResult) -> None:
        typer.echo(safe(f"{result.state:8}{result.name:26}{result.seconds:6.1f} s  {result.message}".rstrip()))
        if result.test:
            typer.echo(safe(f"\nA regression test:\n\n{result.test}"))

    if not check_installed(use, options, show):
        raise typer.Exit(1)


def _need_hypothesis() -> None:
    if not importlib.util.find_spec("hypothesis"):
        raise CallwrightError("the laws and near misses need hypothesis; run pip install 'callwright[testing]'")


def _summary(settings: Recipe, components: Components) -> dict[str, str]:
    shape = settings.train
    steps = f"{shape.steps} steps x {shape.prompts_per_step} prompts x {shape.group_size} completions"
    return {
        "model": settings.model.name,
        "data": f"{settings.data.source.use}: {_rows_summary(settings, components)}",
        "dialect": settings.dialect.use,
        "rewards": ", ".join(reward.name for reward in components.rewards),
        "explorers": ", ".join(explorer.name for explorer in components.explorers) or "none",
        "training": f"{steps} of at most {shape.max_new_tokens} tokens",
        "run folder": str(settings.run),
    }


def _rows_summary(settings: Recipe, components: Components) -> str:
    from callwright.data import load_split
    from callwright.pipeline.prepare import NotPrepared

    try:
        split = load_split(settings, components, SilentDisplay(), without_models=True)
    except NotPrepared as unfinished:
        return f"{unfinished}; `callwright data` runs it, and so does `callwright train`"
    rows = [f"{len(split.train)} rows to train on"]
    rows += [f"{len(split.validation)} for validation"] if split.validation else []
    rows += [f"{len(split.held_out)} held out"] if split.held_out else []
    rows += [f"{count} dropped as {code}" for code, count in split.dropped.items()]
    return ", ".join(rows)
