"""What `fit` shows of a batch's margins, and how batches are averaged."""

from typing import NamedTuple

import keras
import tensorflow as tf

from keras_amm.search.loop import Path
from keras_amm.typing import Tensor


class MarginStatistics(NamedTuple):
    """What one batch adds to the means, as scalar float32 tensors.

    Attributes:
        margin: sum of the known margins: the norms of the correct samples whose attack succeeded, or which screening
            left out with an estimate.
        num_margins: how many these are.
        num_success: how many attacks succeeded.
        num_searched: how many samples were attacked.
    """

    margin: Tensor
    num_margins: Tensor
    num_success: Tensor
    num_searched: Tensor


def batch_statistics(path: Path) -> MarginStatistics:
    """The statistics of a searched batch."""
    known = path.correct & (path.success | tf.logical_not(path.searched))
    margin = tf.reduce_sum(tf.where(known, path.norm, tf.zeros_like(path.norm)))
    counts = (tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in (known, path.success, path.searched))
    return MarginStatistics(margin, *counts)


class NanMean(keras.metrics.Mean):
    """A mean that is NaN, not zero, where nothing was measured."""

    def result(self) -> Tensor:
        """The mean so far, a scalar."""
        return keras.ops.where(self.count > 0, super().result(), float("nan"))


def margin_metrics() -> list[keras.metrics.Metric]:
    """The metrics that `update` expects, in its order."""
    return [NanMean(name=name) for name in ("cross_entropy", "margin_penalty", "margin", "attack_success")]


def update(
    metrics: list[keras.metrics.Metric],
    cross_entropy: Tensor,
    penalty: Tensor,
    statistics: MarginStatistics,
    batch_size: Tensor,
) -> None:
    """Add a batch to the metrics; all but the metrics are scalars."""
    for metric, value in zip(metrics[:2], (cross_entropy, penalty), strict=True):
        metric.update_state(value, sample_weight=batch_size)
    margin, num_margins, num_success, num_searched = statistics
    all_failed = (num_searched > 0) & (num_success == 0)
    metrics[2].update_state(
        tf.math.divide_no_nan(margin, tf.cast(num_margins, margin.dtype)),
        # If no attack succeeded, the margin is shown as 0, not as NaN. Beside other batches it hardly counts.
        sample_weight=num_margins + tf.where(all_failed, 1e-6, 0.0),
    )
    metrics[3].update_state(tf.math.divide_no_nan(num_success, num_searched), sample_weight=num_searched)
