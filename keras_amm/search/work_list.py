"""What a best-first search still has to compute: the items whose results may change what the aggregation selects.

An item is a *probe*, the gradient of a sample towards one more candidate class at the point where the sample is, or a
*step* of the sample to the nearest boundary known there. MIN counts at most the nearest sample of each class, and that
only among the nearest of the batch. So an item is needed only while its sample may still be one of these.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.typing import Tensor


class Standing(NamedTuple):
    """Where B samples stand among each other, all norms in the unit in which they are compared.

    Attributes:
        label: int32 [B].
        counts: boolean [B], correct samples whose walk has not failed.
        done: boolean [B], whether the walk has ended.
        estimate: float [B], the norm that is expected; the norm itself where the walk is done.
        low: float [B], the lower end of the norms that are likely.
        high: float [B], the upper end.
    """

    label: Tensor
    counts: Tensor
    done: Tensor
    estimate: Tensor
    low: Tensor
    high: Tensor


class Known(NamedTuple):
    """What is known of B samples with k candidate classes.

    Attributes:
        standing: among each other.
        lower: float [B], what the norm hardly falls below.
        of_classes: float [B, k], the step from the point that each candidate needs at least; infinite where it is not
            to be probed.
        of_nearest: float [B], the step to the nearest boundary that is known; infinite if none is.
        is_stuck: boolean [B], whether no step can be taken.
        estimate: float [B], the norm that is expected, in the unit of the images.
    """

    standing: Standing
    lower: Tensor
    of_classes: Tensor
    of_nearest: Tensor
    is_stuck: Tensor
    estimate: Tensor


class Wanted(NamedTuple):
    """What the aggregation may select.

    Attributes:
        top: scalar int, that many of the nearest correct samples of the global batch; None for all of them.
        one_per_label: whether only the nearest of each label.
        wrong: scalar boolean, whether any misclassified sample.
        unit: float [B], in which the norms are compared, or None where it is the same for all.
    """

    top: Any
    one_per_label: bool
    wrong: bool | Tensor
    unit: Tensor | None


def limits(standing: Standing, wanted: Wanted, num_classes: int) -> Tensor:
    """The norms [B] beyond which a correct sample cannot be selected; infinite where a rank depends on the sample."""
    infinite = tf.fill(tf.shape(standing.estimate), tf.constant(float("inf"), standing.estimate.dtype))
    if wanted.top is None:
        return infinite
    estimate, low, high = (
        tf.where(standing.counts, norm, infinite) for norm in (standing.estimate, standing.low, standing.high)
    )
    last = nth_least(high, wanted.top)
    if not wanted.one_per_label:
        return tf.minimum(infinite, last)
    nearest = tf.math.unsorted_segment_min(estimate, standing.label, num_classes)
    found = tf.math.unsorted_segment_min(tf.where(standing.done, estimate, infinite), standing.label, num_classes)
    # The nearest of each class, where it is known; its place in the batch matters only if it is not clear.
    best = tf.where(found <= nearest, found, tf.constant(-1.0, found.dtype))[:, None]
    perhaps_before, surely_before = low[None] < best, high[None] < best
    is_open = (_number(surely_before) < wanted.top) & (wanted.top <= _number(perhaps_before))
    decides = ~standing.done & tf.reduce_any(is_open[:, None] & perhaps_before & ~surely_before, axis=0)
    return tf.where(decides, infinite, tf.minimum(tf.gather(nearest, standing.label), last))


def nth_least(values: Tensor, number: Tensor) -> Tensor:
    """The least of values [B], the second least and so on, by its number from 1, a scalar."""
    return -tf.math.top_k(-values, number).values[-1]


def _number(mask: Tensor) -> Tensor:
    return tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)


def needed(known: Known, limit: Tensor, correct: Tensor, wanted: Wanted) -> tuple[Tensor, Tensor]:
    """The items that are needed, boolean [B, k + 1], and in which order, float [B, k + 1], the least first.

    Columns are the probes of k candidates, and the step.

    Args:
        known: of the samples.
        limit: float [B], from `limits`.
        correct: boolean [B], whether the sample is classified correctly.
        wanted: what may be selected.
    """
    # No bound holds for misclassified samples, of which the farthest may count.
    limit = tf.where(correct, limit, tf.fill(tf.shape(limit), tf.constant(float("inf"), limit.dtype)))
    # Negations, so that norms that are NaN are computed to the end, where a check refuses them.
    may_count = ~(known.lower > limit) & (correct | wanted.wrong)
    searched = (may_count & ~known.standing.done)[:, None]
    probe = searched & (known.of_classes < known.of_nearest[:, None]) & ~(known.of_classes > limit[:, None])
    step = searched & ~tf.reduce_any(probe, axis=1, keepdims=True) & ~known.is_stuck[:, None]
    order = tf.concat([known.of_classes, known.lower[:, None]], axis=1)
    return tf.concat([probe, step], axis=1), order
