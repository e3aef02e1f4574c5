"""The metrics of margins that `fit` shows, and how they average over batches."""

from typing import NamedTuple

import keras
import tensorflow as tf

from keras_amm.gradient.metric_names import metric_names
from keras_amm.network.zero_gradients import have_no_gradient
from keras_amm.search.path import Path
from keras_amm.typing import Tensor


class MarginStatistics(NamedTuple):
    """What one batch adds to the metrics, as scalar float32 tensors.

    Attributes:
        sum_of_margins: sum over the samples of their margins: of a correct one whose attack succeeded, the norm; of a
            correct one that was not searched, its estimate, times the share of the correct ones searched whose attack
            succeeded; of all others 0, as in `MarginReport.margins`.
        num_samples: how many samples there are.
        num_success: how many attacks succeeded.
        num_searched: how many samples were attacked.
        num_stuck: how many of these could not take a step, for the gradient is zero.
        num_infinite: how many of these went infinitely far.
        num_counted: how many samples the penalty counted.
        num_capped: of how many of these the penalty has no gradient, because it is at its cap, or 0.
        median: the median of the correct samples' norms, of the global batch; 0 if no attack on them succeeded.
    """

    sum_of_margins: Tensor
    num_samples: Tensor
    num_success: Tensor
    num_searched: Tensor
    num_stuck: Tensor
    num_infinite: Tensor
    num_counted: Tensor
    num_capped: Tensor
    median: Tensor


def batch_statistics(path: Path, median: Tensor, selected: Tensor, capped: Tensor) -> MarginStatistics:
    """The statistics of a searched batch: its median margin, which samples count [b], which have no gradient [b]."""
    is_stuck = path.searched & have_no_gradient(path.norm, path.success)
    is_infinite = path.searched & ~tf.math.is_finite(path.norm)
    return MarginStatistics(
        sum_of_margins=_sum_of_margins(path),
        num_samples=tf.cast(tf.size(path.norm), tf.float32),
        num_success=_count(path.success),
        num_searched=_count(path.searched),
        num_stuck=_count(is_stuck),
        num_infinite=_count(is_infinite),
        num_counted=_count(selected),
        num_capped=_count(capped),
        median=median,
    )


def _sum_of_margins(path: Path) -> Tensor:
    """The sum of the margins of a batch, a scalar."""
    reached, searched, estimated = (path.correct & mask for mask in (path.success, path.searched, ~path.searched))
    of_reached, of_estimated = (
        tf.reduce_sum(tf.where(mask, path.norm, tf.zeros_like(path.norm))) for mask in (reached, estimated)
    )
    # Where no attack succeeds, as on a collapsed network, an estimate is no margin either.
    share = tf.where(tf.reduce_any(searched), tf.math.divide_no_nan(_count(reached), _count(searched)), 1.0)
    return of_reached + tf.cast(share, of_estimated.dtype) * of_estimated


def _count(mask: Tensor) -> Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.float32))


class NanMean(keras.metrics.Mean):
    """A mean that is NaN, not zero, where nothing was measured."""

    def result(self) -> Tensor:
        """The mean so far, a scalar."""
        return keras.ops.where(self.count > 0, super().result(), float("nan"))


def margin_metrics() -> list[keras.metrics.Metric]:
    """The metrics that `fit` shows beside the loss."""
    return [NanMean(name=name) for name in metric_names(None, ())]


def update(
    metrics: list[keras.metrics.Metric],
    loss: Tensor,
    extra_losses: list[Tensor],
    penalty: Tensor,
    statistics: MarginStatistics,
    batch_size: Tensor,
) -> None:
    """Add a batch to the metrics.

    Args:
        metrics: Keras's mean of the loss, followed by the `margin_metrics`.
        loss: scalar, the loss of this replica without the penalty: the compiled loss plus the extra losses.
        extra_losses: scalars, which layers add to the loss, such as weight decay.
        penalty: scalar, the margin penalty.
        statistics: the margins of the batch.
        batch_size: scalar, the number of samples in the batch.
    """
    total, classification_loss, margin_penalty, margin, attack_success = metrics
    # Keras divides the loss of each replica by their number, because the optimizer sums the replicas' gradients.
    loss *= tf.distribute.get_strategy().num_replicas_in_sync
    total.update_state(loss + tf.cast(penalty, loss.dtype), sample_weight=batch_size)
    compiled_loss = loss - sum(tf.cast(extra, loss.dtype) for extra in extra_losses)
    classification_loss.update_state(compiled_loss, sample_weight=batch_size)
    margin_penalty.update_state(penalty, sample_weight=batch_size)
    sum_of_margins, num_samples, num_success, num_searched, *_ = statistics
    margin.update_state(
        tf.math.divide_no_nan(sum_of_margins, tf.cast(num_samples, sum_of_margins.dtype)),
        sample_weight=num_samples,
    )
    attack_success.update_state(tf.math.divide_no_nan(num_success, num_searched), sample_weight=num_searched)
