"""A callback that watches margins grow during training."""

import inspect
import os
import time
import warnings
from collections.abc import Container, Sequence
from typing import Any

import keras

from keras_amm.arguments import require_whole
from keras_amm.deepfool import DeepFool
from keras_amm.margins import evaluate_margins
from keras_amm.nearest import NearestImages, PerturbedImages
from keras_amm.report import MarginReport
from keras_amm.sampling import FixedSamples, validation_data
from keras_amm.summaries import MarginSummaries

_LOGGED = {"val_margin": "mean", "val_margin_median": "median", "val_attack_success": "success_rate"}
_SECONDS = "val_margin_seconds"
_READERS = ("CSVLogger", "TensorBoard", "History", "EarlyStopping", "ModelCheckpoint", "ReduceLROnPlateau")


class MarginLogger(keras.callbacks.Callback):
    """Measures margins while `fit` trains, for the logs and for TensorBoard.

    Adds to each epoch's logs

    - `val_margin`, the mean norm of `keras_amm.evaluate_margins` over all images measured,
    - `val_margin_median`, the median norm,
    - `val_attack_success`, the fraction of images whose attack changed the prediction,
    - `val_margin_seconds`, what measuring and writing cost in this epoch.

    All callbacks share one logs dictionary, in the order of the list: **put
    MarginLogger before those that read it**, such as `EarlyStopping`,
    `ModelCheckpoint`, `CSVLogger` and `TensorBoard`. It warns of one that comes
    earlier. `History`, which `fit` returns, and the progress bar come last
    anyway. Say `mode="max"` to those that monitor `val_margin`.

    The first epoch of each `fit` is measured whatever `epoch_freq` says, because
    `CSVLogger` fixes its columns then. An epoch that is not measured has the
    last measured values in its logs, and `val_margin_seconds` 0: so no reader
    misses a value, and the patience of `EarlyStopping` counts epochs.

    The data are tried before the first epoch, and unfit ones refused. When
    measuring or writing fails later, training goes on: there is a warning, and
    the values of that epoch are NaN.

    With `log_dir`, TensorBoard shows the margins' scalars, the mean margin per class,
    histograms of correctly classified and of misclassified images, robust
    accuracy over the radius, and the images of the smallest margins with
    their perturbations. The horizontal axis is the epoch, counted from 0 as by
    `keras.callbacks.TensorBoard`; with `step_freq` it is the number of training
    steps done. A resumed run continues both. Of several workers all measure, and the chief writes.

    Any Keras classifier will do, not only an `AMMModel`. The weights, metrics and
    random numbers of the training are left alone.

    Args:
        data: what `keras_amm.evaluate_margins` takes: arrays (x, y), or a
            `tf.data.Dataset` or `keras.utils.PyDataset`; None for the validation data of `fit`.
        log_dir: path of TensorBoard's log directory, written to in its folder
            `margins`; None for no summaries.
        epoch_freq: as the `validation_freq` of `fit`: int, every so many epochs; or a
            container of epochs, counted from 1.
        step_freq: int, to measure every so many training steps besides, for
            TensorBoard; None for epochs alone.
        num_samples: int, measure a random subsample of this size, drawn once;
            None for all images. DeepFool costs many times an evaluation.
        seed: int, which subsample.
        attack: `DeepFool`; None for the default of `evaluate_margins`.
        batch_size: int, the most images attacked at a time; None for 128 of arrays.
        num_images: int, how many images of the smallest margins TensorBoard shows.
        class_names: sequence of strings, names of the classes for TensorBoard; None for indices.

    Attributes:
        report: the last `MarginReport`; None before the first.
        seconds: float, the time spent in this callback so far.

    Raises:
        TypeError: `attack` is not a `DeepFool`.
        ValueError: an argument is out of its range.
        ImportError: `log_dir` is given, and tensorboard or matplotlib not installed.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    >>> x, y = np.random.rand(60, 2), np.arange(60) % 3
    >>> callbacks = [keras_amm.callbacks.MarginLogger(num_samples=20),
    ...     keras.callbacks.EarlyStopping("val_margin", mode="max", patience=5)]
    >>> history = model.fit(x, y, validation_data=(x, y), epochs=2, callbacks=callbacks, verbose=0)
    >>> len(history.history["val_margin"])
    2

    Reference: Section 4.4 of the paper.
    """

    def __init__(
        self,
        data: Any = None,
        log_dir: str | os.PathLike[str] | None = None,
        *,
        epoch_freq: int | Container[int] = 1,
        step_freq: int | None = None,
        num_samples: int | None = None,
        seed: int = 0,
        attack: DeepFool | None = None,
        batch_size: int | None = None,
        num_images: int = 8,
        class_names: Sequence[str] | None = None,
    ) -> None:
        super().__init__()
        if attack is not None and not isinstance(attack, DeepFool):
            raise TypeError(f"`attack` must be a keras_amm.DeepFool or None. Received: attack={attack!r}.")
        if not isinstance(epoch_freq, Container):
            require_whole("epoch_freq", epoch_freq, 1)
        for name, value in (("step_freq", step_freq), ("num_samples", num_samples), ("batch_size", batch_size)):
            if value is not None:
                require_whole(name, value, 1)
        require_whole("num_images", num_images, 0)
        self.data = data
        self.epoch_freq = epoch_freq
        self.step_freq = step_freq
        self.num_samples = num_samples
        self.seed = seed
        self.attack = attack
        self.batch_size = batch_size
        self.num_images = num_images
        self.report: MarginReport | None = None
        self.seconds = 0.0
        # Keras may then run the progress bar beside the training steps.
        self.async_safe = step_freq is None
        self._summaries = None if log_dir is None else MarginSummaries(log_dir, class_names)
        self._samples: FixedSamples | None = None
        self._values: dict[str, float] = {}

    def on_train_begin(self, logs: Any = None) -> None:
        """Take the images, and try the first batch of them.

        Args:
            logs: not used.

        Raises:
            TypeError: the model is not a Keras model.
            ValueError: data or model are not fit to be measured.
        """
        self._warn_of_earlier_readers()
        self._values = {}
        self._step, self._measured_at = -1, -1
        self._attack = self.attack
        self._seconds_logged = self.seconds
        if self.data is None:
            self._samples = None
        elif self._samples is None:
            self._samples = self._take(self.data)
        else:
            self._try(self._samples)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """See from which training step a resumed run continues.

        Args:
            epoch: int, the index of the epoch.
            logs: not used.
        """
        self._epoch = epoch
        self._last_batch = -1
        if self._step < 0:
            optimizer = self.model.optimizer
            updates = int(keras.ops.convert_to_numpy(optimizer.iterations))
            self._step = updates * (getattr(optimizer, "gradient_accumulation_steps", None) or 1)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Measure, if this step is due.

        Args:
            batch: int, the index of the last batch trained on in this epoch.
            logs: not used.
        """
        if self.step_freq is None:
            # Keras may call from other threads then.
            return
        # Under steps_per_execution it is several steps at once, and Keras counts beyond the last of an epoch.
        batch = min(batch, (self.params.get("steps") or batch + 1) - 1)
        before, self._step = self._step, self._step + batch - self._last_batch
        self._last_batch = batch
        if self._samples is not None and self._step // self.step_freq > before // self.step_freq:
            self._measure(f"training step {self._step}")

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, if this epoch is due, and add the values to the logs.

        Args:
            epoch: int, the index of the epoch.
            logs: the dictionary to add to.

        Raises:
            ValueError: the validation data of `fit` are wanted and cannot be had.
        """
        if self._samples is None:
            self._samples = self._take(validation_data(self.model))
        if self._is_due(epoch) and not (self.step_freq and self._measured_at == self._step):
            self._measure(f"epoch {epoch + 1}")
        if logs is not None:
            logs.update({**self._values, _SECONDS: self.seconds - self._seconds_logged})
        self._seconds_logged = self.seconds

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file of TensorBoard's summaries.

        Args:
            logs: not used.
        """
        if self._summaries is not None:
            self._summaries.close()

    def _is_due(self, epoch: int) -> bool:
        if not self._values:
            return True
        if isinstance(self.epoch_freq, Container):
            return epoch + 1 in self.epoch_freq
        return (epoch + 1) % self.epoch_freq == 0

    def _take(self, data: Any) -> FixedSamples:
        start = time.perf_counter()
        samples = FixedSamples(data, self.model, self.num_samples, self.seed, self.batch_size)
        self.seconds += time.perf_counter() - start
        self._try(samples)
        return samples

    def _try(self, samples: FixedSamples) -> None:
        start = time.perf_counter()
        report = self._evaluate(samples.first_batch())
        if self._summaries is not None:
            self._summaries.check(report)
        self.seconds += time.perf_counter() - start

    def _measure(self, moment: str) -> None:
        start = time.perf_counter()
        assert self._samples is not None
        try:
            self.report, nearest = self._measure_all(self._samples)
            self._values = {name: getattr(self.report, attribute) for name, attribute in _LOGGED.items()}
            self._measured_at = self._step
        except Exception as error:
            self._values = dict.fromkeys(_LOGGED, float("nan"))
            _warn_of_failure("Margins could not be measured", moment, "The margins in its logs are NaN", error)
        else:
            self._write(self.report, nearest, moment)
        self.seconds += time.perf_counter() - start

    def _measure_all(self, samples: FixedSamples) -> tuple[MarginReport, PerturbedImages | None]:
        reports: list[MarginReport] = []
        nearest = NearestImages(self.num_images if self._summaries is not None else 0)
        for x, y in samples.parts():
            reports.append(self._evaluate((x, y)))
            nearest.add(x, reports[-1])
        report = MarginReport.concatenate(reports)
        # Kept, as it compiles once.
        self._attack = self._attack or DeepFool.from_config(report.attack)
        return report, nearest.perturb(self.model, self._attack)

    def _evaluate(self, data: Any) -> MarginReport:
        return evaluate_margins(self.model, data, self.attack, self.batch_size, verbose=0)

    def _write(self, report: MarginReport, nearest: PerturbedImages | None, moment: str) -> None:
        # All workers measure, so that all read the same logs; one writes.
        if self._summaries is None or not self.model.distribute_strategy.extended.should_save_summary:
            return
        try:
            self._summaries.write(report, nearest, step=self._step if self.step_freq else self._epoch)
        except Exception as error:
            _warn_of_failure("TensorBoard's summaries could not be written", moment, "Its logs are complete", error)

    def _warn_of_earlier_readers(self) -> None:
        for callback in _callbacks_before(self):
            reader = next((name for name in _READERS if isinstance(callback, getattr(keras.callbacks, name))), None)
            # One that watches something else misses nothing.
            if reader is not None and getattr(callback, "monitor", "val_margin") in (*_LOGGED, _SECONDS):
                warnings.warn(
                    f"{type(callback).__name__} stands before MarginLogger in the list of callbacks, so it will not "
                    "see val_margin in the logs: put MarginLogger first.",
                    stacklevel=2,
                )


def _callbacks_before(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """The callbacks that are called earlier; none where that cannot be found out."""
    # A callback is not told of the list it is in: but it is the list that calls.
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and callback in caller.callbacks:
            return list(caller.callbacks[: caller.callbacks.index(callback)])
        frame = frame.f_back
    return []


def _warn_of_failure(what: str, moment: str, consequence: str, error: Exception) -> None:
    warnings.warn(
        f"{what} after {moment}; training goes on. {consequence}. {type(error).__name__}: {error}", stacklevel=4
    )
