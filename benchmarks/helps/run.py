"""Trains and measures what has no record yet: every cell, arm and seed, or those that are named.

    TFDS_DATA_DIR=path/of/prepared/data python -m benchmarks.helps.run
    python -m benchmarks.helps.run --cells=mnist-mlp,fashion-cnn --arms=plain,amm --seeds=0

needs MNIST, Fashion-MNIST and CIFAR-10 prepared by tensorflow-datasets, and scikit-learn. Each record is a file of its
own, written when it is complete: Ctrl-C stops the run, and the same command goes on. Margins are those of images that
were held out of the training split; `--test` measures test images, once everything is decided.
"""

import pathlib
import sys

import tensorflow as tf
from absl import app, flags, logging

from benchmarks import threads
from examples.paper.command_line import numbers
from examples.paper.data.sources import NotPreparedError

from . import trainings
from .arms import ARMS
from .cells import CELLS
from .records import FOLDER

_CELLS = flags.DEFINE_list("cells", list(CELLS), "Cells.")
_ARMS = flags.DEFINE_list("arms", list(ARMS), "What to train in each.")
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of initial weights and order.")
_TEST = flags.DEFINE_bool("test", False, "Measure test images, in place of training images that are held out.")
_WEIGHTS = flags.DEFINE_string(
    "weights", "runs/helps", "Folder of trained weights, which --test measures without training again; empty for none."
)
_RECORDS = flags.DEFINE_string("records", str(FOLDER), "Folder of the records.")
threads.define_flag()


def main(argv: list[str]) -> None:
    if argv[1:]:
        raise app.UsageError(f"Unknown arguments: {' '.join(argv[1:])}")
    # TensorFlow warns of many compiled functions; here each network has its own on purpose.
    tf.get_logger().setLevel("ERROR")
    # tensorflow-datasets tells of every data set that it reads.
    logging.set_verbosity(logging.WARNING)
    threads.set_as_told()
    try:
        keys = trainings.plan(_CELLS.value, _ARMS.value, numbers("seeds", _SEEDS.value, int), _TEST.value)
        weights = pathlib.Path(_WEIGHTS.value) if _WEIGHTS.value else None
        left = trainings.run(keys, pathlib.Path(_RECORDS.value), flags.FLAGS.threads, weights)
    except (NotPreparedError, ValueError) as error:
        sys.exit(str(error))
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    app.run(main)
