"""The figures of the report: error over epochs, and error over training images or random labels."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from keras_amm import plots
from keras_amm.plots.style import COLORS, MARKERS

from .experiments import EXPERIMENTS, OURS, Experiment
from .records import Results

# A way of training has the same colour and marker in every figure.
_ARMS = tuple(dict.fromkeys(cell.arm.title for experiment in EXPERIMENTS.values() for cell in experiment.cells))
# There are more ways than colours; the last ones, which are not in the paper, share those of the first. Only the
# default stands in a figure with the first.
_COLORS = {title: COLORS[i % len(COLORS)] for i, title in enumerate(_ARMS)} | {OURS.title: "black"}
# The markers of the paper's values: of a number, of an upper and of a lower bound.
_BOUND_MARKERS = {"": "D", "<": "v", ">": "^"}


def draw(experiment: Experiment, finished: Sequence[Results]) -> Figure:
    """The figure of an experiment.

    Bars and bands go from the smallest to the largest value of several seeds.

    Args:
        experiment: of kind "curves" or "sweep".
        finished: the results of its cells that have been run, at least one.

    Returns:
        The matplotlib figure.
    """
    return _curves(experiment, finished) if experiment.kind == "curves" else _sweep(experiment, finished)


def _curves(experiment: Experiment, finished: Sequence[Results]) -> Figure:
    figure = plots.training_curves(
        {results.cell.arm.title: results.curves() for results in finished},
        "error",
        label="test error (%)",
        colors=_COLORS,
    )
    (axes,) = figure.axes
    for line, results in zip(list(axes.lines), finished, strict=True):
        paper = results.cell.paper
        if paper.error is not None and not paper.bound:
            axes.plot(
                line.get_xdata()[-1:], [paper.error], "D", color=line.get_color(), fillstyle="none", clip_on=False
            )
    # The errors of the first epochs are far above the differences that the figure is about.
    last = [results.error for results in finished]
    axes.set_ylim(max(0.0, min(last) - 0.2), max(max(last) + 0.5, 3.0))
    axes.set_title(experiment.title)
    axes.plot([], [], "D", color="black", fillstyle="none", label="the paper, after its 100 epochs")
    # Inside the axes a legend would hide curves. With long titles it has room for one column only.
    axes.get_legend().remove()
    is_long = max(len(results.cell.arm.title) for results in finished) > 20
    figure.legend(loc="outside lower center", ncols=1 if is_long else 2, frameon=False)
    return figure


def _sweep(experiment: Experiment, finished: Sequence[Results]) -> Figure:
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    places = sorted({experiment.value(cell) for cell in experiment.cells})
    for title in dict.fromkeys(results.cell.arm.title for results in finished):
        color, marker = _COLORS[title], MARKERS[_ARMS.index(title) % len(MARKERS)]
        errors = {experiment.value(r.cell): r.values("error_percent") for r in finished if r.cell.arm.title == title}
        # Lines stop at NaN: they join neighbours only, so none spans a place that was not run.
        low, mean, high = np.transpose(
            [
                [each(errors[place]) for each in (np.min, np.mean, np.max)] if place in errors else [np.nan] * 3
                for place in places
            ]
        )
        axes.errorbar(places, mean, (mean - low, high - mean), color=color, marker=marker, capsize=3, label=title)
        axes.fill_between(places, low, high, color=color, alpha=0.25, linewidth=0.0)
        for cell in experiment.cells:
            if cell.arm.title == title and cell.paper.error is not None:
                place, bound = experiment.value(cell), _BOUND_MARKERS[cell.paper.bound]
                axes.plot([place], [cell.paper.error], bound, color=color, fillstyle="none")
    axes.plot([], [], "D", color="black", fillstyle="none", label="the paper")
    if any(cell.paper.bound for cell in experiment.cells):
        axes.plot([], [], "^", color="black", fillstyle="none", label="the paper: above (up) or below (down)")
    axes.set(xlabel=experiment.axis_title, ylabel="test error", title=experiment.title)
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure
