"""Screening: choose the samples to search, those nearest to a boundary by a first-order estimate."""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import distance
from keras_amm.search.linearisation import CleanPass, linearise_towards_all
from keras_amm.typing import Tensor


class Screening(NamedTuple):
    """The estimates of a batch, from one gradient per sample, and the choice that follows.

    Attributes:
        estimate: float tensor [B], the first-order estimate of the margin, towards the runner-up or the label; 0
            where the network has no gradient.
        squared: float tensor [B, 1], the squared norm of that gradient.
        chosen: boolean tensor [B], whether to search the sample.
    """

    estimate: Tensor
    squared: Tensor
    chosen: Tensor


def screen(
    classifier: Classifier,
    clean: CleanPass,
    correct: Tensor,
    prediction: Tensor,
    candidates: Tensor,
    *,
    overshoot: float,
    fraction: float,
) -> Screening:
    """Choose all misclassified samples, and the nearest correct ones, up to a fraction of the global batch."""
    nearest = linearise_towards_all(classifier, clean, prediction, candidates[:, :1])
    estimate = (1.0 + overshoot) * distance(nearest.g, nearest.squared[:, 0])
    all_correct = replicas.gather(correct)
    # The argsort of an argsort gives each sample's rank.
    rank = tf.argsort(tf.argsort(tf.where(all_correct, replicas.gather(estimate), estimate.dtype.max)))
    # Like the aggregation, count a fraction of the batch, not of its correct samples: if only few samples are correct,
    # all of them may matter. The product is a float32, so its ceiling may be one too many (0.3 * 100 gives 31); the
    # published results were computed that way.
    is_near = tf.cast(rank, tf.float32) < tf.math.ceil(fraction * tf.cast(tf.size(all_correct), tf.float32))
    is_near = replicas.own_part(is_near, tf.size(estimate))
    # Of an image that seems to be at a boundary, a search makes sure.
    chosen = is_near | tf.logical_not(correct) | (estimate == 0.0)
    # Where there is no gradient, a search would go nowhere: the margin is not known, but it is not infinite.
    estimate = tf.where(estimate < estimate.dtype.max, estimate, tf.zeros_like(estimate))
    return Screening(estimate, nearest.squared, chosen)
