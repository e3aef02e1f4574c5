"""The metrics of margins that `fit` shows, and how they average over batches."""

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from keras_amm.gradient.metric_names import metric_names
from keras_amm.network.zero_gradients import have_no_gradient
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search.path import Path
from keras_amm.typing import Tensor


class MarginStatistics(NamedTuple):
    """What one batch adds to the metrics, as scalar float32 tensors.

    Attributes:
        sum_of_margins: sum over the samples of their margins: of a correct one whose attack succeeded, the norm; of a
            correct one that was not searched, its estimate, times the share of the correct ones searched whose attack
            succeeded; of all others 0, as in `MarginReport.margins`.
        num_samples: how many samples there are.
        num_success: how many attacks succeeded, `Path.success`.
        num_searched: how many samples were attacked.
        num_stuck: how many of these could not take a step, for the gradient is zero.
        num_infinite: how many of these went infinitely far.
        num_counted: how many samples the penalty counted.
        num_capped: of how many of these the penalty has no gradient, because it is at its cap, or 0.
        num_clipped: how many of these the penalty would pull harder than its bound allows; 0 where it has none.
        sum_of_cosines: sum over the samples counted of the cosine between perturbation and boundary's normal; 0 unless
            `gradient="boundary"`.
        sum_of_influences: sum over the samples counted of the most by which one was pulled in this step, as a multiple
            of the cross-entropy's largest pull; 0 without `max_influence`.
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
    num_clipped: Tensor
    sum_of_cosines: Tensor
    sum_of_influences: Tensor
    median: Tensor


def batch_statistics(
    path: Path,
    median: Tensor,
    selected: Tensor,
    capped: Tensor,
    num_clipped: Tensor,
    sum_of_cosines: Tensor,
    influence: Tensor,
) -> MarginStatistics:
    """The statistics of a searched batch.

    They are of its median margin, of which samples count [b], which of these have no gradient [b], how many are at the
    bound of their pull, of the sum of the cosines, and of the influence in this step.
    """
    is_stuck = path.searched & have_no_gradient(path.norm, path.success)
    is_infinite = path.searched & ~tf.math.is_finite(path.norm)
    num_counted = _count(selected)
    return MarginStatistics(
        sum_of_margins=_sum_of_margins(path),
        num_samples=tf.cast(tf.size(path.norm), tf.float32),
        num_success=_count(path.success),
        num_searched=_count(path.searched),
        num_stuck=_count(is_stuck),
        num_infinite=_count(is_infinite),
        num_counted=num_counted,
        num_capped=_count(capped),
        num_clipped=num_clipped,
        sum_of_cosines=tf.cast(sum_of_cosines, tf.float32),
        sum_of_influences=num_counted * influence,
        median=median,
    )


def median_of(norm: Tensor, counts: Tensor) -> Tensor:
    """The (lower) median of the norms [B] that count, a scalar; 0 if there are none."""
    ordered = tf.sort(tf.where(counts, norm, tf.fill(tf.shape(norm), norm.dtype.max)))
    number = tf.reduce_sum(tf.cast(counts, tf.int32))
    # Not a slice, whose place XLA takes for a constant: it would compile the step anew for every batch.
    middle = tf.gather(ordered, tf.maximum(number - 1, 0) // 2)
    return tf.where(number > 0, middle, tf.zeros((), norm.dtype))


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


def optional_metrics(regularizer: MarginRegularizer) -> tuple[str, ...]:
    """The names of the metrics that only some regularizers have."""
    is_bounded = regularizer.max_influence is not None
    has = {
        "boundary_cosine": regularizer.gradient == "boundary",
        "influence": is_bounded,
        "at_cap": regularizer.has_cap,
        "at_bound": is_bounded and not regularizer.is_automatic,
    }
    return tuple(name for name, is_there in has.items() if is_there)


def margin_metrics(optional: Sequence[str]) -> list[keras.metrics.Metric]:
    """The metrics that `fit` shows beside the loss, the optional ones of these names last."""
    return [NanMean(name=name) for name in metric_names(None, (), optional)]


def update(
    metrics: list[keras.metrics.Metric],
    optional: Sequence[str],
    loss: Tensor,
    extra_losses: list[Tensor],
    penalty: Tensor,
    statistics: MarginStatistics,
    batch_size: Tensor,
) -> None:
    """Add a batch to the metrics.

    Args:
        metrics: Keras's mean of the loss, followed by the `margin_metrics`.
        optional: the names of the optional ones among these.
        loss: scalar, the loss of this replica without the penalty: the compiled loss plus the extra losses.
        extra_losses: what layers add to the loss, such as weight decay; of one that is not a scalar, its sum.
        penalty: scalar, the margin penalty.
        statistics: the margins of the batch.
        batch_size: scalar, the number of samples in the batch.
    """
    total, classification_loss, margin_penalty, margin, attack_success, *others = metrics
    # Keras divides the loss of each replica by their number, because the optimizer sums the replicas' gradients.
    loss *= tf.distribute.get_strategy().num_replicas_in_sync
    total.update_state(loss + tf.cast(penalty, loss.dtype), sample_weight=batch_size)
    compiled_loss = loss - sum(tf.reduce_sum(tf.cast(extra, loss.dtype)) for extra in extra_losses)
    classification_loss.update_state(compiled_loss, sample_weight=batch_size)
    margin_penalty.update_state(penalty, sample_weight=batch_size)
    sums = {
        "boundary_cosine": statistics.sum_of_cosines,
        "influence": statistics.sum_of_influences,
        "at_cap": statistics.num_capped,
        "at_bound": statistics.num_clipped,
    }
    means = [
        (margin, statistics.sum_of_margins, statistics.num_samples),
        (attack_success, statistics.num_success, statistics.num_searched),
        *((metric, sums[name], statistics.num_counted) for metric, name in zip(others, optional, strict=True)),
    ]
    for metric, total_of_metric, number in means:
        mean = tf.math.divide_no_nan(total_of_metric, tf.cast(number, total_of_metric.dtype))
        metric.update_state(mean, sample_weight=number)
