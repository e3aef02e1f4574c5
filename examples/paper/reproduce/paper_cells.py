"""Every cell of the paper's Tables 1 to 7 and Figures 1 to 5 beside what the records have of it, and a verdict."""

import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from ..training.table_2 import TABLE_2
from . import comparison, toy_panels
from .experiments import EXPERIMENTS, OURS, Cell, Experiment
from .paper_values import Paper, Row, rows
from .planning import TOY, TOY_RULES
from .records import (
    Results,
    cell_results,
    cell_schedules,
    read_records,
    reported_records,
    standard_deviation,
    toy_records,
)
from .verdicts import AS_IN_THE_PAPER, DIFFERS, NOT_RUN, OPEN, Verdict, judge

_DATA_SETS = {
    **dict.fromkeys(("Table 1", "Table 2", "Table 3"), "mnist"),
    **{"Table 4": "cifar10", "Table 5": "cifar100", "Table 6": "svhn_cropped", "Table 7": "imagenet2012"},
}
_ARMS = {cell.arm.name: cell.arm for experiment in EXPERIMENTS.values() for cell in experiment.cells}
_MNIST_EPOCHS = TABLE_2["mnist"]["mlp-800"].epochs
_TOY_EPOCHS = 1000
# Records of other data sets, in the folder of results: a file of each seed, and the epochs that its weights had been
# trained before. ResNet-20's reference is of the starts from which MIN+EXP was trained.
_OTHER_RECORDS: Mapping[tuple[str, str, str], tuple[tuple[str, ...], int]] = MappingProxyType(
    {
        ("Table 4", arm, network): (tuple(f"cifar10/{run}-{seed}-test.json" for seed in seeds), epochs_before)
        for arm, network, run, seeds, epochs_before in (
            ("reference", "lenet", "lenet-60-reference", (0, 1), 60),
            ("min-exp", "lenet", "lenet-60-min-exp-chosen", (0, 1), 60),
            ("reference", "resnet-20", "resnet-20-reference", ("0-again", 1), 24),
            ("min-exp", "resnet-20", "resnet-20-min-exp-chosen", ("0-again", 1), 24),
        )
    }
)
# What else sets a training apart from the paper's, by place and way of training; an empty place is any.
_CAUSES: Mapping[tuple[str, str], str] = MappingProxyType(
    {
        ("", "elsayed"): "weight and threshold, of which the paper says nothing",
        ("Table 4", "reference"): "JPEG images, 45,000 of them",
        ("Table 4", "min-exp"): "JPEG images, 45,000 of them, the boundary gradient, other λ, c and d",
        ("", "dlsvm"): "C, and noise on the pixels in place of their principal components",
        ("Figure 1", "MIN+LIN"): "of the misclassified points only the farthest pull, as in the authors' code",
        ("Figure 1", "MIN+EXP"): "of the misclassified points only the farthest pull, as in the authors' code",
    }
)
# What Section 3.3.3 says of the panels of Figure 1.
_PANELS: Mapping[str, str] = MappingProxyType(
    {
        "AVG+LIN": "orthogonal to the line through the centres",
        "AVG+INV": "better accuracy than AVG+LIN",
        "AVG+EXP": "better accuracy than AVG+LIN",
        "MIN+LIN": "(nearly) the largest margin",
        "MIN+INV": "(nearly) the largest margin",
        "MIN+EXP": "(nearly) the largest margin",
    }
)


class Ours(NamedTuple):
    """What the records have of a training: means over the seeds, and deviations where there are several.

    Attributes:
        error: percent; None for Figure 1.
        error_deviation: float or None.
        margin: mean DeepFool norm; None for Figure 1.
        margin_deviation: float or None.
        epochs: int.
        seeds: int.
        runs: the names of the runs.
    """

    error: float | None
    error_deviation: float | None
    margin: float | None
    margin_deviation: float | None
    epochs: int
    seeds: int
    runs: tuple[str, ...]


