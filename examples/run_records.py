"""What a training run leaves behind: epoch times, its history across resumes, and what it was made with."""

import csv
import json
import pathlib
import platform
import time
from typing import Any

import keras
import tensorflow as tf

import keras_amm


class EpochSeconds(keras.callbacks.Callback):
    """Adds `seconds` to the epoch's logs: training alone, without the validation after it.

    Callbacks share their logs in order: put it before those that write them.
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


def write_json(path: pathlib.Path, content: Any) -> None:
    """Write a file that is whole at any moment: the old one or the new one."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(json.dumps(content, indent=2) + "\n")
    new.replace(path)


def versions() -> dict[str, str]:
    """What the run was made with."""
    return {
        "python": platform.python_version(),
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "keras_amm": keras_amm.__version__,
        "devices": ", ".join(device.device_type for device in tf.config.list_physical_devices()),
    }
