"""A Markdown page of all records: tables and figures with the paper's numbers beside ours."""

import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..training.table_2 import proportional_drops
from . import comparison, figures, toy_panels
from .experiments import EXPERIMENTS, Cell, Experiment
from .markdown import number, table
from .paper_values import Paper
from .planning import TOY, TOY_RULES, Schedule, screening_of
from .records import (
    Results,
    cell_results,
    cell_schedules,
    read_records,
    reported_records,
    standard_deviation,
    toy_records,
)

_HEADER = """\
# The paper's MNIST findings, {epochs} epochs

Made by `examples/reproduce.py report` from one JSON record per run. {epochs} epochs, batches of 100, learning rate
5e-3, a tenth of it from epoch {first} and a hundredth from epoch {second}; everything else is the paper's protocol
(Section 4.2 and the appendix). {screening}Errors and mean DeepFool margins are those of all 10,000 test
images after the last epoch, mean ± standard deviation over seeds; with one seed there is no deviation. "Not run" has no
record. *Orders*, below a table, are the pairs of its rows of one network that the paper puts in an order of errors, by
its numbers or in its text: each pair counts once, and rows that the paper does not have count for nothing. *Close* are
pairs whose errors are less than {close:g} points apart, which a few more seeds could turn round. Bars and bands in the
figures go from the smallest to the largest of several seeds.

In all: {runs} runs, {hours:.1f} hours of training.
"""
_SCREENING = """\
MIN searches, with `screening={}`, only so many correct samples in full, as a fraction of the batch: those nearest by a
first-order estimate, which leaves its selection as it is, nearly without exception (`benchmarks/shortcuts.py`). """
_MISMATCHES = """\
## What does not match

Of the runs of {epochs} epochs: orders and bounds that are not the paper's, errors more than {deviations:g} of its
standard deviations from its own, and margins more than {margin:.0%} from its.
"""
_NOT_IN_PAPER = "The paper's numbers are those of its own setting."
# The columns that `_entries` fills.
_HEADS = (
    "seeds", "hours", "test error", "paper's error", "off by", "margin", "paper's margin", "off by",
)  # fmt: skip


def write(folder: pathlib.Path, page: pathlib.Path, images: pathlib.Path, schedule: Schedule) -> None:
    """Write the page and draw its figures.

    Args:
        folder: path of the folder of records.
        page: path of the Markdown file.
        images: path of the folder of figures.
        schedule: `Schedule` that is reported. Runs by other schedules have a table of their own.

    Raises:
        RecordError: a file in the folder is not a record, or of other settings.
    """
    records = read_records(folder)
    # Before anything is written.
    reported = reported_records(records)
    if others := sorted(records.keys() - reported.keys()):
        print(f"Left out, of no table or figure: {', '.join(others)}")
    images.mkdir(parents=True, exist_ok=True)
    page.parent.mkdir(parents=True, exist_ok=True)
    parts = [
        _header(reported, schedule),
        _toy({rule: toy_records(reported, rule) for rule in TOY_RULES}, page, images),
    ]
    differences: dict[str, list[str]] = {}
    for name, experiment in EXPERIMENTS.items():
        cells = [(cell, cell_results(reported, cell, schedule)) for cell in experiment.cells]
        finished = [results for _, results in cells if results]
        parts.append(f"## {experiment.title}\n")
        # A sweep with a single point is not worth a figure: the table has it.
        is_drawn = len({experiment.value(results.cell) for results in finished}) > 1 or experiment.kind == "curves"
        if experiment.kind != "table" and finished and is_drawn:
            path = images / f"{name}.png"
            figures.draw(experiment, finished).savefig(path, dpi=150)
            parts.append(f"![{experiment.title}]({_link(path, page)})\n")
        if experiment.kind != "curves":
            parts.append(_table(experiment, cells))
            found = comparison.differences(finished, experiment.better) if experiment.in_paper else ()
            for line in found:
                differences.setdefault(line, []).append(experiment.title.partition(":")[0])
        elif not finished:
            parts.append("Not run.\n")
    parts += _other_schedules(reported, schedule)
    parts.append(_MISMATCHES.format(epochs=schedule.epochs, deviations=comparison.DEVIATIONS, margin=comparison.MARGIN))
    # A run that several tables share is listed once, with all their titles.
    lines = [f"- {', '.join(titles)}: {line}\n" for line, titles in differences.items()]
    parts.append("".join(lines) or "Nothing of what has been run.\n")
    page.write_text("\n".join(parts))
    print(f"Saved {page} and figures in {images}")


def _header(reported: Mapping[str, Mapping[str, Any]], schedule: Schedule) -> str:
    first, second = proportional_drops(schedule.epochs)
    return _HEADER.format(
        epochs=schedule.epochs,
        first=first,
        second=second,
        screening=_SCREENING.format(schedule.screening) if schedule.screening else "",
        close=comparison.CLOSE,
        runs=len(reported),
        hours=sum(record["training_seconds"] for record in reported.values()) / 3600.0,
    )


