"""What `fit` shows of a batch's margins, and how batches are averaged."""

from typing import NamedTuple

import keras
import tensorflow as tf

from keras_amm.gradient.metric_names import metric_names
from keras_amm.search.path import Path
from keras_amm.typing import Tensor


class MarginStatistics(NamedTuple):
    """What one batch adds to the means, as scalar float32 tensors.

    Attributes:
        margin: sum over the correct samples of their norms: where the attack failed, how far it went, as in a
            `MarginReport`; where screening left the sample out, the estimate.
        num_margins: how many correct samples there are.
        num_success: how many attacks succeeded.
        num_searched: how many samples were attacked.
        median: the median of the correct samples' norms, of the global batch; 0 if no attack on them succeeded.
    """

    margin: Tensor
    num_margins: Tensor
    num_success: Tensor
    num_searched: Tensor
    median: Tensor


def batch_statistics(path: Path, median: Tensor) -> MarginStatistics:
    """The statistics of a searched batch with the given median margin."""
    margin = tf.reduce_sum(tf.where(path.correct, path.norm, tf.zeros_like(path.norm)))
    num_margins, num_success, num_searched = (
        tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in (path.correct, path.success, path.searched)
    )
    return MarginStatistics(margin, num_margins, num_success, num_searched, median)


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
    """Add a batch to Keras's mean of the loss and the `margin_metrics`.

    Args:
        metrics: the mean of the loss, then the `margin_metrics`.
        loss: scalar, the compiled loss and the extra losses, as the optimizer minimises it.
        extra_losses: scalars, those that layers add.
        penalty: scalar.
        statistics: those of the batch.
        batch_size: scalar.
    """
    total, classification_loss, margin_penalty, margin, attack_success = metrics
    # Keras divides each replica's loss, since the optimizer sums their gradients.
    loss *= tf.distribute.get_strategy().num_replicas_in_sync
    total.update_state(loss + tf.cast(penalty, loss.dtype), sample_weight=batch_size)
    compiled_loss = loss - sum(tf.cast(extra, loss.dtype) for extra in extra_losses)
    classification_loss.update_state(compiled_loss, sample_weight=batch_size)
    margin_penalty.update_state(penalty, sample_weight=batch_size)
    norms, num_margins, num_success, num_searched, _ = statistics
    margin.update_state(
        tf.math.divide_no_nan(norms, tf.cast(num_margins, norms.dtype)),
        sample_weight=num_margins,
    )
    attack_success.update_state(tf.math.divide_no_nan(num_success, num_searched), sample_weight=num_searched)
