"""The training that all scripts share: a reference or AMM, from new weights or fine-tuned, resumable.

The protocol is that of Section 4.2: cross-entropy, SGD with momentum 0.9 and L2 1e-4, gradients clipped to norm 10,
MIN+EXP with (lambda, c, d) = (32, 2, 1); batch size, epochs and learning rates from Table 2 of the appendix.

Where that table says that a network is fine-tuned, AMM takes two steps: a reference is trained without AMM in
`reference` within the run's folder, and then fine-tuned with AMM, its batch normalisation frozen. `--init_from` names
a reference that is there already. On ImageNet fine-tuning starts from published weights, unless it names others.

`--method` takes one of the methods that the paper compares with (`methods/`) in place of AMM, by the same protocol.

With `--strategy=mirrored` all GPUs of the machine train together, each on its part of a batch. `--batch_size` is that
of the whole batch, so the settings mean the same on any number of GPUs, and a run may be continued on another number.
Margins are measured on one of them.
"""

import contextlib
import functools
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

import keras_amm

from ..data import data_sets
from ..data.data_sets import DataSet
from ..json_files import write_json
from . import run_folder
from .checkpoints import restore
from .fitting import compile_model, fit, measure, to_measure
from .run_folder import OtherRunError
from .run_records import EpochSeconds, digest, read_history, summarize_history, versions
from .starting_network import initial_network, loss_of, method_of, wrap_for_margin


class SettingsError(ValueError):
    """There is no such training: settings that do not fit the data, the network or each other."""


def train_in_steps(settings: dict[str, Any], out: pathlib.Path, resume: bool = True) -> dict[str, Any]:
    """Train, with a reference before if there is to be one, and report both.

    Args:
        settings: from `settings.resolve`.
        out: path of the run's folder.
        resume: bool, whether to continue what is in the folder; otherwise it is started over.

    Returns:
        The result, as it is written to `result.json`.
    """
    if settings["two_step"]:
        if resume:
            # With other settings the reference would be another one, not that from which the second step has begun.
            second = {**settings, "init_from": str(out / "reference" / "model.keras")}
            run_folder.refuse_other_settings(out, second, free=[name for name in run_folder.FREE if name != "epochs"])
        settings = train_reference(settings, out / "reference", resume)
    return train(settings, out, resume)


def train_reference(settings: dict[str, Any], out: pathlib.Path, resume: bool = True) -> dict[str, Any]:
    """The first of two steps: the same training without AMM.

    Args:
        settings: from `settings.resolve`.
        out: path of the reference's folder.
        resume: bool, see `train_in_steps`.

    Returns:
        The settings of the second step, which begins with the reference.
    """
    train({**settings, "amm": False, "two_step": False, "freeze_batch_normalization": False}, out, resume)
    return {**settings, "init_from": str(out / "model.keras")}


def train(settings: dict[str, Any], out: pathlib.Path, resume: bool = True) -> dict[str, Any]:
    """One training, from its folder's last checkpoint on, measured at the end. What is finished is left as it is.

    Args:
        settings: from `settings.resolve`.
        out: path of the run's folder.
        resume: bool, see `train_in_steps`.

    Returns:
        The result, as it is written to `result.json`.

    Raises:
        OtherRunError: the folder holds a run with other settings, or a longer one.
        SettingsError: the settings do not fit the data or the network.
        InUseError: another process trains in the folder.
    """
    if not settings["init_from"]:
        settings = {**settings, "initial_weights": None}
    if resume:
        run_folder.refuse_other_settings(out, settings)
    strategy = _strategy(settings["strategy"])
    with _as_settings_errors():
        data = _load(settings, strategy.num_replicas_in_sync)
        with strategy.scope():
            keras.utils.set_random_seed(settings["seed"])
            network = initial_network(settings, data.description.num_classes)
            settings = {**settings, "initial_weights": digest(network) if settings["init_from"] else None}
            method = method_of(settings)
            network, data = method.rebuild(network, data.num_train), method.disturb(data, settings["seed"])
            model = wrap_for_margin(network, settings) if settings["amm"] else method.wrap(network)
            schedule = (settings[name] for name in ("learning_rate", "drop_at", "drop_to"))
            compile_model(model, *schedule, steps_per_epoch=len(data.train), loss=loss_of(settings, method))
    if resume and (out / "model.keras").exists() and (result := run_folder.finished(settings, out)):
        _print(result)
        return result
    with run_folder.alone(out):
        result = _train(model, network, data, settings, out, resume, strategy)
    _print(result)
    return result


