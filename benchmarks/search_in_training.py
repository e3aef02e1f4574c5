"""Which search trains best: DeepFool, DeepFool with a projection of its last point, or FMN.

    TFDS_DATA_DIR=path/of/prepared/data python -m benchmarks.search_in_training
    python -m benchmarks.search_in_training --cells=mnist-mlp800 --searches=deepfool,fmn --seeds=0

needs MNIST and CIFAR-10 prepared by tensorflow-datasets. Cells are those of `benchmarks/helps`. In each, a network is
trained with the default penalty, but for `top_fraction`, for as many epochs with each search, from the same initial
weights and in the same order. Error and margins are those of images held out of the training split. Margins are
measured by the tightest attack of the library, `FastMinimumNorm(100)` from DeepFool's points, and by DeepFool beside
it.

Each record is a file of its own, so that a run which was stopped goes on. At the end, all records are shown as a table.

Reference: Pintor et al. (2021) for FMN, Abdollahpoorrostam et al. (2023) for the projection.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from absl import app, flags

import keras_amm

from . import recorded_trainings
from .helps import data
from .helps.arms import compile_model
from .helps.cells import CELLS, Cell
from .helps.trainings import fit, new_network
from .recorded_trainings import mean

SEARCHES: Mapping[str, Any] = {
    "deepfool": keras_amm.DeepFool,
    # After one round, the search keeps the smaller of DeepFool's perturbation and its projection.
    "projected": lambda: keras_amm.SuperDeepFool(rounds=1),
    "fmn": lambda: keras_amm.FastMinimumNorm(10, start=None),
}
# What all records were made with.
_TOP_FRACTION = 0.25
_MEASURED_BY = {
    "tight": keras_amm.FastMinimumNorm(100),
    "deepfool": keras_amm.DeepFool(50, refine_steps=10),
}


def main(argv: list[str]) -> None:
    recorded_trainings.require_known("cells", flags.FLAGS.cells, CELLS)
    recorded_trainings.require_known("searches", flags.FLAGS.searches, SEARCHES)
    choices = {"cell": flags.FLAGS.cells, "search": flags.FLAGS.searches}
    print(table(recorded_trainings.make(argv, choices, _train, _shown)))


def _train(cell: str, search: str, seed: int) -> dict[str, Any]:
    return train_and_measure(CELLS[cell], data.load(CELLS[cell]), SEARCHES[search](), seed)


def _shown(found: Mapping[str, Any]) -> str:
    return f"error {found['error_percent']:.2f} %, margin {found['tight']['signed_mean']:.4f}"


def train_and_measure(cell: Cell, images: data.CellData, attack: keras_amm.Attack, seed: int) -> dict[str, Any]:
    """Train a new network with the default penalty, searched by an attack, and measure it on the held-out images."""
    network = new_network(cell, images, seed)
    model = keras_amm.wrap(network, attack=attack, top_fraction=_TOP_FRACTION)
    compile_model(model, cell, {})
    took = fit(model, images.train, cell)
    measured = images.measured
    predictions = network.predict(measured.x, batch_size=500, verbose=0).argmax(axis=1)
    reports = {
        name: keras_amm.evaluate_margins(network, tuple(measured[: cell.num_attacked]), by, batch_size=250, verbose=0)
        for name, by in _MEASURED_BY.items()
    }
    return {
        "attack": attack.get_config(),
        **took,
        "boundary_cosine": model.history.history["boundary_cosine"][-1],
        "error_percent": 100.0 * float(np.mean(predictions != measured.y)),
        **{
            name: {"signed_mean": report.signed_mean, "mean": report.mean, "success": report.success_rate}
            for name, report in reports.items()
        },
    }


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """The means of all seeds and their deviations, as Markdown."""
    lines = [
        "| cell | search | seeds | error | signed margin, tight | by DeepFool | cosine | processor seconds |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for cell, search in dict.fromkeys((record["cell"], record["search"]) for record in records):
        of_seeds = [record for record in records if (record["cell"], record["search"]) == (cell, search)]
        lines.append(f"| {' | '.join([cell, search, str(len(of_seeds)), *_columns(of_seeds)])} |")
    return "\n".join(lines)


def _columns(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield mean([record["error_percent"] for record in records], 2, "%")
    for measured_by in _MEASURED_BY:
        yield mean([record[measured_by]["signed_mean"] for record in records], 3)
    yield mean([record["boundary_cosine"] for record in records], 2)
    yield mean([record["processor_seconds"] for record in records], 0)


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_list("cells", ["mnist-mlp800", "mnist-lenet", "cifar10-cnn"], "Cells of the benchmark `helps`.")
    flags.DEFINE_list("searches", list(SEARCHES), "What searches while training.")
    recorded_trainings.define_flags("results/search_in_training")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