class Entry(NamedTuple):
    """A row of a table, a curve or a point of a figure, or a panel of Figure 1.

    Attributes:
        place: "Table 3".
        names: what it is called there, such as network, training and number of images.
        paper: `Paper`.
        said: what the paper says where it gives no number.
        ours: `Ours`, or None if it was not run.
        epochs: the paper's number of epochs; None where there is no such network here.
        verdicts: of the error, and of the margin if the paper gives one: the row's cells.
        found: what Figure 1's boundaries are like.
    """

    place: str
    names: tuple[str, ...]
    paper: Paper
    said: str
    ours: Ours | None
    epochs: int | None
    verdicts: tuple[Verdict, ...]
    found: str = ""

    @property
    def is_at_the_papers_epochs(self) -> bool:
        """Whether it was trained for as many epochs as the paper's."""
        return self.ours is not None and self.epochs is not None and self.ours.epochs >= self.epochs


def entries(results: pathlib.Path) -> list[Entry]:
    """All rows, in the paper's order: tables, then figures.

    Args:
        results: path of the folder of results; its folder `records` holds those of `reproduce.py`.

    Returns:
        List of `Entry`.

    Raises:
        RecordError: a file is not the record of a run, or of another command.
    """
    records = reported_records(read_records(results / "records"))
    found = [_of_table(row, records, results) for row in rows() if row.place.startswith("Table")]
    found += _of_toy({rule: toy_records(records, rule) for rule in TOY_RULES})
    for name, place in (("figure2", "Figure 2"), ("figure3", "Figure 3")):
        found += _of_curves(place, EXPERIMENTS[name], records)
    for name, place in (("figure4", "Figure 4"), ("figure5", "Figure 5")):
        found += _of_sweep(place, EXPERIMENTS[name], records)
    return found


def _of_table(row: Row, records: Mapping[str, Any], results: pathlib.Path) -> Entry:
    data_set = _DATA_SETS[row.place]
    network = TABLE_2[data_set].get(row.model)
    if data_set == "mnist":
        ours = _ours(_best(records, Cell(_ARMS[row.arm], row.model)))
    else:
        ours = _of_files(results, *_OTHER_RECORDS.get((row.place, row.arm, row.model), ((), 0)))
    epochs = network.epochs if network else None
    verdicts = [judge(row.paper.error, row.paper.deviation, row.paper.bound, ours and ours.error)]
    if row.paper.margin is not None:
        verdicts.append(judge(row.paper.margin, None, "", ours and ours.margin))
    augmentation = f" ({row.augmentation})" if row.augmentation else ""
    names = (row.network, f"{row.training}{augmentation}")
    return _with_causes(Entry(row.place, names, row.paper, row.remark, ours, epochs, tuple(verdicts)), row.arm)


def _of_curves(place: str, experiment: Experiment, records: Mapping[str, Any]) -> Iterator[Entry]:
    for cell in experiment.cells:
        if cell.paper.error is not None:
            ours = _ours(_best(records, cell))
            verdict = judge(cell.paper.error, cell.paper.deviation, cell.paper.bound, ours and ours.error)
            entry = Entry(place, (cell.arm.title,), cell.paper, "", ours, _MNIST_EPOCHS, (verdict,))
            yield _with_causes(entry, cell.arm.name)


def _of_sweep(place: str, experiment: Experiment, records: Mapping[str, Any]) -> Iterator[Entry]:
    all_results = [_best(records, cell) for cell in experiment.cells]
    finished = [results for results in all_results if results]
    for cell, results in zip(experiment.cells, all_results, strict=True):
        if cell.arm is OURS:  # The paper has no such training: the report shows it, and no cell waits for it.
            continue
        ours, said = _ours(results), ""
        if cell.paper.error is not None:
            verdict = judge(cell.paper.error, cell.paper.deviation, cell.paper.bound, ours and ours.error)
        else:
            said = "the lowest" if cell.arm.name == "min-exp" else "above ours"
            verdict = _judge_order(results, finished, experiment)
        names = (f"{experiment.value(cell)}", cell.arm.title)
        yield _with_causes(Entry(place, names, cell.paper, said, ours, _MNIST_EPOCHS, (verdict,)), cell.arm.name)


