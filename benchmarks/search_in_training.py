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

import json
import pathlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from absl import app, flags

import keras_amm
from benchmarks import threads
from examples.paper.command_line import numbers
from examples.paper.data.sources import NotPreparedError
from examples.paper.json_files import write_json
from examples.paper.training.run_records import versions

from .helps import data
from .helps.arms import compile_model
from .helps.cells import CELLS, Cell
from .helps.trainings import fit, new_network

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
    if argv[1:]:
        raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
    for what, names, known in (("cells", flags.FLAGS.cells, CELLS), ("searches", flags.FLAGS.searches, SEARCHES)):
        if unknown := [name for name in names if name not in known]:
            sys.exit(f"Expected of {', '.join(known)}. Received: --{what}={','.join(unknown)}.")
    # TensorFlow warns of many compiled functions; here each network has its own on purpose.
    tf.get_logger().setLevel("ERROR")
    threads.set_as_told()
    folder = pathlib.Path(flags.FLAGS.records)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for seed in numbers("seeds", flags.FLAGS.seeds, int):
            for cell in flags.FLAGS.cells:
                for search in flags.FLAGS.searches:
                    _record(folder, cell, search, seed)
    except (NotPreparedError, ValueError) as error:
        sys.exit(str(error))
    print(table([json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]))


def _record(folder: pathlib.Path, cell: str, search: str, seed: int) -> None:
    path = folder / f"{cell}.{search}.seed-{seed}.json"
    if path.exists():
        return
    made_with = versions()
    found = train_and_measure(CELLS[cell], data.load(CELLS[cell]), SEARCHES[search](), seed)
    write_json(
        path,
        {"cell": cell, "search": search, "seed": seed, "versions": made_with, "threads": flags.FLAGS.threads, **found},
    )
    print(f"{path.stem}: error {found['error_percent']:.2f} %, margin {found['tight']['signed_mean']:.4f}", flush=True)


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
    yield _mean([record["error_percent"] for record in records], 2, "%")
    for measured_by in _MEASURED_BY:
        yield _mean([record[measured_by]["signed_mean"] for record in records], 3)
    yield _mean([record["boundary_cosine"] for record in records], 2)
    yield _mean([record["processor_seconds"] for record in records], 0)


def _mean(values: Sequence[float], digits: int, unit: str = "") -> str:
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{unit}{deviation}"


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_list("cells", ["mnist-mlp800", "mnist-lenet", "cifar10-cnn"], "Cells of the benchmark `helps`.")
    flags.DEFINE_list("searches", list(SEARCHES), "What searches while training.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of initial weights and order.")
    flags.DEFINE_string("records", "results/search_in_training", "Folder of the records.")
    threads.define_flag()


if __name__ == "__main__":
    _define_flags()
    app.run(main)
