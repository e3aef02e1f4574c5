"""The records of finished runs, and the results of a cell of a table or figure over its seeds."""

import json
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .experiments import EXPERIMENTS, Cell
from .planning import TOY_RULES, Run, Schedule, run_name, toy, training

# What the report needs of a record of a training, and of one of Figure 1.
_TRAINING_ENTRIES = ("error_percent", "margin_mean", "history")
_TOY_ENTRIES = ("start", "widest", "orthogonal_to_centres", "panels")


@dataclass(frozen=True)
class Results:
    """The records of a cell's finished runs, one per seed, at least one.

    Attributes:
        cell: `Cell`.
        records: their contents.
    """

    cell: Cell
    records: Sequence[Mapping[str, Any]]

    def values(self, name: str) -> np.ndarray:
        """One number of each record, such as `error_percent` or `margin_mean`."""
        return np.array([record[name] for record in self.records])

    @property
    def error(self) -> float:
        """The error in percent of the test images, mean over seeds."""
        return float(np.mean(self.values("error_percent")))

    @property
    def hours(self) -> float:
        """The hours of training, all seeds together."""
        return float(np.sum(self.values("training_seconds"))) / 3600.0

    def curves(self) -> list[dict[str, list[float]]]:
        """Test error over the epochs, one history per seed."""
        return [
            {"error": [100.0 * (1.0 - row["val_accuracy"]) for row in record["history"]]} for record in self.records
        ]


class RecordError(ValueError):
    """A file is not the record of a finished run."""


def read_records(folder: pathlib.Path, runs: Iterable[Run] = ()) -> dict[str, dict[str, Any]]:
    """All records of a folder, by the run's name.

    Args:
        folder: path of the folder; a folder that does not exist has none.
        runs: the records of these, if there are any, must be of their commands.

    Returns:
        The records' contents.

    Raises:
        RecordError: a JSON file in it is not a record, or of another command.
    """
    found = {record["run"]: record for record in map(_read, sorted(folder.glob("*.json")))}
    for run in runs:
        if run.name in found:
            _require_command(found[run.name], run)
    return found


def _read(path: pathlib.Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text())
    except ValueError as error:
        raise RecordError(f"{path} is not JSON ({error}). Remove it, and its run is made again.") from error
    missing = {"run", "command", "seed", "training_seconds"} - set(record if isinstance(record, dict) else ())
    if missing or record["run"] != path.stem:
        raise RecordError(
            f"Expected the record of a finished run {path.stem!r} in {path}. Received: JSON "
            + (f"without {sorted(missing)}" if missing else f"of run {record['run']!r}")
            + ". Move it elsewhere, or choose another --records."
        )
    return record


def _require_command(record: Mapping[str, Any], run: Run) -> None:
    """Refuse a record that has the name of a run, but was made by another command."""
    if record["command"] != run.command_line:
        raise RecordError(
            f"Expected the record {run.name} to be of\n  {run.command_line}\nReceived:\n  {record['command']}\n"
            "Remove it, and the folder of that name in --work, and its run is made again."
        )


def _require_entries(record: Mapping[str, Any], names: Iterable[str]) -> None:
    if missing := [name for name in names if name not in record]:
        raise RecordError(
            f"Expected the record {record['run']} to have {', '.join(names)}. Received: none of {', '.join(missing)}. "
            "Remove it, and the folder of that name in --work, and its run is made again."
        )


def cell_results(records: Mapping[str, Mapping[str, Any]], cell: Cell, schedule: Schedule) -> Results | None:
    """The results of a cell, or None if it has not been run.

    Args:
        records: from `read_records`.
        cell: `Cell`.
        schedule: `Schedule` that is reported.

    Returns:
        `Results` or None.
    """
    prefix = run_name(cell, schedule, 0).removesuffix("0")
    found = [record for name, record in records.items() if name.startswith(prefix)]
    return Results(cell, sorted(found, key=lambda record: record["seed"])) if found else None


def toy_records(records: Mapping[str, Mapping[str, Any]], rule: str) -> list[Mapping[str, Any]]:
    """The records of Figure 1 by one of `TOY_RULES`, one per seed."""
    return [record for name, record in records.items() if name == toy(record["seed"], rule).name]


def reported_records(records: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The records that some table or figure shows.

    Args:
        records: from `read_records`.

    Returns:
        Those of them, by the run's name.

    Raises:
        RecordError: one of them is of another command, or lacks an entry.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for name, record in records.items():
        for rule in TOY_RULES:
            run = toy(record["seed"], rule)
            if name == run.name:
                _require_command(record, run)
                _require_entries(record, _TOY_ENTRIES)
                found[name] = record
    for experiment in EXPERIMENTS.values():
        for cell in experiment.cells:
            for schedule in cell_schedules(records, cell):
                results = cell_results(records, cell, schedule)
                for record in results.records if results else ():
                    _require_command(record, training(cell, schedule, record["seed"]))
                    _require_entries(record, _TRAINING_ENTRIES)
                    found[record["run"]] = record
    return found


def cell_schedules(records: Mapping[str, Any], cell: Cell) -> list[Schedule]:
    """The schedules by which a cell was trained, shortest first.

    Args:
        records: from `read_records`.
        cell: `Cell`.

    Returns:
        `Schedule`s without screening where the cell's training has none.
    """
    name = re.compile(re.escape(".".join(cell.key)) + r"(?:\.screening-([\d.]+))?\.epochs-(\d+)\.seed-\d+")
    matches = [match for run in records if (match := name.fullmatch(run))]
    found = {Schedule(int(match[2]), float(match[1]) if match[1] else None) for match in matches}
    return sorted(found, key=lambda schedule: (schedule.epochs, schedule.screening or 0.0))


def standard_deviation(values: np.ndarray) -> float | None:
    """The standard deviation over seeds; None for fewer than two."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