def _of_toy(by_rule: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Entry]:
    records, others = by_rule[TOY], by_rule[f"{TOY}.all-wrong"]
    for name, said in _PANELS.items():
        ours, found, verdict = None, "", Verdict(NOT_RUN)
        if records:
            agree = sum(toy_panels.agrees(record, name) for record in records)
            runs = tuple(record["run"] for record in records)
            epochs = min(record["epochs"] for record in records)
            found = f"with {agree} of {len(records)} seeds"
            if others and name.startswith("MIN"):
                repaired = sum(toy_panels.agrees(record, name) for record in others)
                found += f"; {repaired} of {len(others)} with all misclassified points counted"
                runs += tuple(record["run"] for record in others)
            ours = Ours(None, None, None, None, epochs, len(records), runs)
            verdict = Verdict(AS_IN_THE_PAPER if agree == len(records) else OPEN)
        yield _with_causes(Entry("Figure 1", (name,), Paper(), said, ours, _TOY_EPOCHS, (verdict,), found), name)


def _judge_order(one: Results | None, others: Sequence[Results], experiment: Experiment) -> Verdict:
    """The verdict on a point of which the paper only says what it is above or below."""
    if one is None:
        return Verdict(NOT_RUN)
    # Trainings of other lengths say nothing.
    alike = [other for other in others if other is one or _epochs(other) == _epochs(one)]
    orders = [order for order in comparison.orders(alike, experiment.better) if one in (order.one, order.other)]
    if not orders:
        return Verdict(OPEN, "nothing to compare it with")
    return Verdict(AS_IN_THE_PAPER if all(order.agrees for order in orders) else OPEN)


def _with_causes(entry: Entry, arm: str) -> Entry:
    """Cells that are not as in the paper differ, where something is known that sets the training apart."""
    causes = []
    if entry.ours and entry.epochs and entry.ours.epochs < entry.epochs:
        causes.append(f"{entry.ours.epochs} of {entry.epochs} epochs")
    causes += [_CAUSES[key] for key in ((entry.place, arm), ("", arm)) if key in _CAUSES]
    if not causes:
        return entry
    verdicts = (
        Verdict(DIFFERS, ", ".join(causes)) if verdict == Verdict(OPEN) else verdict for verdict in entry.verdicts
    )
    return entry._replace(verdicts=tuple(verdicts))


def _best(records: Mapping[str, Any], cell: Cell) -> Results | None:
    """The results of the longest training of a cell, and of several of that length those of the most seeds."""
    found = [cell_results(records, cell, schedule) for schedule in cell_schedules(records, cell)]
    return max(
        (results for results in found if results),
        key=lambda results: (_epochs(results), len(results.records)),
        default=None,
    )


def _epochs(results: Results) -> int:
    return min(record["epochs"] for record in results.records)


def _ours(results: Results | None) -> Ours | None:
    if results is None:
        return None
    runs = tuple(record["run"] for record in results.records)
    return _over_seeds(results.values("error_percent"), results.values("margin_mean"), _epochs(results), runs)


def _over_seeds(errors: np.ndarray, margins: np.ndarray, epochs: int, runs: tuple[str, ...]) -> Ours:
    return Ours(
        float(np.mean(errors)),
        standard_deviation(errors),
        float(np.mean(margins)),
        standard_deviation(margins),
        epochs,
        len(runs),
        runs,
    )


def _of_files(results: pathlib.Path, names: tuple[str, ...], epochs_before: int) -> Ours | None:
    if not names:
        return None
    records = [json.loads((results / name).read_text()) for name in names]
    errors, margins = (np.array([record[key] for record in records]) for key in ("error_percent", "margin_mean"))
    return _over_seeds(errors, margins, epochs_before + min(record["epochs"] for record in records), names)