def _train(
    model: keras.Model,
    network: keras.Model,
    data: DataSet,
    settings: dict[str, Any],
    out: pathlib.Path,
    resume: bool,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any]:
    """What is left of a training, and its measurement."""
    measured, name = (data.validation, "validation") if settings["validation"] else (data.test, "test")
    run_folder.prepare(out, settings, resume)
    # A method's own model, and any loss but the cross-entropy, are for training only.
    only_to_train = settings["method"] or settings["loss"] != "cross-entropy"
    kept = to_measure(network) if only_to_train else model
    reference = None
    if settings["init_from"]:
        reference = run_folder.once(out / "initial.json", lambda: measure(kept, measured, settings["eval_margins"]))
    checkpoint = out / "checkpoint" / "latest.weights.h5"
    with strategy.scope():
        done = restore(model, checkpoint, len(data.train))
    if done > settings["epochs"]:
        raise OtherRunError(f"{out} holds a run of {done} epochs already. Received: epochs={settings['epochs']}.")
    write_json(out / "config.json", settings)
    # Asked for now: another commit may be checked out by the time the training ends.
    made_with = versions()
    start = time.perf_counter()
    epochs = range(done, settings["epochs"])
    callbacks = [*_loggers(out, measured, settings), *method_of(settings).callbacks(network)]
    fit(model, data, epochs, checkpoint, measured, callbacks, verbose=2)
    seconds = time.perf_counter() - start
    kept.save(out / "model.keras")
    result = {
        "config": settings,
        "seed": settings["seed"],
        "versions": made_with,
        "replicas": strategy.num_replicas_in_sync,
        "measured_on": name,
        "training_images": data.num_train if settings["epochs"] else run_folder.training_images(settings["init_from"]),
        **({"before_fine_tuning": reference} if reference else {}),
        **measure(kept, measured, settings["eval_margins"]),
        **summarize_history(read_history(out / "history.csv"), seconds),
    }
    write_json(out / "result.json", result)
    return result


@contextlib.contextmanager
def _as_settings_errors() -> Iterator[None]:
    """Raise `ValueError`s as `SettingsError`s: what is refused before the training is a matter of its settings."""
    try:
        yield
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _load(settings: dict[str, Any], replicas: int) -> DataSet:
    data = data_sets.load(
        settings["data_set"],
        batch_size=settings["batch_size"],
        eval_batch_size=-(-data_sets.EVAL_BATCH_SIZE // replicas) * replicas,
        seed=settings["seed"],
        num_validation=data_sets.NUM_VALIDATION if settings["validation"] else 0,
        num_train=settings["num_train"] or None,
        num_random_labels=settings["num_random_labels"],
        augment=settings["augment"],
        shuffle=settings["shuffle"],
        data_dir=settings["data_dir"],
    )
    # Keras builds a model from the mean of the replicas' first batches, and takes no step where one has no images.
    last = data.num_train % settings["batch_size"]
    if settings["batch_size"] % replicas or 0 < last < replicas:
        raise ValueError(
            f"Expected a --batch_size that is a multiple of the {replicas} devices, with an image at least for each of "
            f"them in the last. Received: batch_size={settings['batch_size']} for {data.num_train} training images."
        )
    return data


def _strategy(name: str) -> tf.distribute.Strategy:
    return _mirrored_strategy() if name == "mirrored" else tf.distribute.get_strategy()


@functools.cache
def _mirrored_strategy() -> tf.distribute.Strategy:
    # One for both steps and all runs of a process: several would mix up their collective operations.
    return tf.distribute.MirroredStrategy()


def _loggers(out: pathlib.Path, measured: Any, settings: dict[str, Any]) -> list[keras.callbacks.Callback]:
    """The callbacks that log each epoch."""
    loggers = [
        EpochSeconds(),
        keras.callbacks.CSVLogger(out / "history.csv", append=True),
        keras.callbacks.TensorBoard(out / "tensorboard", write_graph=False),
    ]
    if settings["log_margins"]:
        # It comes first, so that the others log the margin that it measures.
        margins = keras_amm.callbacks.MarginLogger(measured, out / "tensorboard", num_samples=settings["log_margins"])
        loggers.insert(0, margins)
    return loggers


def _print(result: dict[str, Any]) -> None:
    config = {"method": None, **result["config"]}
    print(
        f"{config['model']} {config['method'] or ('with AMM' if config['amm'] else 'without AMM')}, "
        f"seed {config['seed']}, "
        f"{result['epochs']} epochs: {result['measured_on']} error {result['error_percent']:.2f}%, "
        f"margin mean {result['margin_mean']:.3f}, median {result['margin_median']:.3f} "
        f"on {result['margin_images']} images, attack success {result['attack_success']:.4f}, "
        f"{result['seconds_per_epoch']:.1f} s per epoch"
    )
    if before := result.get("before_fine_tuning"):
        print(
            f"It was fine-tuned from {config['init_from']}: error {before['error_percent']:.2f}%, "
            f"margin mean {before['margin_mean']:.3f}"
        )
