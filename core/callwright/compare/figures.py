"""The curves of a comparison, each against steps and against training time."""

from __future__ import annotations

import io
import itertools
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np

from callwright.compare.readings import Numbers, Reading
from callwright.display import safe, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's, which colour-blind people can tell apart; the baseline is black."""
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
SMOOTHED_STEPS = 5
LONGEST_NAME = 28
FEW_POINTS = 12
"""Up to here a line shows its points."""

MANY_ARMS = 5
"""With more, they get panels of their own too."""
COLUMNS = 4

Runs = Mapping[int, Reading]
Style = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Curve:
    """One run in one figure, (P,) each."""

    x: Numbers
    """Steps."""
    minutes: Numbers
    y: Numbers


@dataclass(frozen=True, slots=True)
class Band:
    """An arm in one figure: over its seeds, by step."""

    x: Numbers
    minutes: Numbers
    """Mean over seeds."""
    mean: Numbers
    low: Numbers
    high: Numbers


@dataclass(frozen=True, slots=True)
class Plot:
    """A figure to draw."""

    name: str
    title: str
    axis: str
    """With unit."""
    curve: Callable[[Reading], Curve | None]
    log: bool = False
    percent: bool = False
    smooth: bool = True


@dataclass(frozen=True, slots=True)
class Drawn:
    """A figure as PNG, and what it shows in words."""

    name: str
    title: str
    caption: str
    png: bytes


# ----------------------------------------------------------------------------------------------------- curves


def _of(metric: str) -> Callable[[Reading], Curve | None]:
    def curve(run: Reading) -> Curve | None:
        values = run.series.get(metric)
        if values is None or not np.isfinite(values).any():
            return None
        known = np.isfinite(values)
        return Curve(run.steps[known], run.minutes[known], values[known])

    return curve


def held_out_curve(run: Reading) -> Curve | None:
    """Accuracy before and after, and between them where `train.watch_held_out` recorded it."""
    between = _of("held_out_accuracy")(run)
    points = {} if between is None else dict(zip(between.x, zip(between.minutes, between.y, strict=True), strict=True))
    if run.before is not None:
        points[0.0] = (0.0, run.before.accuracy)
    if run.after is not None and len(run.steps):
        points[run.steps[-1]] = (run.minutes[-1], run.after.accuracy)
    if not points:
        return None
    x = sorted(points)
    return Curve(np.array(x), np.array([points[s][0] for s in x]), np.array([points[s][1] for s in x]))


PLOTS = (
    Plot("held_out", "Accuracy on held-out rows", "accuracy", held_out_curve, percent=True, smooth=False),
    Plot(
        "validation", "Accuracy on validation rows", "accuracy", _of("validation_accuracy"), percent=True, smooth=False
    ),
    Plot("reward", "Training reward", "mean reward of a step's completions", _of("reward")),
    Plot("entropy", "Entropy", "nats per token (log scale)", _of("entropy"), log=True),
    Plot("kl", "KL divergence from the reference", "nats per token", _of("kl")),
    Plot("flat_groups", "Groups without a difference", "share of groups", _of("flat_groups"), percent=True),
    Plot("distinct_calls", "Different calls in a group", "different calls per group", _of("distinct_calls")),
    Plot("completion_length", "Length of completions", "tokens", _of("completion_length")),
)


def smoothed(curve: Curve, steps: int) -> Curve:
    """The mean of each point and those before it, `steps` in all; fewer at the beginning."""
    sums = np.cumsum(np.concatenate([[0.0], curve.y]))
    ends = np.arange(1, len(curve.y) + 1)
    starts = np.maximum(ends - steps, 0)
    return Curve(curve.x, curve.minutes, (sums[ends] - sums[starts]) / (ends - starts))


def over_seeds(curves: Sequence[Curve]) -> Band:
    """Mean, lowest and highest at every step that all runs have: a mean over fewer would jump where one ends."""
    x = reduce(np.intersect1d, [curve.x for curve in curves])
    values = np.stack([curve.y[np.searchsorted(curve.x, x)] for curve in curves])
    minutes = np.stack([curve.minutes[np.searchsorted(curve.x, x)] for curve in curves])
    return Band(x, minutes.mean(0), values.mean(0), values.min(0), values.max(0))


# ---------------------------------------------------------------------------------------------------- drawing


