"""Watching a training for what makes its margins meaningless, and saying once in a fit what to do."""

import inspect
import warnings
from typing import Any

import keras
import tensorflow as tf

from keras_amm.attack import Attack
from keras_amm.execution import replicas
from keras_amm.gradient.conditions import CONDITIONS, Setting, Window
from keras_amm.gradient.metric_names import is_cross_entropy
from keras_amm.gradient.metrics import MarginStatistics
from keras_amm.network.layers import input_rescaling
from keras_amm.network.structures import given_entries, only_entry
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search.linearisation import CleanPass
from keras_amm.typing import Tensor, TensorLike, Variable

# The sums are read after each of the first steps, and then at the end of each window only: reading waits for the step.
_FIRST_STEPS, _WINDOW = 3, 30
# As many batches must the last window of a fit have for conditions that must last.
_AT_LEAST = 10


class HealthWatch:
    """Sums up a window of batches within the training step, and warns on the host, of each condition once in a fit.

    Several replicas do not count: a variable of their own would need a reduction in every step.
    """

    def __init__(self) -> None:
        self._sums: Variable = None
        self._setting: Setting | None = None
        self.begin()

    def begin(self) -> None:
        """Begin a fit: forget what was counted and told."""
        self._told: set[str] = set()
        self._steps = self._windows = 0
        self._is_judged = True
        if self._sums is not None:
            self._sums.assign(tf.zeros_like(self._sums))

    def prepare(self, regularizer: MarginRegularizer, attack: Attack, model: keras.Model, loss: Any) -> None:
        """Make the variable before a step is traced; `loss` is the one compiled, None if the model has its own."""
        rescaling = [each.name for each in input_rescaling(model)]
        self._setting = Setting(regularizer, attack, expects_probabilities(loss), rescaling, is_sum(loss))
        if self._sums is None and tf.distribute.get_strategy().num_replicas_in_sync == 1:
            self._sums = tf.Variable(tf.zeros(len(Window._fields)), trainable=False)

    def add(self, statistics: MarginStatistics, clean: CleanPass, y: TensorLike, y_pred: TensorLike) -> None:
        """Count a batch within a training step; of a batch that has no penalty, nothing counts.

        Args:
            statistics: what its search found.
            clean: the pass over its images.
            y: its labels.
            y_pred: the model's output for it in training mode.
        """
        if self._sums is None or self._setting is None or replicas.are_several():
            return
        was_searched = statistics.num_searched > 0
        y_pred = only_entry(y_pred)
        num_classes = clean.logits.shape[1]
        labelled_alike = _largest_class(clean.class_indices(y)[0], num_classes)
        needs_both = num_classes == 2 and self._setting.regularizer.is_automatic
        window = Window(
            batches=1.0,
            searched_batches=was_searched,
            stuck_batches=was_searched & (statistics.num_stuck >= statistics.num_searched),
            samples=statistics.num_samples,
            predicted_alike=_largest_class(_predicted(y_pred), num_classes),
            labelled_alike=labelled_alike,
            one_sided_batches=needs_both & (labelled_alike >= statistics.num_samples),
            searched=statistics.num_searched,
            success=statistics.num_success,
            counted=statistics.num_counted,
            capped=statistics.num_capped,
            clipped=statistics.num_clipped,
            infinite=statistics.num_infinite,
            negative_batches=tf.reduce_min(y_pred) < 0,
            size_of_values=tf.sqrt(tf.reduce_mean(tf.square(clean.x))),
        )
        sums = tf.stack([tf.cast(value, tf.float32) for value in window])
        self._sums.assign_add(tf.where(statistics.num_samples > 0, sums, tf.zeros_like(sums)))

    def tell(self) -> None:
        """Warn, after a training step, of what its window shows."""
        self._steps += 1
        self._is_judged = self._steps <= _FIRST_STEPS or self._steps % _WINDOW == 0
        if self._is_judged:
            self._judge(_WINDOW)

    def end(self) -> None:
        """Warn, at the end of a fit, of what the window shows that it has begun."""
        if not self._is_judged:
            self._judge(_AT_LEAST)

    def _judge(self, at_least: int) -> None:
        """Warn of the window so far; one with so many batches is enough for conditions that must last, and ends."""
        if self._sums is None or self._setting is None:
            return
        window = Window(*self._sums.numpy().tolist())
        is_enough = window.batches >= at_least
        for condition in CONDITIONS:
            # A new network may predict one class, or be flat, for a while; so the first window shows little.
            if condition.is_lasting and not (is_enough and self._windows):
                continue
            if condition.name not in self._told and condition.holds(window, self._setting):
                self._told.add(condition.name)
                _warn(condition.message(window, self._setting))
                break
        if is_enough:
            self._windows += 1
            self._sums.assign(tf.zeros_like(self._sums))


def _warn(message: str) -> None:
    """Warn, even if another fit of this process has said the same: `warnings.warn` shows a text of one place once."""
    frame = inspect.currentframe()
    warnings.warn_explicit(message, UserWarning, __file__, frame.f_lineno if frame else 1, module=__name__)


def expects_probabilities(loss: Any) -> bool:
    """Whether what `compile` takes as a loss is a cross-entropy of probabilities, from_logits=False.

    Example:
    >>> keras_amm.gradient.health.expects_probabilities("sparse_categorical_crossentropy")
    True
    >>> keras_amm.gradient.health.expects_probabilities(keras.losses.BinaryCrossentropy(from_logits=True))
    False
    """
    parts = given_entries(loss)
    return is_cross_entropy(loss) and not any(getattr(part, "from_logits", False) for part in parts)


def is_sum(loss: Any) -> bool:
    """Whether what `compile` takes as a loss is summed over a batch, not averaged.

    Example:
    >>> keras_amm.gradient.health.is_sum(keras.losses.SparseCategoricalCrossentropy(reduction="sum"))
    True
    """
    return any(getattr(part, "reduction", None) == "sum" for part in given_entries(loss))


def _predicted(y_pred: Tensor) -> Tensor:
    """The classes [B] that an output [B, units] predicts."""
    if y_pred.shape[1] > 1:
        return tf.argmax(y_pred, axis=1, output_type=tf.int32)
    # Keras keeps the logits with the output of a sigmoid.
    return tf.cast(y_pred[:, 0] > (0.5 if hasattr(y_pred, "_keras_logits") else 0.0), tf.int32)


def _largest_class(classes: Tensor, num_classes: int) -> Tensor:
    """How many of the classes [B] are the one that most are, a scalar."""
    return tf.reduce_max(tf.reduce_sum(tf.one_hot(classes, num_classes), axis=0))
