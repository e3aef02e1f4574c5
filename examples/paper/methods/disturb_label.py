"""DisturbLabel: some labels of each batch are drawn at random (Xie et al., 2016)."""

import dataclasses
from typing import Any

import tensorflow as tf

from ..data.data_sets import DataSet
from .method import Method


def disturbed(labels: Any, rate: float, num_classes: int, seed: Any) -> Any:
    """Labels of which each is replaced, with a probability of `rate`, by one at random of all classes.

    So the true one is kept with probability `1 - rate (C - 1) / C`, and each other one comes with `rate / C`.

    Args:
        labels: int tensor [B].
        rate: float in [0, 1].
        num_classes: int, C.
        seed: int tensor [2].

    Returns:
        int tensor [B].
    """
    shape = tf.shape(labels)
    drawn = tf.random.stateless_uniform(shape, seed, 0, num_classes, labels.dtype)
    is_drawn = tf.random.stateless_uniform(shape, tf.random.fold_in(seed, 1)) < rate
    return tf.where(is_drawn, drawn, labels)


@dataclasses.dataclass(frozen=True)
class DisturbLabel(Method):
    """DisturbLabel: in each iteration a part of the labels is replaced by labels at random.

    Reference: Xie et al., "DisturbLabel: regularizing CNN on the loss layer" (CVPR 2016), the distribution P(alpha) of
    its Algorithm 1: `p_c = 1 - alpha (C - 1) / C` for the true class c, and `p_i = alpha / C` for the others. Of the
    rates that it tries on MNIST this is one.

    Attributes:
        rate: alpha, the probability that a label is drawn.
    """

    rate: float = 0.1

    def disturb(self, data: DataSet, seed: int) -> DataSet:
        """The data whose training labels are drawn anew in every epoch, the same ones with the same seed."""
        num_classes = data.description.num_classes

        def disturb_batch(index: Any, batch: tuple[Any, Any]) -> tuple[Any, Any]:
            images, labels = batch
            # The variable counts the epochs that have begun.
            now = tf.random.fold_in(tf.random.fold_in([seed, 0], data.epoch), tf.cast(index, tf.int32))
            return images, disturbed(labels, self.rate, num_classes, now)

        batches = data.train.enumerate().map(disturb_batch)
        return dataclasses.replace(data, train=batches)
