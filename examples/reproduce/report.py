"""What there is of the records, as a Markdown page with tables and figures beside the paper's numbers."""

import os
import pathlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

import comparison
import records as finished
from experiments import EXPERIMENTS, Arm, Experiment, Paper
from keras_amm import plots
from keras_amm.plots.style import COLORS, MARKERS
from planning import TOY, Schedule
from records import Results

_HEADER = """\
# The paper's MNIST findings

Made by `examples/reproduce/run.py report` from one JSON record per run. {epochs} epochs, batches of 100, learning rate
5e-3, a tenth of it from epoch {first} and a hundredth from epoch {second}; everything else is the paper's protocol
(Section 4.2 and the appendix). {screening}Errors and mean DeepFool margins are those of all 10,000 test
images after the last epoch, mean ± standard deviation over seeds; with one seed there is no deviation. "Not run" has no
record. *Order* counts the other rows of the same network that the paper puts above or below a row, by its numbers or in
its text, and how many of them are on the same side here.

In all: {runs} runs, {hours:.1f} hours of training, each on one thread of a machine shared with other work.
"""


_SCREENING = """\
MIN searches, with `screening={}`, only so many correct samples in full, as a fraction of the batch: those nearest by a
first-order estimate, which leaves its selection as it is, nearly without exception (`benchmarks/shortcuts.py`). """

# What `_entries` has of each row.
_HEADS = ("seeds", "test error", "paper", "off by", "order", "margin", "paper", "off by")


def write(
    folder: pathlib.Path, work: pathlib.Path, page: pathlib.Path, images: pathlib.Path, schedule: Schedule
) -> None:
    """Write the page and draw its figures.

    Args:
        folder: of the records.
        work: folder of the runs' own folders, where Figure 1 is.
        page: path of the Markdown file.
        images: folder of the figures.
        schedule: `Schedule` that is reported. Runs of other numbers of epochs have a table of their own.
    """
    everything = finished.read(folder)
    epochs = schedule.epochs
    counted = [record for name, record in everything.items() if name != TOY]
    hours = sum(record["training_seconds"] for record in counted) / 3600.0
    first, second = epochs // 2, epochs * 4 // 5
    screening = _SCREENING.format(schedule.screening) if schedule.screening else ""
    parts = [
        _HEADER.format(epochs=epochs, first=first, second=second, screening=screening, runs=len(counted), hours=hours)
    ]
    images.mkdir(parents=True, exist_ok=True)
    page.parent.mkdir(parents=True, exist_ok=True)
    if TOY in everything:
        picture = work / TOY / f"{TOY}.png"
        if picture.exists():
            shutil.copy(picture, images)
        parts.append(_toy(everything[TOY], os.path.relpath(images / picture.name, page.parent)))
    differences: list[str] = []
    for name, experiment in EXPERIMENTS.items():
        cells = [(cell, finished.of_cell(everything, cell, schedule)) for cell in experiment.cells]
        there = [results for _, results in cells if results]
        parts.append(f"## {experiment.title}\n")
        # One place on the axis is no curve: the table says it.
        enough = len({experiment.value(results.cell) for results in there}) > 1 or experiment.kind == "curves"
        if experiment.kind != "table" and there and enough:
            path = images / f"{name}.png"
            (_curves if experiment.kind == "curves" else _sweep)(experiment, there).savefig(path, dpi=150)
            parts.append(f"![{experiment.title}]({os.path.relpath(path, page.parent)})\n")
        if experiment.kind != "curves":
            parts.append(_table(experiment, cells))
            differences += comparison.differences(there, experiment.better)
        elif not there:
            parts.append("Not run.\n")
    parts += _other_lengths(everything, schedule)
    parts.append(f"## What does not match\n\nOf the runs of {epochs} epochs:\n")
    # A run that several tables share differs once.
    parts.append("".join(f"- {line}\n" for line in dict.fromkeys(differences)) or "Nothing of what has been run.\n")
    page.write_text("\n".join(parts))
    print(f"Saved {page} and figures in {images}")


def _table(experiment: Experiment, cells: Sequence[tuple[Any, Results | None]]) -> str:
    several = len({cell.network for cell, _ in cells}) > 1
    heads = ["network"] * several + [experiment.axis_title] * bool(experiment.axis)
    heads += ["training", *_HEADS]
    rows = []
    there = [results for _, results in cells if results]
    for cell, results in cells:
        if experiment.kind == "sweep" and not results:
            continue
        names = [cell.network] * several + [f"{experiment.value(cell)}"] * bool(experiment.axis) + [cell.arm.title]
        rows.append([*names, *_entries(cell.paper, results, there, experiment.better)])
    left = sum(results is None for _, results in cells)
    note = f"\n{left} of {len(cells)} points not run.\n" if experiment.kind == "sweep" and left else ""
    return _markdown(heads, rows) + note


