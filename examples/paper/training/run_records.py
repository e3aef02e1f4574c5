"""What a training run records: the time of each epoch, its history across resumes, a hash of weights, and versions."""

import csv
import hashlib
import os
import pathlib
import platform
import subprocess
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import keras_amm


class EpochSeconds(keras.callbacks.Callback):
    """Adds `seconds` to the epoch's logs: the time of the training alone, without the validation after it.

    Callbacks are called in order and share one dictionary of logs: put it before those that write them.
    """

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start the clock."""
        self._start, self._seconds = time.perf_counter(), None

    def on_test_begin(self, logs: Any = None) -> None:
        """Stop the clock where validation begins."""
        self._stop()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Log the time."""
        self._stop()
        if logs is not None:
            logs["seconds"] = self._seconds

    def _stop(self) -> None:
        if self._seconds is None:
            self._seconds = time.perf_counter() - self._start


def read_history(path: pathlib.Path) -> list[dict[str, float]]:
    """The rows of a `CSVLogger`, one per epoch, in order.

    A run that was stopped between log and checkpoint repeats an epoch: its last row counts.
    """
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = {int(row["epoch"]): row for row in csv.DictReader(file)}
    return [
        {"epoch": epoch, **{name: float(value) for name, value in rows[epoch].items() if name != "epoch"}}
        for epoch in sorted(rows)
    ]


def summarize_history(history: list[dict[str, float]], seconds: float) -> dict[str, Any]:
    """Epochs, times, and the history itself.

    Args:
        history: from `read_history`.
        seconds: float, those of `fit` in this process.

    Returns:
        A dictionary that JSON can hold.
    """
    # The first epoch of a process includes the tracing of the graph; a median is not affected by it.
    per_epoch = [row["seconds"] for row in history]
    return {
        "epochs": len(history),
        "seconds_per_epoch": float(np.median(per_epoch)) if per_epoch else 0.0,
        "training_seconds": float(np.sum(per_epoch)),
        "fit_seconds_of_last_process": seconds,
        "history": history,
    }


def versions() -> dict[str, str | int | None]:
    """The versions, devices and threads that a run was made with.

    The number of threads decides in which order sums are taken, and so the last bits of results.
    """
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_amm": keras_amm.__version__,
        "revision": _revision(),
        "devices": ", ".join(device.device_type for device in tf.config.list_physical_devices()),
        "threads": _threads(),
    }


def _threads() -> int:
    """The threads that one operation of TensorFlow may use: as many as it was told, or one for each core."""
    told = tf.config.threading.get_intra_op_parallelism_threads() or int(os.environ.get("TF_NUM_INTRAOP_THREADS") or 0)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return told or cores


def _revision() -> str | None:
    """The commit that is checked out, as git names it; None where this is no clone."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def digest(network: keras.Model) -> str:
    """A hash of the weights, which tells them from others whatever file they come from."""
    found = hashlib.sha256()
    for weight in network.get_weights():
        found.update(weight.tobytes())
    return found.hexdigest()[:16]
