"""How every network is compiled, fitted and measured, whatever it is trained for."""

import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

import keras

import keras_amm

from ..data import data_sets
from ..data.data_sets import DataSet
from . import learning_rates
from .checkpoints import Checkpoint
from .coupled_sgd import CoupledDecaySGD


def compile_model(
    model: keras.Model,
    learning_rate: float,
    drop_at: Sequence[int],
    drop_to: Sequence[float],
    steps_per_epoch: int,
    l2: float = 1e-4,
    global_clipnorm: float | None = 10.0,
    loss: keras.losses.Loss | None = None,
) -> None:
    """Compile by the protocol of Section 4.2: cross-entropy, and SGD with momentum and coupled weight decay.

    Args:
        model: `keras.Model` with logits as output, wrapped or not.
        learning_rate: float, the initial one.
        drop_at: ints, the epochs from which the learning rate is lower.
        drop_to: floats, the factors of the initial learning rate from these epochs on.
        steps_per_epoch: int.
        l2: float, the weight decay.
        global_clipnorm: float, the largest norm of the gradient; None not to clip it.
        loss: another loss than the cross-entropy.
    """
    rate = learning_rates.dropping(learning_rate, drop_at, drop_to, steps_per_epoch)
    model.compile(
        CoupledDecaySGD(rate, momentum=0.9, l2=l2, global_clipnorm=global_clipnorm),
        loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def to_measure(network: keras.Model) -> keras.Model:
    """The network compiled for `measure`, whatever model and loss trained it; they share their weights."""
    model = keras.Model(network.input, network.output)
    # An optimizer without weights, since it is saved with the model.
    model.compile("sgd", loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def fit(
    model: keras.Model,
    data: DataSet,
    epochs: range,
    checkpoint: pathlib.Path,
    validation: Any = None,
    callbacks: Iterable[keras.callbacks.Callback] = (),
    verbose: int = 0,
) -> None:
    """Train the epochs that are left, each of which ends with a checkpoint.

    Args:
        model: compiled `keras.Model`, with the weights of the last checkpoint if there is one.
        data: `DataSet` whose `train` images it learns.
        epochs: range from the number of epochs done, see `checkpoints.restore`, to the number wanted.
        checkpoint: path of the file `.weights.h5` that `checkpoints.restore` reads.
        validation: `tf.data.Dataset` of (x, y), evaluated after each epoch; None for none.
        callbacks: further ones, which log what is logged.
        verbose: int, as `keras.Model.fit` takes it.
    """
    model.fit(
        data.train,
        validation_data=validation,
        initial_epoch=epochs.start,
        epochs=epochs.stop,
        # The checkpoint comes last: an epoch that counts as done has been logged.
        callbacks=[data.callback, *callbacks, Checkpoint(checkpoint)],
        verbose=verbose,
    )


def measure(model: keras.Model, batches: Any, num_margins: int = 0) -> dict[str, Any]:
    """The error on all images, and the untargeted margins of the first ones.

    Args:
        model: compiled `keras.Model`.
        batches: `tf.data.Dataset` of (x, y).
        num_margins: int, images whose margin is measured; 0 for all.

    Returns:
        A dictionary of numbers.
    """
    logs = model.evaluate(batches, verbose=0, return_dict=True)
    if num_margins:
        batches = batches.unbatch().take(num_margins).batch(data_sets.EVAL_BATCH_SIZE)
    report = keras_amm.evaluate_margins(model, batches, verbose=0)
    return {
        "error_percent": 100.0 * (1.0 - logs["accuracy"]),
        "cross_entropy": logs["loss"],
        "margin_images": len(report.norms),
        "margin_mean": report.mean,
        "margin_median": report.median,
        "attack_success": report.success_rate,
    }