def _markdown(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join("| " + " | ".join(entries) + " |\n" for entries in (heads, ["---"] * len(heads), *rows))


def _other_lengths(everything: Mapping[str, Mapping[str, Any]], schedule: Schedule) -> list[str]:
    """Cells that were also trained over another number of epochs, each beside the schedule's own."""
    # A run is a cell of several tables; Table 3 knows its margin.
    cells = {cell.key: cell for experiment in EXPERIMENTS.values() for cell in experiment.cells}
    cells |= {cell.key: cell for cell in EXPERIMENTS["table3"].cells}
    found = {
        (key, epochs): results
        for key, cell in cells.items()
        for epochs in finished.lengths(everything)
        if (results := finished.of_cell(everything, cell, schedule._replace(epochs=epochs)))
    }
    others = {key for key, epochs in found if epochs != schedule.epochs}
    rows = []
    for (key, epochs), results in found.items():
        if key in others:
            there = [other for place, other in found.items() if place[0] in others and place[1] == epochs]
            names = [results.cell.network, ", ".join([results.cell.arm.title, *key[2:]]), f"{epochs}"]
            rows.append([*names, *_entries(results.cell.paper, results, there)])
    heads = ["network", "training", "epochs", *_HEADS]
    title = ["## Other numbers of epochs\n", "*Order* is among rows of as many epochs.\n"]
    return [*title, _markdown(heads, rows)] if rows else []


def _entries(
    paper: Paper, results: Results | None, there: Sequence[Results], better: Sequence[tuple[Arm, Arm]] = ()
) -> list[str]:
    said = f"{paper.bound}{_number(paper.error, paper.spread, '%')}"
    margin = _number(paper.margin, None)
    if results is None:
        return ["", "not run", said, "", "", "", margin, ""]
    errors, margins = results.values("error_percent"), results.values("margin_mean")
    off = _difference(results.error, None if paper.bound else paper.error, " points")
    holds = comparison.holds(paper, results.error)
    if holds is not None:
        off = "holds" if holds else "does not hold"
    agree = [order.agrees for order in comparison.orders(results, there, better)]
    return [
        str(len(results.records)),
        _number(float(np.mean(errors)), finished.spread(errors), "%"),
        said,
        off,
        f"{sum(agree)} of {len(agree)}" if agree else "",
        _number(float(np.mean(margins)), finished.spread(margins)),
        margin,
        _difference(float(np.mean(margins)), paper.margin, ""),
    ]


def _number(value: float | None, deviation: float | None, unit: str = "") -> str:
    if value is None:
        return ""
    return f"{value:.2f}{unit}" + (f" ± {deviation:.2f}" if deviation is not None else "")


def _difference(value: float, paper: float | None, unit: str) -> str:
    return "" if paper is None else f"{value - paper:+.2f}{unit}"


def _curves(experiment: Experiment, there: Sequence[Results]) -> Figure:
    figure = plots.training_curves(
        {results.cell.arm.title: results.curves() for results in there}, "error", label="test error (%)"
    )
    (axes,) = figure.axes
    # The first epochs are far above what the figure is about.
    last = [results.error for results in there]
    axes.set_ylim(max(0.0, min(last) - 0.2), max(max(last) + 0.5, 3.0))
    axes.set_title(experiment.title)
    # Within, it would hide curves; a long title leaves no room beside it.
    axes.get_legend().remove()
    is_long = max(len(results.cell.arm.title) for results in there) > 20
    figure.legend(loc="outside lower center", ncols=1 if is_long else 2, frameon=False)
    return figure


def _sweep(experiment: Experiment, there: Sequence[Results]) -> Figure:
    figure = Figure(figsize=(6.0, 4.0), layout="constrained")
    axes = figure.subplots()
    places = sorted({experiment.value(cell) for cell in experiment.cells})
    arms = dict.fromkeys(results.cell.arm.title for results in there)
    for title, color, marker in zip(arms, COLORS, MARKERS, strict=False):
        errors = {experiment.value(r.cell): r.values("error_percent") for r in there if r.cell.arm.title == title}
        # Lines stop at NaN: they join neighbours only, so none spans a place that was not run.
        low, mean, high = np.transpose(
            [
                [each(errors[place]) for each in (np.min, np.mean, np.max)] if place in errors else [np.nan] * 3
                for place in places
            ]
        )
        axes.plot(places, mean, color=color, marker=marker, label=title)
        axes.fill_between(places, low, high, color=color, alpha=0.25)
    axes.set(xlabel=experiment.axis_title, ylabel="test error", title=experiment.title)
    axes.yaxis.set_major_formatter(PercentFormatter())
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    return figure


def _toy(record: Mapping[str, Any], picture: str) -> str:
    """Figure 1's lines; the picture itself is the run's own."""
    rows = [
        [
            name,
            f"{panel['train_accuracy']:.2%}",
            f"{panel['test_accuracy']:.2%}",
            f"{panel['margin']:.4f}",
            f"{panel['angle']:.1f}°",
        ]
        for name, panel in record["panels"].items()
    ]
    return (
        "## Figure 1: linear classifiers on toy data\n\n"
        f"![Six forms of the penalty on two classes in the plane]({picture})\n\n"
        "The largest possible margin is 1, at an angle of 0°. The paper gives no numbers: AVG+LIN is to be roughly "
        f"orthogonal to the line through the classes' centres ({record['centres_angle']:.1f}°), AVG+EXP and AVG+INV "
        "better, and MIN near the optimum.\n\n"
    ) + _markdown(["training", "train accuracy", "test accuracy", "margin", "angle"], rows)
