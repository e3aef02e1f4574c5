"""A short training with AMM of every architecture on real images: its loss, its cost, its memory.

`python -m benchmarks.step_cost --all` measures network by network, and appends a line of JSON for each. A network is
measured in two processes of its own. The first trains it plainly on a few batches, freezes batch normalisation as the
examples do, and then trains with AMM on the same batches: the paper's two steps in small. So the first and the last
loss are of the same images. Then its peak memory is read. At last AMM steps, AMM steps with the rough search and plain
ones take turns, so that a ratio of times is between neighbours. The second process only makes a few plain steps, and
its peak memory is read.

The plain steps are needed since on nearly new weights many attacks fail within six iterations. An image whose attack
fails counts for nothing, so the loss jumps when one more or less succeeds. Batch sizes and learning rates are those of
Table 2, for AMM a tenth of these rates: at the full rate the loss of a LeNet that had plainly learnt 300 images of
CIFAR-10 rose. Networks for MNIST get the images in the repository, those for CIFAR the images of CIFAR-10, and those
for ImageNet the same images enlarged to 224x224. Of LiuNet-96's 100 classes and ImageNet's 1,000 only ten occur.
"""

import json
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import keras_amm
from examples.paper import architectures
from examples.paper.data import arrays, data_sets
from examples.paper.training.coupled_sgd import CoupledDecaySGD
from examples.paper.training.table_2 import TABLE_2

from .memory import peak_bytes


class Plan(NamedTuple):
    """How many steps of a network are measured: fewer of the large ones, which take minutes.

    Attributes:
        data_set: str, the data set whose row of Table 2 it is trained by.
        batches: int, the number of different batches.
        plain_passes: int, through these batches before AMM begins.
        passes: int, with AMM through the same batches.
        rounds: int, in which an AMM step and a plain one take turns.
    """

    data_set: str
    batches: int = 3
    plain_passes: int = 30
    passes: int = 7
    rounds: int = 15


# What the learning rate of Table 2 is multiplied by for the steps with AMM.
AMM_RATE = 0.1

PLANS = {
    "mlp-800": Plan("mnist"),
    "mlp-512": Plan("mnist"),
    "lenet-mnist": Plan("mnist"),
    "liunet-mnist": Plan("mnist", plain_passes=15, passes=4, rounds=6),
    "lenet": Plan("cifar10", plain_passes=60),
    "resnet-20": Plan("cifar10", passes=4, rounds=8),
    "nin": Plan("cifar10", batches=1, plain_passes=400, passes=12, rounds=8),
    "liunet": Plan("cifar10", plain_passes=15, passes=4, rounds=6),
    "liunet-96": Plan("cifar100", batches=1, plain_passes=30, passes=6, rounds=8),
    "resnet-56": Plan("cifar10", batches=2, plain_passes=20, passes=4, rounds=8),
    "densenet-40": Plan("cifar10", batches=1, passes=8, rounds=6),
    "resnet-18": Plan("imagenet2012", batches=1, passes=8, rounds=8),
    "resnet-50": Plan("imagenet2012", batches=1, passes=6, rounds=6),
    "senet-50": Plan("imagenet2012", batches=1, passes=6, rounds=6),
}


