"""The bar chart of a suite: accuracy by category, and the scores, of one model or of two."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from callwright.compare.figures import COLOURS, LONGEST_NAME, as_png
from callwright.display import safe, shortened
from callwright.suites.evaluation import Evaluation

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_VALUE = "#777777"


def bar_chart(evaluations: Sequence[Evaluation]) -> bytes:
    """PNG of one evaluation or of two, whose categories and scores are those of the last."""
    import matplotlib
    from matplotlib.figure import Figure

    shown = evaluations[-1]
    # A model may have any name: with dollar signs, or letters that the font lacks.
    settings: dict[Any, Any] = {"text.parse_math": False, "font.size": 9, "legend.frameon": False}
    settings |= {"axes.spines.top": False, "axes.spines.right": False, "axes.axisbelow": True}
    categories = [(f"{one.name} ({one.asked})", "not judged") for one in shown.categories]
    scores = [(f"{one.by}: {one.name}", "not defined") for one in shown.scores if one.of == 1.0]
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        bars = len(categories) + len(scores)
        figure = Figure(figsize=(9, 1.4 + bars * (0.12 + 0.14 * len(evaluations))), dpi=110, layout="constrained")
        ratios = [max(len(categories), 1), max(len(scores), 1)]
        above, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": ratios})
        for number, one in enumerate(evaluations):
            by_name = {category.name: category.accuracy for category in one.categories}
            by_score = {(score.by, score.name): score.value for score in one.scores}
            accuracies = [by_name.get(category.name) for category in shown.categories]
            values = [by_score.get((score.by, score.name)) for score in shown.scores if score.of == 1.0]
            name = shortened(safe(one.model).replace("\n", " "), LONGEST_NAME)
            name = f"{name}, {len(one.rows)} rows" if one.complete else f"{name}, only {len(one.rows)} rows"
            _draw(above, accuracies, categories, number, len(evaluations), name)
            _draw(below, values, scores, number, len(evaluations), name)
        _dress(above, [name for name, _ in categories], "by category (rows asked)")
        _dress(below, [name for name, _ in scores], "scores: those of different definitions do not compare")
        if len(evaluations) > 1:
            figure.legend(*above.get_legend_handles_labels(), loc="outside lower center", ncols=2)
        part = "" if all(one.complete for one in evaluations) else ", on a part of the rows"
        names = " and ".join(shortened(safe(one.model), LONGEST_NAME) for one in evaluations)
        figure.suptitle(f"{safe(shown.suite)}: {names}{part}", fontweight="bold")
        return as_png(figure)


def _draw(
    axes: Axes, values: Sequence[float | None], names: Sequence[tuple[str, str]], number: int, of: int, label: str
) -> None:
    height = 0.8 / of
    places = [place + (number - (of - 1) / 2) * height for place in range(len(names))]
    axes.barh(places, [value or 0.0 for value in values], height * 0.92, color=COLOURS[number], label=label)
    for place, value, (_, nothing) in zip(places, values, names, strict=True):
        text, colour = (nothing, NO_VALUE) if value is None else (f"{value:.1%}", "black")
        axes.text((value or 0.0) + 0.008, place, text, va="center", fontsize=8, color=colour)


def _dress(axes: Axes, names: Sequence[str], title: str) -> None:
    from matplotlib.ticker import PercentFormatter

    axes.set_yticks(range(len(names)), [safe(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.08)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_title(title, loc="left", fontsize=9)
