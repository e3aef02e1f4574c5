"""What a callback knows of the `fit` that is running, and finds out where Keras does not tell it."""

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import tensorflow as tf

from keras_amm.execution.optimizer_steps import steps_per_update, updates_of
from keras_amm.measuring.samples import FixedSamples

_READERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.EarlyStopping,
    keras.callbacks.History,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.TensorBoard,
)


@dataclass
class RunningFit:
    """What `keras_amm.callbacks.MarginLogger` knows of the `fit` that is running."""

    # What the logger has cost at the end of the last epoch.
    seconds_logged: float
    # None until the first of them were measured as a trial.
    samples: FixedSamples | None = None
    # The last values measured; empty until something was.
    values: dict[str, float] = field(default_factory=dict)
    # The step of the last measurement, or the epoch where steps are not counted.
    measured_at: int = -1
    # None where epochs alone are measured.
    steps: "TrainingSteps | None" = None


class TrainingSteps:
    """Counts the training steps of a model inside `fit`, going on from those of earlier trainings.

    Args:
        model: `keras.Model`, compiled. Its optimizer knows the earlier steps, so make
            the counter only after a resumed run has restored the optimizer.
        every: int; `advance` tells when a multiple of this number was reached.

    Attributes:
        done: int, the number of steps done.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> model.compile("sgd", "mse")
    >>> steps = keras_amm.monitoring.fit.TrainingSteps(model, every=4)
    >>> steps.begin_epoch()
    >>> steps.advance(batch=2, per_epoch=None), steps.advance(batch=4, per_epoch=None), steps.done
    (False, True, 5)
    """

    def __init__(self, model: keras.Model, every: int) -> None:
        self.done = updates_of(model.optimizer) * steps_per_update(model.optimizer)
        self._every = every
        self._last_batch = -1

    def begin_epoch(self) -> None:
        """Note that Keras counts batches from 0 again."""
        self._last_batch = -1

    def advance(self, batch: int, per_epoch: int | None) -> bool:
        """Note the end of the batch with this index, and of those before it; was one a multiple of `every`?

        With `steps_per_execution`, Keras reports only the last of several batches.
        `per_epoch` is the number of steps in an epoch, None if unknown.
        """
        # The index that Keras reports may lie beyond the last batch of an epoch.
        batch = min(batch, (per_epoch or batch + 1) - 1)
        before, self.done = self.done, self.done + batch - self._last_batch
        self._last_batch = batch
        return self.done // self._every > before // self._every


def names_not_taken(values: Mapping[str, float], logs: Mapping[str, Any]) -> dict[str, float]:
    """The values by their names, or as `val_amm_margin` where the logs hold a `val_margin`, of a user's metric."""
    return {name if name not in logs else name.replace("val_", "val_amm_", 1): v for name, v in values.items()}


def validation_data(model: keras.Model) -> Any:
    """The validation data of the `fit` that is running, as a data set of batches, once it has validated."""
    # Keras keeps the validation data nowhere else, and makes this iterator when it validates for the first time.
    iterator = getattr(model, "_eval_epoch_iterator", None)
    if iterator is None:
        raise ValueError(
            "There are no validation data to measure: fit has not validated by the end of its first epoch. Pass "
            "`validation_data` (or `validation_split`) to fit, without a `validation_freq` that leaves out the first "
            "epoch, or give the data to the callback: MarginLogger((x, y))."
        )
    adapter = iterator.data_adapter
    data = getattr(adapter, "py_dataset", None)
    if data is None and type(adapter).__name__ != "GeneratorDataAdapter":
        data = adapter.get_tf_dataset()
    if not isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        raise ValueError(
            "The validation data of fit cannot be read a second time, to be measured. Expected: arrays, a "
            "tf.data.Dataset or a keras.utils.PyDataset. Received: validation data read by Keras's "
            f"{type(adapter).__name__}. Give data to the callback: MarginLogger((x, y))."
        )
    if isinstance(data, tf.data.Dataset) and iterator.steps_per_epoch:
        data = data.take(iterator.steps_per_epoch)
    return data


def warn_of_earlier_readers(callback: keras.callbacks.Callback, entries: Sequence[str]) -> None:
    """Warn of callbacks that read the `entries` of the logs but are called before `callback`, which adds them."""
    for earlier in _callbacks_before(callback):
        if isinstance(earlier, _READERS) and _reads(earlier, entries):
            warnings.warn(
                f"{type(earlier).__name__} stands before {type(callback).__name__} in the list of callbacks, so it "
                f"will not see {entries[0]} in the logs: put {type(callback).__name__} first.",
                stacklevel=3,
            )


def warn_of_failure(what: str, moment: str, consequence: str, error: Exception) -> None:
    """Warn of a failure that does not end the training."""
    message = f"{what} after {moment}; training goes on. {consequence}. {type(error).__name__}: {error}"
    # The warning is attributed to Keras, which called the callback, not to the callback's own methods.
    warnings.warn(message, stacklevel=4)


def _reads(reader: keras.callbacks.Callback, entries: Sequence[str]) -> bool:
    monitored = getattr(reader, "monitor", None)
    # A reader that monitors nothing reads everything.
    return monitored in (None, *entries) or any(f"{{{entry}" in getattr(reader, "filepath", "") for entry in entries)


def _callbacks_before(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """The callbacks that are called earlier; none where that cannot be found out."""
    # Neither the callback nor the model knows the list of callbacks, which is a local variable of fit. But the list is
    # what calls the callback, so it is found on the call stack.
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and callback in caller.callbacks:
            return list(caller.callbacks[: caller.callbacks.index(callback)])
        frame = frame.f_back
    return []