def run(out: pathlib.Path, only: Sequence[str] = ()) -> bool:
    """Measure what is not in the file yet, and print it all as a table.

    Args:
        out: path of a file of JSON lines.
        only: names of networks; all by default, small ones first.

    Returns:
        Whether all were measured, with falling losses and finite penalties.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for network in only or PLANS:
        if network in {row["network"] for row in read(out)}:
            continue
        try:
            row = {"network": network, **_in_its_own_process(network, "amm"), **_in_its_own_process(network, "plain")}
        except subprocess.CalledProcessError as error:
            print(f"{network} could not be measured:\n{error.stderr[-3000:]}", file=sys.stderr)
            continue
        with out.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(_line(row), flush=True)
    rows = {row["network"]: row for row in read(out)}
    print("\n" + table(list(rows.values())))
    return all(network in rows and is_sound(rows[network]) for network in only or PLANS)


def read(out: pathlib.Path) -> list[dict[str, Any]]:
    """The rows of a file; none where there is no file."""
    return [json.loads(line) for line in out.read_text().splitlines()] if out.exists() else []


def is_sound(row: dict[str, Any]) -> bool:
    """Whether the loss fell, and every loss and penalty was finite."""
    return bool(row["last_loss"] < row["first_loss"] and np.all(np.isfinite([*row["losses"], *row["penalties"]])))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    head = (
        "| network | images | batch | plain steps | AMM steps | loss, first → last | penalty | plain, s | AMM, s | "
        "AMM / plain | rough / plain | memory plain, GiB | memory AMM, GiB |"
    )
    return "\n".join([head, "| " + " | ".join(["---"] * head.count(" | ")) + " | --- |", *map(_line, rows)])


def _line(row: dict[str, Any]) -> str:
    plain, amm, rough = (np.array(row[f"{variant}_seconds"]) for variant in ("plain", "amm", "rough"))
    cells = [
        row["network"],
        row["images"],
        row["batch_size"],
        f"{row['plain_steps']} ({row['plain_accuracy']:.0%})",
        len(row["losses"]),
        f"{row['first_loss']:.2f} → {row['last_loss']:.2f}",
        f"{min(row['penalties']):.2f} to {max(row['penalties']):.2f}",
        f"{np.median(plain):.3g}",
        f"{np.median(amm):.3g}",
        _ratio(amm, plain),
        _ratio(rough, plain),
        f"{row['plain_peak_bytes'] / 2**30:.2f}",
        f"{row['amm_peak_bytes'] / 2**30:.2f}",
    ]
    return "| " + " | ".join(map(str, cells)) + " |"


def _ratio(seconds: np.ndarray, of_plain: np.ndarray) -> str:
    low, middle, high = np.percentile(seconds / of_plain, [25, 50, 75])
    return f"{middle:.1f} [{low:.1f}, {high:.1f}]"


def _in_its_own_process(network: str, variant: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.every_architecture", network, variant]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def measure(network: str, variant: str) -> dict[str, Any]:
    """The part of a row that one process measures.

    Args:
        network: str, one of `PLANS`.
        variant: str, "plain" or "amm".

    Returns:
        A dictionary that JSON can hold.
    """
    plan = PLANS[network]
    row = TABLE_2[plan.data_set][network]
    keras.utils.set_random_seed(0)
    model = architectures.build(network, data_sets.DATA_SETS[plan.data_set].num_classes)
    images = _Images(plan.data_set, row.batch_size)
    steps = range(plan.batches)
    plain = _Steps(model, row.learning_rate, images)
    if variant == "plain":
        # A few steps are enough: memory does not grow after the first ones, frozen or not.
        plain.run(steps[:1])
        architectures.freeze_batch_normalization(model)
        _Steps(model, row.learning_rate, images).run([0, 0])
        return {"plain_peak_bytes": peak_bytes()}
    accuracies = [log["accuracy"] for log in plain.run([*steps] * plan.plain_passes)]
    if architectures.freeze_batch_normalization(model):
        plain = _Steps(model, row.learning_rate, images)
    plain.run(steps[:1])
    learning_rate = row.learning_rate * AMM_RATE
    wrapped = keras_amm.wrap(model)
    amm = _Steps(wrapped, learning_rate, images)
    logs = amm.run([*steps] * plan.passes)
    peak = peak_bytes()
    losses, penalties = ([log[name] for log in logs] for name in ("loss", "margin_penalty"))
    rough = _Steps(_with_rough_search(model, wrapped), learning_rate, images)
    rough.run(steps[:1])
    clocks = [each.clock(steps[0]) for each in (amm, rough, plain)]
    seconds = [[clock() for clock in clocks] for _ in range(plan.rounds)]
    return {
        "images": images.name,
        "batch_size": row.batch_size,
        "plain_steps": len(accuracies) + 1,
        "plain_accuracy": float(np.mean(accuracies[-plan.batches :])),
        "learning_rate": learning_rate,
        "losses": losses,
        "first_loss": float(np.mean(losses[: plan.batches])),
        "last_loss": float(np.mean(losses[-plan.batches :])),
        "penalties": penalties,
        "amm_seconds": [amm for amm, _, _ in seconds],
        "rough_seconds": [rough for _, rough, _ in seconds],
        "plain_seconds": [plain for _, _, plain in seconds],
        "amm_peak_bytes": peak,
        "cores": len(os.sched_getaffinity(0)),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
    }


def _with_rough_search(network: keras.Model, wrapped: keras_amm.AMMModel) -> keras_amm.AMMModel:
    """The network wrapped once more, with `search="rough"` and the same statistics of its training."""
    rough = keras_amm.wrap(network, search="rough")
    rough.regularizer.prepare()
    rough.regularizer.running.set_weights(wrapped.regularizer.running.get_weights())
    return rough


class _Images:
    """Batches of real images by number, in the size that the networks of a data set take."""

    def __init__(self, data_set: str, batch_size: int) -> None:
        self._description, self._batch_size = data_sets.DATA_SETS[data_set], batch_size
        if data_set == "mnist":
            self.name = "MNIST"
            self._images, _ = arrays.load_subset()
        else:
            self._images = arrays.load("cifar10", "train[:20%]", data_sets.DATA_SETS["cifar10"].mean)
            self.name = "CIFAR-10"
        if self._images.x.shape[1:] != self._description.shape:
            self.name += f" at {self._description.shape[0]}x{self._description.shape[1]}"

    def batch(self, number: int) -> tuple[Any, Any]:
        """Tensors x [B, height, width, channels] and y [B]."""
        size = self._description.shape[:2]
        first = self._batch_size * (number % (len(self._images) // self._batch_size))
        x, y = self._images[first : first + self._batch_size]
        return tf.constant(x) if x.shape[1:3] == size else tf.image.resize(x, size), tf.constant(y)


class _Steps:
    """Steps of `fit`: calls of the function that it runs per batch, with loss, metrics, clipping and SGD."""

    def __init__(self, model: keras.Model, learning_rate: float, images: _Images) -> None:
        self._model, self._images = model, images
        model.compile(
            CoupledDecaySGD(learning_rate, momentum=0.9, l2=1e-4, global_clipnorm=10.0),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        model.optimizer.build(model.trainable_variables)  # as `fit` does, before it traces
        model.make_train_function(force=True)

    def run(self, numbers: Iterable[int]) -> list[dict[str, float]]:
        """Make a step on each batch, and return the loss and metrics of each."""
        logs = []
        for number in numbers:
            self._model.reset_metrics()
            batch = iter(tf.data.Dataset.from_tensors(self._images.batch(number)))
            logs.append({name: float(value) for name, value in self._model.train_function(batch).items()})
        return logs

    def clock(self, number: int) -> Callable[[], float]:
        """What makes a step on this batch, and returns the seconds of it; the batch is prepared before."""
        batches = iter(tf.data.Dataset.from_tensors(self._images.batch(number)).repeat())

        def seconds() -> float:
            start = time.perf_counter()
            float(self._model.train_function(batches)["loss"])
            return time.perf_counter() - start

        return seconds


if __name__ == "__main__":
    print(json.dumps(measure(*sys.argv[1:])))
