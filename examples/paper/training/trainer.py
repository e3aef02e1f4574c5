"""The training run that all scripts share: reference or AMM, from new weights or fine-tuned, resumable.

`run(data_set)` makes a script of it. The protocol is that of Section 4.2: cross-entropy,
SGD with momentum 0.9 and L2 1e-4, gradients clipped to norm 10, MIN+EXP with
(lambda, c, d) = (32, 2, 1); batch, epochs and learning rates from Table 2 of the appendix.

Where that table says that a network is fine-tuned, AMM takes two steps: a reference is
trained without AMM in `reference` within the run's folder, and then fine-tuned with AMM, its batch
normalisation frozen. `--init_from` names a reference that is there already; for ImageNet it is published weights
unless it names others.

With `--strategy=mirrored` all GPUs of the machine train together, each on its part of a batch:
`--batch_size` is that of the whole batch, so the settings mean the same on any number of them,
and a run may be continued on another number. Margins are measured on one of them.
"""

import contextlib
import functools
import hashlib
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from absl import app, flags

import keras_amm

from .. import architectures
from ..data import data_sets
from ..data.data_sets import DataSet
from ..data.sources import NotPreparedError
from ..json_files import write_json
from . import learning_rates, run_folder
from .checkpoints import Checkpoint, restore
from .coupled_sgd import CoupledDecaySGD
from .initial_weights import load_network
from .run_folder import InUseError, OtherRunError
from .run_records import EpochSeconds, read_history, summarize_history, versions
from .schedules import SCHEDULES
from .settings import define_flags, given_flags, resolve


class SettingsError(ValueError):
    """There is no such training: settings that do not fit the data, the network or each other."""


def run(data_set: str) -> None:
    """Train on a data set as the command line says.

    Args:
        data_set: str, one of `data_sets.DATA_SETS`.
    """
    define_flags(list(SCHEDULES[data_set]), out=f"runs/{data_set}")
    app.run(functools.partial(_main, data_set))


