"""How large a learning rate of SGD training with AMM bears, beside plain training, with the gradient clipped or not.

    TFDS_DATA_DIR=path/of/prepared/data python -m benchmarks.learning_rates
    python -m benchmarks.learning_rates --schedules=0.01,0.1-falling --ways=plain,amm --seeds=0
    python -m benchmarks.learning_rates --cell=mnist-lenet --schedules=0.01-falling,0.03-falling,0.1-falling \
        --ways=plain-clipped,amm-clipped,paper-clipped

needs MNIST prepared by tensorflow-datasets. A cell of `benchmarks/helps` is trained by SGD with momentum 0.9, for as
many epochs as the cell has, from the same initial weights and in the same order each time. A rate is constant, or falls
as half a cosine to 0. Error and margin are those of images held out of the training split, or with `--test` of the test
split, for rates that were chosen on the former.

Each record is a file of its own, so that a run which was stopped goes on. At the end, all records are shown as a table.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from absl import app, flags

import keras_amm

from . import recorded_trainings
from .helps import data, optimizers
from .helps.cells import CELLS, Cell
from .helps.measuring import in_brief, measure
from .helps.trainings import fit, new_network
from .recorded_trainings import mean

HELD_OUT, TEST = "held-out", "test"
_FALLING = "-falling"


def _wrap_as_the_paper(network: keras.Model) -> keras_amm.AMMModel:
    return keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper("min-exp"))


# Without the limit of the penalty's gradient, and with that which networks with BatchNormalization have by default.
_wrap_unlimited = functools.partial(keras_amm.wrap, relative_clipnorm=None)
_wrap_limited = functools.partial(keras_amm.wrap, relative_clipnorm=1.0)
# What trains, and the largest norm of the gradient.
WAYS: Mapping[str, tuple[Callable[[keras.Model], keras.Model], float | None]] = {
    "plain": (lambda network: network, None),
    "plain-clipped": (lambda network: network, 10.0),
    "amm": (keras_amm.wrap, None),
    "amm-clipped": (keras_amm.wrap, 10.0),
    "amm-unlimited": (_wrap_unlimited, None),
    "amm-unlimited-clipped": (_wrap_unlimited, 10.0),
    "amm-limited-clipped": (_wrap_limited, 10.0),
    "paper-clipped": (_wrap_as_the_paper, 10.0),
}


def main(argv: list[str]) -> None:
    cell = flags.FLAGS.cell
    recorded_trainings.require_known("cell", [cell], CELLS)
    recorded_trainings.require_known("ways", flags.FLAGS.ways, WAYS)
    measured_on = TEST if flags.FLAGS.test else HELD_OUT
    choices = {"cell": [cell], "schedule": flags.FLAGS.schedules, "way": flags.FLAGS.ways, "measured_on": [measured_on]}
    records = recorded_trainings.make(argv, choices, _train, in_brief)
    print(table([record for record in records if (record["cell"], record["measured_on"]) == (cell, measured_on)]))


def _train(cell: str, schedule: str, way: str, measured_on: str, seed: int) -> dict[str, Any]:
    return train_and_measure(CELLS[cell], data.load(CELLS[cell], measured_on == TEST), schedule, way, seed)


def train_and_measure(cell: Cell, images: data.CellData, schedule: str, way: str, seed: int) -> dict[str, Any]:
    """Train a new network in one of the `WAYS`, and measure it on the images to measure."""
    made_of, clipnorm = WAYS[way]
    network = new_network(cell, images, seed)
    model = made_of(network)
    num_steps = cell.epochs * -(-len(images.train) // cell.batch_size)
    optimizer = optimizers.build("sgd", learning_rate=rate_of(schedule, num_steps), global_clipnorm=clipnorm)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, cross_entropy)
    trained = fit(model, images.train, cell)
    logits = network.predict(images.measured.x, verbose=0)
    return {
        **trained,
        "cross_entropy": float(cross_entropy(images.measured.y, logits)),
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
    error, margin = ([record[name] for record in records] for name in ("error_percent", "margin"))
    return f"{mean(error, 2, '%')}, {np.mean(margin):.2f}"


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_string("cell", "mnist-cnn-bn", "Cell of the benchmark `helps`.")
    flags.DEFINE_list("schedules", ["0.01", "0.03", "0.1", "0.1-falling"], "Learning rates, constant or falling.")
    flags.DEFINE_list("ways", list(WAYS), "Ways of training.")
    flags.DEFINE_bool("test", False, "Measure the test images, not those held out of the training split.")
    recorded_trainings.define_flags("results/learning_rates")


if __name__ == "__main__":
    _define_flags()
    app.run(main)
