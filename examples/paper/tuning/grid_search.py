"""The grid search for lambda, c and d; a trial is a training, or one for each of several seeds, which resumes."""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner
import matplotlib.pyplot as plt
import numpy as np

from ..json_files import write_json
from ..training import run_folder, trainer
from ..training.run_records import versions
from .grid import Grid, Row, plot, rank, rows_beyond

_OBJECTIVE = "error_percent"


class MarginGridSearch(keras_tuner.GridSearch):
    """KerasTuner's grid search, whose trials are runs of the shared trainer.

    Args:
        settings: from `settings.resolve`, what the trials have in common.
        grid: `Grid`.
        seeds: ints, with each of which a setting is trained.
        out: path of the search's folder.
    """

    def __init__(self, settings: dict[str, Any], grid: Grid, seeds: Sequence[int], out: pathlib.Path) -> None:
        self.settings = {**settings, "validation": True}
        self.seeds = list(seeds)
        self.out = out
        self._references: dict[int, str] = {}
        space = keras_tuner.HyperParameters()
        for name, values in grid._asdict().items():
            space.Choice(name, list(values))
        super().__init__(
            objective=keras_tuner.Objective(_OBJECTIVE, "min"),
            hyperparameters=space,
            # One setting that fails, or all of them, does not stop the search.
            max_consecutive_failed_trials=1 + int(np.prod([len(values) for values in grid])),
            directory=out,
            project_name="search",
            # KerasTuner's memory of an earlier search is not needed: finished trainings are found in their folders, and
            # so a larger grid takes them over and tries again what failed.
            overwrite=True,
        )

    def run_trial(self, trial: Any, verbose: int = 0) -> dict[str, float]:
        """Train and measure one setting; called by `search`.

        Args:
            trial: `keras_tuner.engine.trial.Trial`.
            verbose: int, what was given to `search`.

        Returns:
            Error and margin, means over the seeds.
        """
        values = trial.hyperparameters.values
        folder = self.out / "trials" / ",".join(f"{name}={values[name]:g}" for name in Grid._fields)
        results = [
            _trained({**self._of_seed(seed), **{name: values[name] for name in Grid._fields}}, folder / f"seed={seed}")
            for seed in self.seeds
        ]
        means = {name: float(np.mean([result[name] for result in results])) for name in (_OBJECTIVE, "margin_mean")}
        if not np.all(np.isfinite(list(means.values()))):
            raise keras_tuner.errors.FailedTrialError(f"Error and margin must be finite. Got: {means}.")
        return means

    def rows(self) -> list[Row]:
        """The settings that were tried, and their results."""
        return [_row(trial) for trial in self.oracle.trials.values()]

    def _of_seed(self, seed: int) -> dict[str, Any]:
        settings = {**self.settings, "seed": seed}
        if not settings["two_step"]:
            return settings
        # A reference has no margin penalty, so one serves all settings of a seed.
        if seed not in self._references:
            out = self.out / "references" / f"seed={seed}"
            self._references[seed] = _or_exit(trainer.train_reference, settings, out)["init_from"]
        return {**settings, "init_from": self._references[seed]}


def _trained(settings: dict[str, Any], out: pathlib.Path) -> dict[str, Any]:
    """The result of a training, which is read if it is finished; otherwise it continues from its last checkpoint."""
    result = run_folder.finished(settings, out)
    # What the weights of another file are, only the training itself finds out.
    if result and result["config"]["init_from"] == settings["init_from"]:
        return result
    # Frees the memory of the trainings before it.
    keras.utils.clear_session()
    return _or_exit(trainer.train, settings, out)


def _or_exit(train: Callable[..., dict[str, Any]], settings: dict[str, Any], out: pathlib.Path) -> dict[str, Any]:
    try:
        return train(settings, out)
    except (run_folder.OtherRunError, run_folder.InUseError) as error:
        # KerasTuner would take an exception for the failure of one trial, and go on.
        raise SystemExit(f"{error} Choose another --out.") from error


def _row(trial: Any) -> Row:
    values = [trial.hyperparameters.values[name] for name in Grid._fields]
    if trial.status != "COMPLETED":
        lines = (trial.message or f"KerasTuner calls it {trial.status}.").strip().splitlines()
        return Row(*values, failure=lines[-1])
    return Row(*values, *(trial.metrics.get_best_value(name) for name in (_OBJECTIVE, "margin_mean")))


def search(settings: dict[str, Any], grid: Grid, seeds: Sequence[int], out: pathlib.Path) -> list[Row]:
    """Train with every setting of a grid, and write `grid.json` and `grid.png`.

    Args:
        settings: from `settings.resolve`, what the trials have in common.
        grid: `Grid`.
        seeds: ints, with each of which a setting is trained.
        out: path of the search's folder.

    Returns:
        `Row`s, the best first, what failed last: those of the grid, and those of earlier searches in the folder, if
        they had the same settings and seeds.

    Raises:
        ValueError: a value is given twice, or none for a setting.
    """
    for name, values in {**grid._asdict(), "seed": seeds}.items():
        if not values or len(set(values)) < len(values):
            raise ValueError(f"Expected one or more different values. Received: {name}={list(values)}.")
    tuner = MarginGridSearch(settings, grid, seeds, out)
    tuner.search(verbose=0)
    path = out / "grid.json"
    rows = sorted([*tuner.rows(), *rows_beyond(grid, path, tuner.settings, tuner.seeds)], key=rank)
    content = {
        "settings": tuner.settings,
        "seeds": tuner.seeds,
        "versions": versions(),
        "rows": [row._asdict() for row in rows],
    }
    write_json(path, content)
    figure = plot(rows)
    figure.savefig(out / "grid.png", dpi=150)
    plt.close(figure)
    return rows
