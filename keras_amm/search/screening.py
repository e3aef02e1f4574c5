"""Screening: which samples are near enough to a boundary to be searched, by a first-order estimate."""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import distance
from keras_amm.search.linearisation import CleanPass, linearise_towards_all
from keras_amm.typing import Tensor


class Screening(NamedTuple):
    """What one gradient per sample tells.

    Attributes:
        estimate: float tensor [B], the norm by first order, towards the runner-up or the label.
        squared: float tensor [B, 1], the squared norm of that gradient.
        chosen: boolean tensor [B], whether the sample is to be searched.
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
    """Choose the misclassified samples and, as a fraction of the global batch, the nearest of the correct ones."""
    nearest = linearise_towards_all(classifier, clean, prediction, candidates[:, :1])
    estimate = (1.0 + overshoot) * distance(nearest.g, nearest.squared[:, 0])
    all_correct = replicas.gather(correct)
    rank = tf.argsort(tf.argsort(tf.where(all_correct, replicas.gather(estimate), estimate.dtype.max)))
    # A fraction of the batch, which is what the aggregation counts by too: of few correct samples all may matter.
    is_near = tf.cast(rank, tf.float32) < tf.math.ceil(fraction * tf.cast(tf.size(all_correct), tf.float32))
    is_near = replicas.own_part(is_near, tf.size(estimate))
    return Screening(estimate, nearest.squared, tf.logical_or(tf.logical_not(correct), is_near))
