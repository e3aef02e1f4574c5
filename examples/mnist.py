"""The paper's MNIST experiments: MLP-800, LeNet and LiuNet, with and without AMM.

    python examples/mnist.py --model=mlp-800 --seed=0 --out=runs/mlp-amm
    python examples/mnist.py --model=mlp-800 --seed=0 --out=runs/mlp-reference --noamm
    python examples/mnist.py --model=lenet-mnist --validation --out=runs/lenet-validation

needs MNIST as prepared by tensorflow-datasets (`TFDS_DATA_DIR` names the folder).
The defaults are the protocol of Section 4.2 and the appendix: 100 epochs of
batches of 100, learning rate 5e-3, a tenth of it from epoch 50 and a hundredth
from epoch 80, momentum 0.9, L2 1e-4, gradients clipped to norm 10; MIN+EXP with
(lambda, c, d) = (32, 2, 1). All 60,000 images are trained on and the test images
measured; with `--validation` 5,000 training images are held out and measured
instead, and test images are not read. A run that was stopped continues
from the last epoch's checkpoint in `--out`.
"""

import json
import pathlib
import platform
import shutil
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags

import architectures
import keras_amm
from coupled_sgd import CoupledDecaySGD
from image_data import Images, ShuffledBatches, hold_out, load
from run_records import EpochSeconds, read_history

NUM_VALIDATION = 5_000
VALIDATION_SEED = 0

flags.DEFINE_enum("model", "mlp-800", ["mlp-800", "lenet-mnist", "liunet-mnist"], "the network")
flags.DEFINE_integer("epochs", 100, "number of epochs", lower_bound=0)
flags.DEFINE_integer("batch_size", 100, "images per batch", lower_bound=1)
flags.DEFINE_float("learning_rate", 5e-3, "initial learning rate")
flags.DEFINE_list("drop_at", ["50", "80"], "epochs from which the learning rate is lower")
flags.DEFINE_list("drop_to", ["0.1", "0.01"], "factors of the initial learning rate from these epochs on")
flags.DEFINE_integer("seed", 0, "seed of initialisation and order")
flags.DEFINE_bool("amm", True, "whether to train for margin")
flags.DEFINE_float("strength", 32.0, "lambda, the weight of the margin penalty")
flags.DEFINE_enum("aggregation", "min", ["min", "avg"], "which samples count")
flags.DEFINE_enum("shrinkage", "exp", ["lin", "exp", "inv", "hinge"], "how much small margins count")
flags.DEFINE_float("c", 2.0, "scale of correctly classified samples")
flags.DEFINE_float("d", 1.0, "scale of misclassified samples")
flags.DEFINE_enum("gradient", "unrolled", ["unrolled", "masked", "boundary"], "how margins are differentiated")
flags.DEFINE_float("screening", None, "fraction of the correct samples that are searched in full; all by default")
flags.DEFINE_integer("num_candidates", 10, "classes that DeepFool considers", lower_bound=2)
flags.DEFINE_bool("validation", False, "hold out 5,000 training images and report on them instead of the test set")
flags.DEFINE_integer("num_train", 0, "train on the first so many images only; 0 for all", lower_bound=0)
flags.DEFINE_integer("eval_margins", 0, "images whose margin is measured at the end; 0 for all", lower_bound=0)
flags.DEFINE_bool("resume", True, "continue from the checkpoint in --out, if there is one")
flags.DEFINE_string("out", "mnist_run", "folder of checkpoint, logs, model and result")
FLAGS = flags.FLAGS


@flags.multi_flags_validator(["drop_at", "drop_to"], "--drop_to must have a factor for each epoch of --drop_at")
def _drops_match(values: dict[str, Any]) -> bool:
    return len(values["drop_at"]) == len(values["drop_to"])


def main(argv: list[str]) -> None:
    """Train, measure, and write the result."""
    if len(argv) > 1:
        raise app.UsageError(f"Unknown arguments: {argv[1:]}")
    out = pathlib.Path(FLAGS.out)
    config = prepare_folder(out)
    train, held_out, held_out_name = load_splits()
    keras.utils.set_random_seed(FLAGS.seed)
    batches = ShuffledBatches(train, FLAGS.batch_size, FLAGS.seed)
    model = build_model(len(batches))
    start = time.perf_counter()
    model.fit(
        batches.dataset,
        validation_data=(held_out.x, held_out.y),
        validation_batch_size=1000,
        epochs=FLAGS.epochs,
        callbacks=[batches.callback, *record_keepers(out)],
        verbose=2,
    )
    seconds = time.perf_counter() - start
    model.save(out / "model.keras")
    result = {
        "config": config,
        "versions": versions(),
        "measured_on": held_out_name,
        **measure(model, held_out),
        **summarize_history(read_history(out / "history.csv"), seconds),
    }
    (out / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    print(
        f"{FLAGS.model} {'with' if FLAGS.amm else 'without'} AMM, seed {FLAGS.seed}, {result['epochs']} epochs: "
        f"{held_out_name} error {result['error_percent']:.2f}%, margin mean {result['margin_mean']:.3f}, "
        f"median {result['margin_median']:.3f} on {result['margin_images']} images, "
        f"attack success {result['attack_success']:.4f}, {result['seconds_per_epoch']:.1f} s per epoch"
    )


def prepare_folder(out: pathlib.Path) -> dict[str, Any]:
    """Make the folder, or see that the run in it has the same settings."""
    config = {flag.name: flag.value for flag in FLAGS.get_key_flags_for_module(sys.modules[__name__])}
    for name in ("out", "resume"):
        del config[name]
    if not FLAGS.resume and out.exists():
        for name in ("checkpoint", "tensorboard"):
            shutil.rmtree(out / name, ignore_errors=True)
        for name in ("history.csv", "config.json", "model.keras", "result.json"):
            (out / name).unlink(missing_ok=True)
    path = out / "config.json"
    if path.exists():
        # A longer run may continue a shorter one, and margins may be measured again.
        before = json.loads(path.read_text())
        different = [n for n in config if config[n] != before.get(n) and n not in ("epochs", "eval_margins")]
        if different:
            raise SystemExit(
                f"{out} holds a run with other settings: "
                + ", ".join(f"{n}={before.get(n)!r} there and {config[n]!r} here" for n in different)
                + ". Choose another --out, or start over with --noresume."
            )
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(config, indent=2) + "\n")
    return config