def _table(experiment: Experiment, cells: Sequence[tuple[Any, Results | None]]) -> str:
    several = len({cell.network for cell, _ in cells}) > 1
    heads = ["network"] * several + [experiment.axis_title] * bool(experiment.axis)
    heads += ["training", *_HEADS]
    rows = []
    finished = [results for _, results in cells if results]
    for cell, results in cells:
        if experiment.kind == "sweep" and not results:
            continue
        names = [cell.network] * several + [f"{experiment.value(cell)}"] * bool(experiment.axis) + [cell.arm.title]
        rows.append([*names, *_entries(cell.paper, results)])
    left = sum(results is None for _, results in cells)
    notes = f"\n{left} of {len(cells)} points not run.\n" if experiment.kind == "sweep" and left else ""
    if experiment.in_paper:
        notes += _orders(comparison.orders(finished, experiment.better))
    elif any(cell.paper.error is not None for cell, _ in cells):
        notes += f"\n{_NOT_IN_PAPER}\n"
    return table(heads, rows) + notes


def _other_schedules(reported: Mapping[str, Mapping[str, Any]], schedule: Schedule) -> list[str]:
    """Cells that were also trained by other schedules, each beside the one that is reported."""
    cells: dict[tuple[str, ...], Cell] = {}
    # A run may be a cell of several tables. Table 3 comes first, since it alone has the paper's margins.
    for experiment in (EXPERIMENTS["table3"], *EXPERIMENTS.values()):
        for cell in experiment.cells:
            cells.setdefault(cell.key, cell)
    found = {
        (key, by): cell_results(reported, cell, by)
        for key, cell in cells.items()
        for by in cell_schedules(reported, cell)
    }
    own = {key: schedule._replace(screening=screening_of(cell, schedule)) for key, cell in cells.items()}
    others = {key for key, by in found if by != own[key]}
    shown = {(key, by): results for (key, by), results in found.items() if key in others and results}
    rows = []
    for (key, by), results in shown.items():
        training = ", ".join([results.cell.arm.title, *key[2:]])
        names = [results.cell.network, training, f"{by.epochs}", f"{by.screening}" if by.screening else ""]
        rows.append([*names, *_entries(results.cell.paper, results)])
    if not rows:
        return []
    title = f"## Other schedules\n\n{_NOT_IN_PAPER}\n"
    return [title, table(["network", "training", "epochs", "screening", *_HEADS], rows)]


def _entries(paper: Paper, results: Results | None) -> list[str]:
    said = f"{paper.bound}{number(paper.error, paper.deviation, '%')}"
    margin = number(paper.margin, None)
    if results is None:
        return ["", "", "not run", said, "", "", margin, ""]
    errors, margins = results.values("error_percent"), results.values("margin_mean")
    off = _difference(results.error, None if paper.bound else paper.error, " points")
    holds = comparison.holds(paper, results.error)
    if holds is not None:
        off = "holds" if holds else "does not hold"
    return [
        str(len(results.records)),
        f"{results.hours:.1f}",
        number(float(np.mean(errors)), standard_deviation(errors), "%"),
        said,
        off,
        number(float(np.mean(margins)), standard_deviation(margins), digits=3),
        margin,
        _difference(float(np.mean(margins)), paper.margin, ""),
    ]


def _orders(orders: Iterable[comparison.Order]) -> str:
    orders = list(orders)
    agree, close = (sum(getattr(order, name) for order in orders) for name in ("agrees", "is_close"))
    return f"\nOrders: {agree} of {len(orders)} as in the paper{f', {close} close' * bool(close)}.\n" if orders else ""


def _difference(value: float, paper: float | None, unit: str) -> str:
    return "" if paper is None else f"{value - paper:+.2f}{unit}"


def _toy(by_rule: Mapping[str, Sequence[Mapping[str, Any]]], page: pathlib.Path, images: pathlib.Path) -> str:
    title = "## Figure 1: linear classifiers on toy data\n\n"
    if not (records := by_rule[TOY]):
        return f"{title}Not run.\n"
    path = images / f"{TOY}.png"
    figure, seed = toy_panels.picture(records)
    figure.savefig(path, dpi=150)
    return (
        f"{title}![Six forms of the penalty on two classes in the plane, seed {seed}]({_link(path, page)})\n\n"
        f"{toy_panels.TEXT}{''.join(_toy_table(rule, found) for rule, found in by_rule.items())}"
    )


def _toy_table(rule: str, records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return f"\n{toy_panels.RULES[rule]} Not run.\n"
    rows = table(toy_panels.HEADS, toy_panels.rows(records))
    return f"\n{toy_panels.RULES[rule]}\n\n{rows}\n{toy_panels.remarks(records)}"


def _link(image: pathlib.Path, page: pathlib.Path) -> str:
    return os.path.relpath(image, page.parent)
