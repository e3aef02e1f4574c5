"""How large a learning rate of SGD training with AMM bears, beside plain training, with the gradient clipped or not.

    TFDS_DATA_DIR=path/of/prepared/data python -m benchmarks.learning_rates
    python -m benchmarks.learning_rates --schedules=0.01,0.1-falling --ways=plain,amm --seeds=0

needs MNIST prepared by tensorflow-datasets. A cell of `benchmarks/helps` is trained by SGD with momentum 0.9, for as
many epochs as the cell has, from the same initial weights and in the same order each time. A rate is constant, or falls
as half a cosine to 0. Error and margin are those of images held out of the training split.

Each record is a file of its own, so that a run which was stopped goes on. At the end, all records are shown as a table.
"""

import json
import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import keras
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
from .helps.cells import CELLS, Cell
from .helps.measuring import measure
from .helps.trainings import fit, new_network

_FALLING = "-falling"
# Whether there is AMM, and the largest norm of the gradient.
WAYS: Mapping[str, tuple[bool, float | None]] = {
    "plain": (False, None),
    "plain-clipped": (False, 10.0),
    "amm": (True, None),
    "amm-clipped": (True, 10.0),
}


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
    if unknown := [way for way in flags.FLAGS.ways if way not in WAYS]:
        sys.exit(f"Expected of {', '.join(WAYS)}. Received: --ways={','.join(unknown)}.")
    # TensorFlow warns of many compiled functions; here each network has its own on purpose.
    tf.get_logger().setLevel("ERROR")
    threads.set_as_told()
    folder = pathlib.Path(flags.FLAGS.records)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        for seed in numbers("seeds", flags.FLAGS.seeds, int):
            for schedule in flags.FLAGS.schedules:
                for way in flags.FLAGS.ways:
                    _record(folder, flags.FLAGS.cell, schedule, way, seed)
    except (NotPreparedError, ValueError) as error:
        sys.exit(str(error))
    print(table([json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]))


def _record(folder: pathlib.Path, cell: str, schedule: str, way: str, seed: int) -> None:
    path = folder / f"{cell}.{schedule}.{way}.seed-{seed}.json"
    if path.exists():
        return
    made_with = versions()
    found = train_and_measure(CELLS[cell], data.load(CELLS[cell]), schedule, way, seed)
    names = {"cell": cell, "schedule": schedule, "way": way, "seed": seed}
    write_json(path, {**names, "versions": made_with, "threads": flags.FLAGS.threads, **found})
    print(f"{path.stem}: error {found['error_percent']:.2f} %, margin {found['margin']:.4f}", flush=True)


def train_and_measure(cell: Cell, images: data.CellData, schedule: str, way: str, seed: int) -> dict[str, Any]:
    """Train a new network in one of the `WAYS`, and measure it on the held-out images."""
    with_amm, clipnorm = WAYS[way]
    network = new_network(cell, images, seed)
    model = keras_amm.wrap(network) if with_amm else network
    num_steps = cell.epochs * -(-len(images.train) // cell.batch_size)
    optimizer = keras.optimizers.SGD(rate_of(schedule, num_steps), momentum=0.9, global_clipnorm=clipnorm)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return {
        **fit(model, images.train, cell),
        **measure(network, images.train, images.measured, radius=None, num_attacked=cell.num_attacked),
    }


def rate_of(schedule: str, num_steps: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate that `"0.1"` or `"0.1-falling"` names.

    Raises:
        ValueError: it names none.
    """
    rate = float(schedule.removesuffix(_FALLING))
    return keras.optimizers.schedules.CosineDecay(rate, num_steps) if schedule.endswith(_FALLING) else rate


def table(records: Sequence[Mapping[str, Any]]) -> str:
    """The means of all seeds and their deviations, as Markdown: a line for each schedule, a column for each way."""
    ways = [way for way in WAYS if any(record["way"] == way for record in records)]
    lines = [f"| learning rate | {' | '.join(ways)} |", f"| --- |{' --- |' * len(ways)}"]
    for schedule in sorted({record["schedule"] for record in records}):
        of_schedule = [record for record in records if record["schedule"] == schedule]
        entries = (_entry([record for record in of_schedule if record["way"] == way]) for way in ways)
        lines.append(f"| {schedule.replace(_FALLING, ', falling')} | {' | '.join(entries)} |")
    return "\n".join(lines)


def _entry(records: Sequence[Mapping[str, Any]]) -> str:
    if not records:
        return "not run"
    errors, margin = [record["error_percent"] for record in records], np.mean([record["margin"] for record in records])
    deviation = f" ± {np.std(errors, ddof=1):.2f}" if len(errors) > 1 else ""
    return f"{np.mean(errors):.2f}%{deviation}, {margin:.2f}"


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_string("cell", "mnist-cnn-bn", "Cell of the benchmark `helps`.")
    flags.DEFINE_list("schedules", ["0.01", "0.03", "0.1", "0.1-falling"], "Learning rates, constant or falling.")
    flags.DEFINE_list("ways", list(WAYS), "Ways of training.")
    flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of initial weights and order.")
    flags.DEFINE_string("records", "results/learning_rates", "Folder of the records.")
    threads.define_flag()


if __name__ == "__main__":
    _define_flags()
    app.run(main)
