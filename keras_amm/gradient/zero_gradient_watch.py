"""Telling, once, that training searches a network that has no gradient in the image."""

import warnings

import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.gradient.metrics import MarginStatistics
from keras_amm.network.zero_gradients import warning_of_zero_gradients
from keras_amm.typing import Variable

# A new or unlucky network may have no gradient in a batch or two.
_BATCHES = 3


class ZeroGradientWatch:
    """Counts the batches in which no search could take a step, until one could, or the warning is given.

    Several replicas do not count: a variable of their own would need a reduction in every step.
    """

    def __init__(self) -> None:
        self._counts: Variable = None
        self._is_over = False

    def prepare(self) -> None:
        """Make the variable before a step is traced."""
        if self._counts is None and tf.distribute.get_strategy().num_replicas_in_sync == 1:
            self._counts = tf.Variable([0, 0], trainable=False, dtype=tf.int64)

    def add(self, statistics: MarginStatistics) -> None:
        """Count a batch within a training step."""
        if self._counts is None or replicas.are_several():
            return
        was_searched = statistics.num_searched > 0
        was_stuck = was_searched & (statistics.num_stuck >= statistics.num_searched)
        self._counts.assign_add(tf.cast(tf.stack([was_searched, was_stuck]), tf.int64))

    def tell(self) -> None:
        """Warn, after a training step, if no search so far could take a step."""
        if self._counts is None or self._is_over:
            return
        searched, stuck = self._counts.numpy()
        self._is_over = stuck < searched or stuck >= _BATCHES
        if stuck >= _BATCHES:
            warnings.warn(warning_of_zero_gradients(f"all images of the first {stuck} batches"), stacklevel=2)