def _main(data_set: str, argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    try:
        settings = resolve(data_set, given_flags())
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    try:
        train_in_steps(settings, pathlib.Path(flags.FLAGS.out), flags.FLAGS.resume)
    except (NotPreparedError, SettingsError, InUseError) as error:
        raise SystemExit(str(error)) from error
    except OtherRunError as error:
        raise SystemExit(f"{error} Choose another --out, or start over with --noresume.") from error


def train_in_steps(settings: dict[str, Any], out: pathlib.Path, resume: bool = True) -> dict[str, Any]:
    """Train, with a reference before if there is to be one, and report both.

    Args:
        settings: from `training_settings.resolve`.
        out: path of the run's folder.
        resume: bool, whether to continue what is in the folder; otherwise it is started over.

    Returns:
        The result, as it is written to `result.json`.
    """
    if settings["two_step"]:
        if resume:
            # The reference would be another, and the second step has begun from the first one.
            second = {**settings, "init_from": str(out / "reference" / "model.keras")}
            run_folder.refuse_other_settings(out, second, free=[name for name in run_folder.FREE if name != "epochs"])
        settings = train_reference(settings, out / "reference", resume)
    return train(settings, out, resume)


def train_reference(settings: dict[str, Any], out: pathlib.Path, resume: bool = True) -> dict[str, Any]:
    """The first of two steps: the same training without AMM.

    Args:
        settings: from `training_settings.resolve`.
        out: path of the reference's folder.
        resume: bool, whether to continue what is in the folder; otherwise it is started over.

    Returns:
        The settings of the second step, which begins with the reference.
    """
    train({**settings, "amm": False, "two_step": False, "freeze_batch_normalization": False}, out, resume)
    return {**settings, "init_from": str(out / "model.keras")}


def train(settings: dict[str, Any], out: pathlib.Path, resume: bool = True) -> dict[str, Any]:
    """One training, from its folder's last checkpoint on, measured at the end. What is finished is left as it is.

    Args:
        settings: from `training_settings.resolve`.
        out: path of the run's folder.
        resume: bool, whether to continue what is in the folder; otherwise it is started over.

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
    with _refusals():
        data = _load(settings, strategy.num_replicas_in_sync)
        with strategy.scope():
            keras.utils.set_random_seed(settings["seed"])
            network = _network(settings, data.description.num_classes)
            settings = {**settings, "initial_weights": _digest(network) if settings["init_from"] else None}
            model = _compiled(network, settings, len(data.train))
    if resume and (out / "model.keras").exists() and (result := run_folder.finished(settings, out)):
        _print(result)
        return result
    with run_folder.alone(out):
        result = _train(model, data, settings, out, resume, strategy)
    _print(result)
    return result


def _train(
    model: keras.Model,
    data: DataSet,
    settings: dict[str, Any],
    out: pathlib.Path,
    resume: bool,
    strategy: tf.distribute.Strategy,
) -> dict[str, Any]:
    """What is left of a training, and its measurement."""
    measured, name = (data.validation, "validation") if settings["validation"] else (data.test, "test")
    run_folder.prepare(out, settings, resume)
    reference = None
    if settings["init_from"]:
        reference = run_folder.once(out / "initial.json", lambda: measure(model, measured, settings["eval_margins"]))
    checkpoint = out / "checkpoint" / "latest.weights.h5"
    with strategy.scope():
        done = restore(model, checkpoint, len(data.train))
    if done > settings["epochs"]:
        raise OtherRunError(f"{out} holds a run of {done} epochs already. Received: epochs={settings['epochs']}.")
    write_json(out / "config.json", settings)
    # The code that is loaded, whatever is checked out when it ends.
    made_with = versions()
    start = time.perf_counter()
    model.fit(
        data.train,
        validation_data=measured,
        initial_epoch=done,
        epochs=settings["epochs"],
        # The checkpoint comes last: what it counts as done has been logged.
        callbacks=[data.callback, *_record_keepers(out, measured, settings), Checkpoint(checkpoint)],
        verbose=2,
    )
    seconds = time.perf_counter() - start
    model.save(out / "model.keras")
    result = {
        "config": settings,
        "seed": settings["seed"],
        "versions": made_with,
        "replicas": strategy.num_replicas_in_sync,
        "measured_on": name,
        "training_images": data.num_train,
        **({"before_fine_tuning": reference} if reference else {}),
        **measure(model, measured, settings["eval_margins"]),
        **summarize_history(read_history(out / "history.csv"), seconds),
    }
    write_json(out / "result.json", result)
    return result


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What is refused before anything is trained is a matter of the settings."""
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


def _network(settings: dict[str, Any], num_classes: int) -> keras.Model:
    """The network with the weights that training starts from."""
    options = {"groups": settings["groups"]} if settings["groups"] else {}
    if settings["init_from"]:
        network = load_network(settings["model"], num_classes, settings["init_from"], **options)
    else:
        network = architectures.build(settings["model"], num_classes, **options)
    if settings["freeze_batch_normalization"]:
        architectures.freeze_batch_normalization(network)
    return network


def _digest(network: keras.Model) -> str:
    """What tells initial weights from others, whatever file they are in."""
    digest = hashlib.sha256()
    for weight in network.get_weights():
        digest.update(weight.tobytes())
    return digest.hexdigest()[:16]


def _compiled(network: keras.Model, settings: dict[str, Any], steps_per_epoch: int) -> keras.Model:
    """The network, wrapped or not, compiled alike."""
    model = network
    if settings["amm"]:
        names = (
            "strength",
            "aggregation",
            "shrinkage",
            "c",
            "d",
            "gradient",
            "screening",
            "only_successful",
            "interval",
        )
        regularizer = keras_amm.MarginRegularizer(**{name: settings[name] for name in names})
        attack = keras_amm.DeepFool(settings["max_iterations"], settings["num_candidates"])
        model = keras_amm.wrap(network, regularizer=regularizer, attack=attack)
    rate = learning_rates.dropping(settings["learning_rate"], settings["drop_at"], settings["drop_to"], steps_per_epoch)
    model.compile(
        CoupledDecaySGD(rate, momentum=0.9, l2=1e-4, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def _record_keepers(out: pathlib.Path, measured: Any, settings: dict[str, Any]) -> list[keras.callbacks.Callback]:
    """What logs the epochs."""
    keepers = [
        EpochSeconds(),
        keras.callbacks.CSVLogger(out / "history.csv", append=True),
        keras.callbacks.TensorBoard(out / "tensorboard", write_graph=False),
    ]
    if settings["log_margins"]:
        # Before those that read the logs.
        keepers.insert(
            0, keras_amm.callbacks.MarginLogger(measured, out / "tensorboard", num_samples=settings["log_margins"])
        )
    return keepers


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


def _print(result: dict[str, Any]) -> None:
    config = result["config"]
    print(
        f"{config['model']} {'with' if config['amm'] else 'without'} AMM, seed {config['seed']}, "
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
