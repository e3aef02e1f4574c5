"""How often a cheaper search selects the samples that the exact search selects, and how alike the gradients are.

    TFDS_DATA_DIR=path/of/prepared/data python -m benchmarks.search_fidelity --json=results/search_fidelity.json
    python -m benchmarks.search_fidelity --network=mlp-800 --batches=20

needs MNIST and CIFAR-10 prepared by tensorflow-datasets. Each network is trained with AMM by the settings
that are compared, the default or the paper's MIN+EXP or AVG+EXP with the boundary gradient, and stops early, in the
middle and late. In each state its weights stay as they are, and the penalty of the same batches, in an order of their
own, is computed by every search: `"cheap"`, `"rough"`, `"ranks"`, and the exact search of what a screening of 0.3 lets
through, beside the exact search of all samples.

*Same* is the number of samples that both searches select over the number that either does. The cosine is that of the
penalty's gradients. *Penalty* is the sum of all penalties over that of the exact search's, with the same running median
for all; *median* is the mean of the batches' own medians over that of the exact search's, and shows how another running
median would come about. A network with BatchNormalization is normalised by the batch, as in training. At the end of
each state a row is shown, and saved.
"""

import pathlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from keras import layers

import keras_amm
from benchmarks import threads
from examples.paper import architectures
from examples.paper.data import arrays
from examples.paper.json_files import append_json
from examples.paper.training.run_records import versions
from keras_amm import aggregation
from keras_amm.gradient.penalty import find_penalty
from keras_amm.search.linearisation import clean_pass

_BATCH_SIZE = 100
SETTINGS: Mapping[str, Callable[..., keras_amm.MarginRegularizer]] = {
    "default": keras_amm.MarginRegularizer,
    "min-exp": lambda **changes: keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary", **changes),
    "avg-exp": lambda **changes: keras_amm.MarginRegularizer.from_paper("avg-exp", gradient="boundary", **changes),
}
SEARCHES: Mapping[str, Mapping[str, Any]] = {
    "exact": {"search": "exact"},
    "screening 0.3": {"search": "exact", "screening": 0.3},
    "ranks": {"search": "ranks"},
    "cheap": {"search": "cheap"},
    "rough": {"search": "rough"},
}


def _small_cnn(normalisation: Callable[[], layers.Layer]) -> keras.Model:
    """Three convolutions for CIFAR-10, each normalised."""
    x = inputs = keras.Input((32, 32, 3))
    for filters in (32, 64, 64):
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.MaxPooling2D()(layers.ReLU()(normalisation()(x)))
    return keras.Model(inputs, layers.Dense(10)(layers.Flatten()(x)))


# Data set, what makes the network, and the training images that it sees.
NETWORKS: Mapping[str, tuple[str, Callable[[], keras.Model], int]] = {
    "mlp-800": ("mnist", lambda: architectures.build("mlp-800"), 55_000),
    "lenet-mnist": ("mnist", lambda: architectures.build("lenet-mnist"), 55_000),
    "batch-norm-cnn": ("cifar10", lambda: _small_cnn(layers.BatchNormalization), 20_000),
    "group-norm-cnn": ("cifar10", lambda: _small_cnn(lambda: layers.GroupNormalization(8)), 20_000),
}


def main(argv: list[str]) -> None:
    del argv
    tf.get_logger().setLevel("ERROR")
    threads.set_as_told()
    # Asked for now: another commit may be checked out by the time a state is reached.
    made_with = versions()
    print(
        "| network | setting | updates | accuracy | search | same | equal batches | cosine | least | penalty | median |"
    )
    print("|" + 11 * " --- |")
    for name in flags.FLAGS.network:
        for setting in flags.FLAGS.setting:
            for row in compare_in_training(name, setting):
                print(f"| {' | '.join(map(str, row.values()))} |", flush=True)
                _save({**row, "versions": made_with})


def _save(row: Mapping[str, Any]) -> None:
    if flags.FLAGS.json:
        record = {**row, "batches": flags.FLAGS.batches, "seed": flags.FLAGS.seed}
        append_json(pathlib.Path(flags.FLAGS.json), record)