def draw_all(
    found: Mapping[str, Runs], baseline: str, progress: Callable[[int, int], None]
) -> tuple[list[Drawn], list[str]]:
    """Every figure for which some run has figures, and the titles of those for which none has."""
    import matplotlib

    drawn: list[Drawn] = []
    empty = []
    # An arm may have any name: with dollar signs, or letters that the font lacks.
    settings: dict[Any, Any] = {"text.parse_math": False, "font.size": 9, "legend.frameon": False}
    settings |= {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        for done, plot in enumerate(PLOTS):
            progress(done, len(PLOTS))
            known = {
                arm: [curve for run in runs.values() if (curve := plot.curve(run)) is not None]
                for arm, runs in found.items()
            }
            curves = {arm: some for arm, some in known.items() if some}
            if not curves:
                empty.append(plot.title)
                continue
            texts = [arm for arm, runs in found.items() if any(run.counts_texts for run in runs.values())]
            drawn += _draw(plot, curves, baseline, texts if plot.name == "distinct_calls" else [])
    return drawn, empty


def _draw(plot: Plot, curves: Mapping[str, list[Curve]], baseline: str, as_texts: Sequence[str]) -> Iterator[Drawn]:
    """Where many arms lie on each other, a second figure has a panel for each."""
    longest = max(len(curve.x) for some in curves.values() for curve in some)
    window = min(SMOOTHED_STEPS, max(1, longest // 4)) if plot.smooth else 1
    styles, many = _styles(curves, baseline), len(curves) > MANY_ARMS
    caption = _caption(plot, window, many, as_texts)
    yield Drawn(plot.name, plot.title, caption, _together(plot, curves, styles, window, baseline))
    if many:
        title, caption = f"{plot.title}, arm by arm", "The same against steps; the baseline in black in every panel."
        yield Drawn(f"{plot.name}_by_arm", title, caption, _apart(plot, curves, styles, window, baseline))


def _together(
    plot: Plot, curves: Mapping[str, list[Curve]], styles: Mapping[str, Style], window: int, baseline: str
) -> bytes:
    """All arms, against steps and against time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.4), dpi=110, layout="constrained")
    by_step, by_time = figure.subplots(1, 2, sharey=True)
    faint = len(curves) <= MANY_ARMS
    lines = []
    for arm, some in curves.items():
        lines.append(_draw_arm(by_step, some, styles[arm], window, plot.log, faint=faint))
        _draw_arm(by_time, some, styles[arm], window, plot.log, faint=faint, time=True)
    _dress(by_step, plot, "step")
    _dress(by_time, plot, "training time of a run (minutes)")
    by_step.set_ylabel(plot.axis)
    figure.suptitle(plot.title, fontweight="bold")
    counts = sorted({len(some) for some in curves.values()})
    names = [_label(arm, baseline, len(some) if len(counts) > 1 else None) for arm, some in curves.items()]
    place = {"loc": "outside lower center", "ncols": min(3 if len(lines) > MANY_ARMS else 4, len(lines))}
    legend = figure.legend(lines, names, **place)  # type: ignore[arg-type]
    band = "line: mean over seeds, band or bar: lowest to highest seed" if counts[-1] > 1 else "one seed each"
    legend.set_title(f"{band} ({counts[0]} each)" if len(counts) == 1 < counts[0] else band)
    return as_png(figure)


def _apart(
    plot: Plot, curves: Mapping[str, list[Curve]], styles: Mapping[str, Style], window: int, baseline: str
) -> bytes:
    """A panel for each arm, with the baseline in it, against steps."""
    from matplotlib.figure import Figure

    arms = [arm for arm in curves if arm != baseline]
    rows = -(-len(arms) // COLUMNS)
    figure = Figure(figsize=(10, 0.6 + 1.9 * rows), dpi=110, layout="constrained")
    panels = figure.subplots(rows, COLUMNS, sharex=True, sharey=True, squeeze=False).ravel().tolist()
    for number, (axes, arm) in enumerate(zip(panels, arms, strict=False)):
        for one in (baseline, arm):
            if one in curves:
                _draw_arm(axes, curves[one], {**styles[one], "linestyle": "solid"}, window, plot.log, faint=True)
        axes.set_title(_label(arm, baseline, None), fontsize=9)
        below = number + COLUMNS >= len(arms)
        _dress(axes, plot, "step" if below else "")
        axes.tick_params(labelbottom=below)
    for axes in panels[len(arms) :]:
        axes.set_visible(False)
    figure.supylabel(plot.axis, fontsize=9)
    figure.suptitle(f"{plot.title} (black: {_label(baseline, baseline, None)})", fontweight="bold")
    return as_png(figure)


def as_png(figure: Figure) -> bytes:
    """The same bytes for the same figure."""
    image = io.BytesIO()
    figure.savefig(image, format="png", metadata={"Software": None})
    return image.getvalue()


def _dress(axes: Axes, plot: Plot, label: str) -> None:
    """Label, grid and scales."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter

    axes.set_xlabel(label)
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.margins(x=0.02)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=label == "step", steps=[1, 2, 5, 10]))
    if plot.log:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))  # entropy often stays within one power of ten
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    if plot.percent:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _styles(arms: Iterable[str], baseline: str) -> dict[str, Style]:
    """By arm: colour, dashes, and the baseline on top."""
    kinds = itertools.cycle(itertools.product(DASHES, COLOURS))
    found: dict[str, Style] = {baseline: {"color": "#000000", "linestyle": "solid", "zorder": 3}}
    for arm in arms:
        if arm != baseline:
            dashes, colour = next(kinds)
            found[arm] = {"color": colour, "linestyle": dashes, "zorder": 2.5}
    return found


