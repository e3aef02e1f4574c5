"""Choose lambda, c and d on held-out training images: a grid of trainings, searched by KerasTuner.

    python examples/tune.py --data_set=mnist --model=mlp-800 --strengths=8,32 --cs=1,2 --ds=1 --epochs=20

trains with every setting on all but 5,000 training images, and measures error and margin on these. The
test images are not looked at. The best setting has the lowest held-out error; of equal ones, the larger margin.
With `--seeds=0,1,2` each setting is trained with each seed, and its means count. Networks that
Table 2 fine-tunes start from one reference per seed, or from `--init_from`.

A search that was stopped continues where it was, in mid-training too. Another grid in the same `--out` takes
over the trainings that are there and adds to what was found: the best is that of all searches with the same settings
and seeds. A training that fails, or whose loss becomes NaN, is listed as failed, and tried again when the search is
started again. What was found is printed and left in `grid.json` and `grid.png`; the trainings are in `trials`.
"""

import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Any

import keras
import keras_tuner
import matplotlib.pyplot as plt
import numpy as np
from absl import app, flags

from paper.data.sources import NotPreparedError, prepared_builder
from paper.flag_lists import numbers
from paper.json_files import write_json
from paper.training import run_folder, trainer
from paper.training import settings as training_settings
from paper.training.schedules import SCHEDULES
from paper.tuning.grid import Grid, Row, plot, rank, rows_beyond, table

_NETWORKS = list(dict.fromkeys(name for networks in SCHEDULES.values() for name in networks))
# What the grid sets, and what a search is: margin training, measured on what was held out.
_SET_HERE = ("strength", "c", "d", "seed", "amm", "validation", "resume")
_OBJECTIVE = "error_percent"


class MarginGridSearch(keras_tuner.GridSearch):
    """KerasTuner's grid search, whose trials are runs of the shared trainer.

    Args:
        settings: from `training_settings.resolve`, what the trials have in common.
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
            # A failure says nothing of the other settings.
            max_consecutive_failed_trials=1 + int(np.prod([len(values) for values in grid])),
            directory=out,
            project_name="search",
            # What is done is known by the trainings' own results: a larger grid has them, what failed is tried again.
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
        """What was tried."""
        return [_row(trial) for trial in self.oracle.trials.values()]

    def _of_seed(self, seed: int) -> dict[str, Any]:
        settings = {**self.settings, "seed": seed}
        if not settings["two_step"]:
            return settings
        # It has no margin penalty, so it is the same for all settings.
        if seed not in self._references:
            out = self.out / "references" / f"seed={seed}"
            self._references[seed] = _or_exit(trainer.train_reference, settings, out)["init_from"]
        return {**settings, "init_from": self._references[seed]}


def _trained(settings: dict[str, Any], out: pathlib.Path) -> dict[str, Any]:
    """The result of a training, which is there already or continues from its last checkpoint."""
    if result := run_folder.finished(settings, out):
        return result
    # Of the trainings before it nothing is needed any more.
    keras.utils.clear_session()
    return _or_exit(trainer.train, settings, out)


def _or_exit(train: Callable[..., dict[str, Any]], settings: dict[str, Any], out: pathlib.Path) -> dict[str, Any]:
    try:
        return train(settings, out)
    except run_folder.OtherRunError as error:
        # Not a trial's failure, which KerasTuner would note before it went on.
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
        settings: from `training_settings.resolve`, what the trials have in common.
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
    content = {"settings": tuner.settings, "seeds": tuner.seeds, "rows": [row._asdict() for row in rows]}
    write_json(path, content)
    figure = plot(rows)
    figure.savefig(out / "grid.png", dpi=150)
    plt.close(figure)
    return rows


def _main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    data_set, out = flags.FLAGS.data_set, pathlib.Path(flags.FLAGS.out)
    networks = list(SCHEDULES[data_set])
    if not flags.FLAGS["model"].present:
        flags.FLAGS.model = networks[0]
    if flags.FLAGS.model not in networks:
        raise app.UsageError(f"--data_set={data_set} goes with --model={'|'.join(networks)}.")
    try:
        prepared_builder(data_set, flags.FLAGS.data_dir)
    except NotPreparedError as error:
        raise SystemExit(str(error)) from error
    # The grid's come in their place.
    given = {**training_settings.given_flags(), "amm": True, "validation": True}
    try:
        settings = training_settings.resolve(data_set, given)
        grid = Grid(*(numbers(name, flags.FLAGS[name].value, float) for name in ("strengths", "cs", "ds")))
        seeds = numbers("seeds", flags.FLAGS.seeds, int)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    rows = search(settings, grid, seeds, out)
    print(
        f"\n{settings['model']} on {data_set}, {settings['epochs']} epochs:\n{table(rows)}\n\nPlotted in {out}/grid.png"
    )
    if rows[0].failure:
        sys.exit("Every training failed.")


if __name__ == "__main__":
    flags.DEFINE_enum("data_set", "mnist", list(SCHEDULES), "the data set")
    flags.DEFINE_list("strengths", ["8", "32"], "values of lambda")
    flags.DEFINE_list("cs", ["1", "2"], "values of c")
    flags.DEFINE_list("ds", ["1"], "values of d")
    flags.DEFINE_list("seeds", ["0"], "each setting is trained with each of these")
    training_settings.define_flags(_NETWORKS, "runs/tune", without=_SET_HERE)
    app.run(_main)