def load_splits() -> tuple[Images, Images, str]:
    """Training images, those that are measured, and what these are called."""
    train = load("mnist", "train")
    if FLAGS.validation:
        train, measured = hold_out(train, NUM_VALIDATION, VALIDATION_SEED)
    else:
        measured = load("mnist", "test")
    if FLAGS.num_train:
        train = train[: FLAGS.num_train]
    return train, measured, "validation" if FLAGS.validation else "test"


def build_model(steps_per_epoch: int) -> keras.Model:
    """The network, wrapped or not, compiled alike."""
    model = architectures.build(FLAGS.model)
    if FLAGS.amm:
        model = keras_amm.wrap(
            model,
            regularizer=keras_amm.MarginRegularizer(
                strength=FLAGS.strength,
                aggregation=FLAGS.aggregation,
                shrinkage=FLAGS.shrinkage,
                c=FLAGS.c,
                d=FLAGS.d,
                gradient=FLAGS.gradient,
                screening=FLAGS.screening,
            ),
            attack=keras_amm.DeepFool(num_candidates=FLAGS.num_candidates),
        )
    model.compile(
        CoupledDecaySGD(learning_rate(steps_per_epoch), momentum=0.9, l2=1e-4, global_clipnorm=10.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model


def learning_rate(steps_per_epoch: int) -> float | keras.optimizers.schedules.LearningRateSchedule:
    """The learning rate as a function of the optimizer's iterations, so that it resumes with them."""
    if not FLAGS.drop_at:
        return FLAGS.learning_rate
    # Keras keeps a value up to and including its boundary.
    boundaries = [int(epoch) * steps_per_epoch - 1 for epoch in FLAGS.drop_at]
    values = [FLAGS.learning_rate * factor for factor in [1.0, *map(float, FLAGS.drop_to)]]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, values)


def record_keepers(out: pathlib.Path) -> list[keras.callbacks.Callback]:
    """Logs and checkpoint. The checkpoint comes last: what it counts as done has been logged."""
    return [
        EpochSeconds(),
        keras.callbacks.CSVLogger(out / "history.csv", append=True),
        keras.callbacks.TensorBoard(out / "tensorboard", write_graph=False),
        keras.callbacks.BackupAndRestore(out / "checkpoint", double_checkpoint=True, delete_checkpoint=False),
    ]


def measure(model: keras.Model, images: Images) -> dict[str, Any]:
    """The error on all images and the untargeted margins of the first `--eval_margins`."""
    logs = model.evaluate(images.x, images.y, batch_size=1000, verbose=0, return_dict=True)
    images = images[: FLAGS.eval_margins or len(images)]
    report = keras_amm.evaluate_margins(model, images, batch_size=500, verbose=0)
    return {
        "error_percent": 100.0 * (1.0 - logs["accuracy"]),
        "cross_entropy": logs["loss"],
        "margin_images": len(images),
        "margin_mean": report.mean,
        "margin_median": report.median,
        "attack_success": report.success_rate,
    }


def summarize_history(history: list[dict[str, float]], seconds: float) -> dict[str, Any]:
    """Epochs, times, and the history itself; `seconds` are those of this process."""
    # The first epoch of a process includes the tracing of the graph; the median leaves it out.
    per_epoch = [row["seconds"] for row in history]
    return {
        "epochs": len(history),
        "seconds_per_epoch": float(np.median(per_epoch)) if per_epoch else 0.0,
        "training_seconds": float(np.sum(per_epoch)),
        "fit_seconds_of_last_process": seconds,
        "history": history,
    }


def versions() -> dict[str, str]:
    """What the run was made with."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_amm": keras_amm.__version__,
        "devices": ", ".join(device.device_type for device in tf.config.list_physical_devices()),
    }


if __name__ == "__main__":
    app.run(main)
