"""A callback that watches margins grow during training."""

import contextlib
import os
import time
from collections.abc import Container, Iterator, Sequence
from typing import Any

import keras

from keras_amm.arguments import require_real, require_whole
from keras_amm.attack import Attack, require_attack
from keras_amm.measuring.batches import hint_of_pair
from keras_amm.measuring.measurer import Measurer
from keras_amm.measuring.nearest import PerturbedImages
from keras_amm.measuring.notes import warn_of_notes
from keras_amm.measuring.samples import FixedSamples, choose_samples
from keras_amm.monitoring.fit import (
    RunningFit,
    TrainingSteps,
    names_not_taken,
    validation_data,
    warn_of_earlier_readers,
    warn_of_failure,
)
from keras_amm.monitoring.logged import SECONDS, logged_names, logged_values
from keras_amm.monitoring.tensorboard import MarginSummaries
from keras_amm.network.inputs import unwrapped
from keras_amm.report import MarginReport


class MarginLogger(keras.callbacks.Callback):
    """Measures margins while `fit` trains, for the logs and for TensorBoard.

    Adds to each epoch's logs

    - `val_margin`, the mean margin over all images measured, 0 where an image is misclassified or its attack failed
      (`MarginReport.margin`): **choose a model by this**, which falls when a classifier of many classes collapses,
    - `val_margin_median`, the median of the same margins,
    - `val_signed_margin`, the mean margin where a misclassified image counts minus the distance to its label
      (`MarginReport.signed_mean`): **choose by this with two or very unequal classes**, where it falls, too,
    - `val_paper_margin`, the paper's average of all norms from the predicted class (`MarginReport.mean`): compare this
      with the paper's tables, but choose no model by it, for it may be large where most images are misclassified,
    - `val_robust_accuracy_0.5` and so on for each of `radii`,
    - `val_attack_success`, the fraction of images whose attack succeeded, `val_most_predicted_share`, that of the most
      frequent prediction, near 1 where a classifier collapses, and `val_margin_seconds`, what measuring cost;

    called `val_amm_margin` and so on if a metric of the model has such a name. All callbacks share one logs dictionary,
    in the order of the list: **put MarginLogger before those that read it**, such as `EarlyStopping` and `CSVLogger`.
    It warns if one of these comes earlier. Pass `mode="max"` to those that monitor `val_margin`.

    The first epoch of each `fit` is measured whatever `epoch_freq` says, because `CSVLogger` fixes its columns then. An
    epoch that is not measured has the last measured values in its logs, and 0 for `val_margin_seconds`: so no reader
    misses a value, and the patience of `EarlyStopping` counts epochs.

    A first batch is measured as a trial before training starts, so that data which do not fit are refused early. A
    model that only its first training batch builds is tried after that batch; the validation data of `fit` are tried
    after the first epoch. When measuring or writing fails later, training goes on: there is a warning, and where
    measuring failed the values of that epoch are NaN.

    With `log_dir`, TensorBoard shows these scalars, the mean margin per class, histograms of correctly classified and
    of misclassified images, robust accuracy over the radius, and the images of the smallest margins with their
    perturbations. The horizontal axis is the epoch, counted from 0 as by `keras.callbacks.TensorBoard`, or, with
    `step_freq`, the training step. A resumed run continues the count. All workers measure, and the chief writes.

    Any Keras classifier will do, not only an `AMMModel`. Weights, metrics and random numbers are left alone.

    Args:
        data: what `keras_amm.evaluate_margins` takes: arrays (x, y), or a `tf.data.Dataset` or
            `keras.utils.PyDataset`; None for the validation data of `fit`.
        log_dir: path of TensorBoard's log directory, written to in its folder `margins`; None for no summaries.
        epoch_freq: as the `validation_freq` of `fit`, every so many epochs, or a container of epochs, counted from 1.
        step_freq: int, to measure every so many training steps besides, for TensorBoard; None for epochs alone. The
            validation data of `fit` are known, and measured, from the end of the first epoch on.
        num_samples: int, measure a random subsample of this size, drawn once; None for all images. DeepFool costs many
            times an evaluation.
        seed: int, which subsample.
        attack: `DeepFool` or another `Attack`; None for the default of `evaluate_margins`.
        batch_size: int, the most images attacked at a time; None for 128 of arrays.
        num_images: int, how many images of the smallest margins TensorBoard shows.
        class_names: sequence of strings, names of the classes for TensorBoard; None for indices.
        radii: floats, in the norm and units of the margins, at which to log the robust accuracy.

    Attributes:
        report: the last `MarginReport`; None before the first.
        seconds: float, the time spent in this callback so far.

    Raises:
        TypeError: `attack` is not an `Attack`, or `log_dir` not a path.
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
        attack: Attack | None = None,
        batch_size: int | None = None,
        num_images: int = 8,
        class_names: Sequence[str] | None = None,
        radii: Sequence[float] = (),
    ) -> None:
        super().__init__()
        require_attack(attack)
        if log_dir is not None and not isinstance(log_dir, (str, os.PathLike)):
            received = f"log_dir of type {type(log_dir).__name__}.{hint_of_pair(log_dir)}"
            raise TypeError(f"`log_dir` must be a path or None. Received: {received}")
        if isinstance(epoch_freq, (str, bytes)) or not isinstance(epoch_freq, Container):
            require_whole("epoch_freq", epoch_freq, 1)
        for name, value in (("step_freq", step_freq), ("num_samples", num_samples), ("batch_size", batch_size)):
            if value is not None:
                require_whole(name, value, 1)
        require_whole("num_images", num_images, 0)
        for radius in radii:
            require_real("radii", radius, lambda r: r >= 0, "at least 0 each")
        self.data = data
        self.epoch_freq = epoch_freq
        self.step_freq = step_freq
        self.num_samples = num_samples
        self.seed = seed
        self.attack = attack
        self.batch_size = batch_size
        self.num_images = num_images
        self.radii = tuple(radii)
        self.report: MarginReport | None = None
        self.seconds = 0.0
        # Tells Keras whether it may call this at the end of a batch from another thread, while training goes on.
        self.async_safe = step_freq is None
        self._summaries: MarginSummaries | None = None
        if log_dir is not None:
            axis = "epoch" if step_freq is None else "step"
            self._summaries = MarginSummaries(log_dir, class_names, axis, self.radii)
        self._samples: FixedSamples | None = None
        self._fit = RunningFit(self.seconds)

    def on_train_begin(self, logs: Any = None) -> None:
        """Take the images, and measure the first batch of them as a trial.

        Args:
            logs: not used.

        Raises:
            TypeError: the model is not a Keras model.
            ValueError: data or model are not fit to be measured.
        """
        warn_of_earlier_readers(self, [*logged_names(self.radii), SECONDS])
        self._fit = RunningFit(self.seconds)
        if self.data is None:
            # The validation data of another fit are other images.
            self._samples = None
        self._prepare_if_built()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """See from which training step a resumed run continues.

        Args:
            epoch: int, the index of the epoch.
            logs: not used.
        """
        if self.step_freq is not None:
            self._fit.steps = self._fit.steps or TrainingSteps(self.model, self.step_freq)
            self._fit.steps.begin_epoch()

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Try the images on a model that was built by the batch before.

        Args:
            batch: int, the index of the batch in this epoch.
            logs: not used.

        Raises:
            ValueError: data or model are not fit to be measured.
        """
        # Not at the end of the batch before, which Keras may report from another thread.
        self._prepare_if_built()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Measure, if this step is due.

        Args:
            batch: int, the index of the last batch trained on in this epoch.
            logs: not used.

        Raises:
            ValueError: data or model are not fit to be measured.
        """
        if self._fit.steps is None:
            # Keras may then call this from another thread.
            return
        is_due = self._fit.steps.advance(batch, self.params.get("steps"))
        self._prepare_if_built()
        if is_due and self._fit.samples is not None:
            now = self._fit.steps.done
            self._measure(self._fit.samples, f"training step {now}", now)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measure, if this epoch is due, and add the values to the logs.

        Args:
            epoch: int, the index of the epoch.
            logs: the dictionary to add to.

        Raises:
            ValueError: the validation data of `fit` cannot be had; data or model are not fit to be measured.
        """
        fit = self._fit
        samples = fit.samples or self._prepare(validation_data(self.model) if self.data is None else self.data)
        now = fit.steps.done if fit.steps else epoch
        if self._is_due(epoch) and fit.measured_at != now:
            self._measure(samples, f"epoch {epoch + 1}", now)
        if logs is not None:
            logs.update(names_not_taken({**fit.values, SECONDS: self.seconds - fit.seconds_logged}, logs))
        fit.seconds_logged = self.seconds

    def on_train_end(self, logs: Any = None) -> None:
        """Close the file of TensorBoard's summaries.

        Args:
            logs: not used.
        """
        if self._summaries is not None:
            self._summaries.close()

    def _is_due(self, epoch: int) -> bool:
        if not self._fit.values:
            # At the end of the first epoch CSVLogger fixes its columns.
            return True
        every = self.epoch_freq
        return epoch + 1 in every if isinstance(every, Container) else (epoch + 1) % every == 0

    def _prepare_if_built(self) -> None:
        # Keras itself builds some models only with their first batch.
        if self.data is not None and self._fit.samples is None and getattr(unwrapped(self.model), "built", True):
            self._prepare(self.data)

    def _prepare(self, data: Any) -> FixedSamples:
        """Take the images, unless an earlier fit did, and measure the first batch of them as a trial."""
        with self._timed():
            if self._samples is None:
                self._samples = choose_samples(data, self.model, self.num_samples, self.seed, self.batch_size)
            x, y = self._samples.first_batch()
            trial = Measurer(self.model, self.attack)
            trial.add(x, y)
            trial.report()
            if self._summaries is not None:
                self._summaries.require_names(int(trial.classifier(trial.classifier.inputs(x[:1])).shape[1]))
        self._fit.samples = self._samples
        return self._samples

    def _measure(self, samples: FixedSamples, moment: str, now: int) -> None:
        with self._timed():
            try:
                measurer = Measurer(self.model, self.attack, 0 if self._summaries is None else self.num_images)
                for x, y in samples.batches():
                    measurer.add(x, y)
                report, nearest = measurer.report(), measurer.nearest()
            except Exception as error:
                self._fit.values = dict.fromkeys(logged_names(self.radii), float("nan"))
                warn_of_failure("Margins could not be measured", moment, "The margins in its logs are NaN", error)
                return
            warn_of_notes(report, stacklevel=3)
            self.report = report
            self._fit.values = logged_values(report, self.radii)
            self._fit.measured_at = now
            self._write(report, nearest, moment, now)

    def _write(self, report: MarginReport, nearest: PerturbedImages | None, moment: str, now: int) -> None:
        # All workers measure, so that the logs are the same everywhere, but only one writes.
        if self._summaries is None or not self.model.distribute_strategy.extended.should_save_summary:
            return
        try:
            self._summaries.write(report, nearest, step=now)
        except Exception as error:
            warn_of_failure("TensorBoard's summaries could not be written", moment, "Its logs are complete", error)

    @contextlib.contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start