def _draw_arm(
    axes: Axes, curves: Sequence[Curve], style: Style, window: int, log: bool, *, faint: bool, time: bool = False
) -> Line2D:
    if log:
        curves = [_positive(curve) for curve in curves]
    raw, band = over_seeds(curves), over_seeds([smoothed(curve, window) for curve in curves])
    x = band.minutes if time else band.x
    if len(x) <= 2:  # before and after: nothing is known of what lies between
        reach = np.stack([band.mean - band.low, band.high - band.mean])
        axes.errorbar(x, band.mean, reach, color=style["color"], linestyle="none", capsize=3, elinewidth=1)
        style = {**style, "linestyle": (0, (1, 3)), "linewidth": 1.2}
    elif len(curves) > 1:
        axes.fill_between(x, band.low, band.high, color=style["color"], alpha=0.14 if faint else 0.08, linewidth=0)
    if window > 1 and faint:
        axes.plot(x, raw.mean, color=style["color"], alpha=0.25, linewidth=0.7)
    marker = "o" if len(x) <= FEW_POINTS else ""
    (line,) = axes.plot(x, band.mean, **{"marker": marker, "markersize": 4, "linewidth": 1.8, **style})
    return line


def _positive(curve: Curve) -> Curve:
    """A logarithm knows no 0, which is what the entropy of a model that is quite sure may be."""
    return Curve(curve.x, curve.minutes, np.maximum(curve.y, 1e-6))


def _label(arm: str, baseline: str, seeds: int | None) -> str:
    name = shortened(safe(arm).replace("\n", " "), LONGEST_NAME)
    remarks = ["baseline"] if arm == baseline else []
    if seeds is not None:
        remarks.append(f"{seeds} seed" if seeds == 1 else f"{seeds} seeds")
    return f"{name} ({', '.join(remarks)})" if remarks else name


def _caption(plot: Plot, window: int, many: bool, as_texts: Sequence[str]) -> str:
    parts = []
    if window > 1:
        faint = "" if many else "; faint: every step by itself"
        parts.append(f"Mean of each step and the {window - 1} before it{faint}.")
    parts.append(
        "Training time is the sum of the steps' seconds, without loading and evaluation; a point stands at the mean"
        " over the seeds."
    )
    if plot.name == "held_out":
        parts.append("Greedy answers. Without train.watch_held_out there are two points: before and after.")
    if plot.name == "entropy":
        parts.append("Of the policy at the sampling temperature, mean over the tokens of the step's completions.")
    if plot.name == "flat_groups":
        parts.append("In such a group all completions have the same reward, and nothing is learned from it.")
    if plot.name == "distinct_calls":
        parts.append(
            "Completions whose calls have the same names and arguments are one; making no call counts as one; what"
            " cannot be read does not count. Mean over the step's groups."
        )
        if as_texts:
            names = ", ".join(as_texts)
            parts.append(f"Different texts instead of calls, as the dialect could not be loaded: {names}.")
    return " ".join(parts)