def compare_in_training(name: str, setting: str) -> Iterator[dict[str, Any]]:
    """A row for each search in each state of a training."""
    # Imported here: keras-cv, which it needs, starts TensorFlow, and threads are set before that.
    from examples.paper.data.data_sets import DATA_SETS

    data_set, build, num_train = NETWORKS[name]
    images = arrays.load(data_set, f"train[:{num_train}]", DATA_SETS[data_set].mean)
    keras.utils.set_random_seed(flags.FLAGS.seed)
    network = build()
    model = keras_amm.wrap(network, SETTINGS[setting]())
    model.compile(
        keras.optimizers.SGD(0.02, momentum=0.9, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    orders = np.random.default_rng(flags.FLAGS.seed)
    training = _batches(images, orders)
    updates = 0
    for at in map(int, flags.FLAGS.at):
        while updates < at:
            model.train_on_batch(*next(training))
            updates += 1
        batches = _batches(images, orders)
        compared = [next(batches) for _ in range(flags.FLAGS.batches)]
        accuracy = np.mean([np.mean(np.argmax(network(x, training=False), 1) == y) for x, y in compared[:20]])
        for search, figures in compare(model, setting, compared).items():
            row = {"network": name, "setting": setting, "updates": updates, "accuracy": f"{accuracy:.1%}"}
            yield {**row, "search": search, **figures}


def _batches(images: arrays.Images, orders: np.random.Generator) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    while True:
        order = orders.permutation(len(images))
        for first in range(0, len(images) - _BATCH_SIZE + 1, _BATCH_SIZE):
            chosen = order[first : first + _BATCH_SIZE]
            yield images.x[chosen], images.y[chosen]


def compare(model: keras_amm.AMMModel, setting: str, batches: list[Any]) -> dict[str, dict[str, str]]:
    """For each search but the exact one, how it compares over the batches."""
    # A screening leaves out samples that AVG counts.
    near_only = aggregation.find_entry(SETTINGS[setting]().aggregation).counts_near_only
    allowed = {name: search for name, search in SEARCHES.items() if near_only or "screening" not in search}
    searches = {name: _searcher(model, SETTINGS[setting](**search)) for name, search in allowed.items()}
    overlaps: dict[str, list[Any]] = {name: [] for name in searches}
    for x, y in batches:
        found = {name: [part.numpy() for part in search(x, y)] for name, search in searches.items()}
        selected, gradient, penalty, median = found["exact"]
        for name, (other, another, value, its_median) in found.items():
            cosine = gradient @ another / max(np.linalg.norm(gradient) * np.linalg.norm(another), 1e-30)
            counts = (selected & other).sum(), (selected | other).sum()
            overlaps[name].append(
                (*counts, np.array_equal(selected, other), cosine, penalty, value, median, its_median)
            )
    return {name: _figures(np.array(rows, float)) for name, rows in overlaps.items() if name != "exact"}


def _figures(rows: np.ndarray) -> dict[str, str]:
    both, either, equal, cosine, penalty, value, median, its_median = rows.T
    return {
        "same": f"{both.sum() / either.sum():.1%}",
        "equal_batches": f"{equal.mean():.1%}",
        "cosine": f"{cosine.mean():.4f}",
        "least_cosine": f"{cosine.min():.3f}",
        "penalty": f"{value.sum() / penalty.sum():.4f}",
        "median": f"{its_median.sum() / median.sum():.4f}",
    }


def _searcher(model: keras_amm.AMMModel, regularizer: keras_amm.MarginRegularizer) -> Callable[..., Any]:
    """A compiled function of a batch: the samples selected [B], the penalty's flat gradient, its value, the median."""
    # The unit of the margins is the training's.
    regularizer.running = model.regularizer.running
    weights = model.trainable_weights

    @tf.function
    def search(x: Any, y: Any) -> tuple[Any, Any, Any]:
        classifier = model.attack.classifier(model.base_model)
        images = classifier.inputs(x)
        classifier = classifier.in_batch_of(images)
        found = find_penalty(
            classifier, model.attack, regularizer, clean_pass(classifier, images), y, weights, step=0, loss_scale=1.0
        )
        gradients = [tf.reshape(part, [-1]) for part in found.gradients if part is not None]
        return found.selected, tf.concat(gradients, 0), found.value, found.statistics.median

    return search


def _define_flags() -> None:
    """Only where this is the program: other benchmarks have flags of the same names."""
    flags.DEFINE_multi_enum("network", list(NETWORKS), list(NETWORKS), "Networks.")
    flags.DEFINE_multi_enum("setting", list(SETTINGS), list(SETTINGS), "Settings of AMM.")
    flags.DEFINE_list("at", ["100", "550", "2750"], "Updates after which the searches are compared.")
    flags.DEFINE_integer("batches", 300, "Batches compared in each state.", lower_bound=1)
    flags.DEFINE_integer("seed", 100, "Seed of weights and orders.")
    flags.DEFINE_string("json", None, "A file of records, to which those of the run are added.")
    threads.define_flag()


if __name__ == "__main__":
    _define_flags()
    app.run(main)
