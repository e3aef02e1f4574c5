"""How long a training takes, and its end when it has taken as long as another one."""

import time
from typing import Any

import keras


class TrainingClock(keras.callbacks.Callback):
    """Counts the seconds of training, and stops it.

    The first batch, during which the training step is compiled, does not count. Processor seconds, unlike those of the
    clock, hardly depend on what else the machine does.

    Args:
        min_epochs: int, epochs that are trained in any case.
        processor_seconds: float, after which no further epoch begins; None to train all epochs of `fit`.

    Attributes:
        epochs: int, those that have ended.
        seconds: float, by the clock.
        processor_seconds: float, of all threads.
    """

    def __init__(self, min_epochs: int, processor_seconds: float | None = None) -> None:
        super().__init__()
        self.min_epochs, self.limit = min_epochs, processor_seconds
        self.epochs = 0
        self.seconds = self.processor_seconds = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self._start: tuple[float, float] | None = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self._start is None:
            self._start = time.perf_counter(), time.process_time()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs += 1
        self.seconds = time.perf_counter() - self._start[0]
        self.processor_seconds = time.process_time() - self._start[1]
        if self.limit is not None and self.epochs >= self.min_epochs:
            # Whether half of the next epoch would still fit.
            fits = self.processor_seconds * (1 + 0.5 / self.epochs) <= self.limit
            self.model.stop_training = not fits
