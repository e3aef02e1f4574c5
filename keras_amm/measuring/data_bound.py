"""A bound on margins that the data give: on the way to an image that is predicted otherwise, there is a boundary.

An attack follows gradients, and where they mislead it, it goes past what is near. Of the images measured, the nearest
one that is predicted otherwise, in the l2 norm, shows a direction that needs no gradient. If the way to it has crossed
a boundary before it is nine tenths as long as the attack's perturbation, the crossing is found by bisection, and is the
nearer point. A smaller gain is no more than an attack's overshoot. That costs one pass over the images, and a few more
over those whose margin is bounded.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from keras_amm.attack import Perturbation
from keras_amm.execution.xla import Rows
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import expand_to
from keras_amm.search.norms import norm_for
from keras_amm.typing import Tensor

# The images that later ones are compared with: so many, or as many as have so many values.
_MOST_IMAGES, _MOST_VALUES = 512, 2**23
_NEARER = 0.9
# A crossing is known to a thousandth of the attack's norm.
_BISECTIONS = 10


class Bounded(NamedTuple):
    """What is known of B images after the data were looked at.

    Attributes:
        norm: float tensor [B], of the nearer point.
        delta: float tensor [B, ...], the perturbation to it.
        is_bounded: boolean tensor [B], whether it lies on the way to another image.
    """

    norm: Tensor
    delta: Tensor
    is_bounded: Tensor


def bound(
    classifier: Classifier, x: Tensor, predictions: Tensor, found: Perturbation, others: Tensor, classes: Tensor
) -> Bounded:
    """The nearer of an attack's points and of those on the ways to other images; a failed attack remains as it is.

    Args:
        classifier: the network.
        x: float tensor [B, ...], the images.
        predictions: int32 tensor [B], their predicted classes.
        found: what an attack has found for them.
        others: float tensor [M, ...], images that may be near.
        classes: int32 tensor [M], their predicted classes.
    """
    norm, nearest = norm_for(classifier), _nearest(x, predictions, others, classes)
    way = tf.gather(others, nearest) - x
    length = norm.of(way)
    # As a part of the way, how far is nearer. Where there is no such image, the nearest one is any, of the same class.
    reach = tf.minimum(1.0, tf.math.divide_no_nan(_NEARER * found.norm, length))
    counts = found.success & (tf.gather(classes, nearest) != predictions)
    rows = Rows(counts & _is_changed(classifier, x, predictions, expand_to(reach, way) * way))

    def halve(i: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, ...]:
        middle = 0.5 * (low + high)
        crossed = _is_changed(classifier, start, goal, expand_to(middle, direction) * direction)
        return i + 1, tf.where(crossed, low, middle), tf.where(crossed, middle, high)

    start, goal, direction, first = rows.take((x, predictions, way, reach))
    steps = tf.where(tf.size(first) > 0, _BISECTIONS, 0)
    _, _, high = tf.while_loop(lambda i, *_: i < steps, halve, (0, tf.zeros_like(first), first))
    part = rows.put(tf.zeros_like(reach), high)
    is_bounded = part > 0.0
    delta = classifier.for_model(expand_to(part, way) * way)
    return Bounded(
        tf.where(is_bounded, part * length, found.norm),
        tf.where(expand_to(is_bounded, delta), delta, found.delta),
        is_bounded,
    )


def _nearest(x: Tensor, predictions: Tensor, others: Tensor, classes: Tensor) -> Tensor:
    """The numbers [B] of the other images that are nearest and predicted otherwise; any number where none is."""
    x, others = (tf.reshape(part, [tf.shape(part)[0], -1]) for part in (x, others))
    # The squared distances, less those from the origin, which do not matter for the order.
    distances = tf.reduce_sum(tf.square(others), axis=1) - 2.0 * tf.matmul(x, others, transpose_b=True)
    is_other = predictions[:, None] != classes
    return tf.argmin(tf.where(is_other, distances, distances.dtype.max), axis=1, output_type=tf.int32)


def _is_changed(classifier: Classifier, x: Tensor, predictions: Tensor, delta: Tensor) -> Tensor:
    return tf.argmax(classifier(x + delta), axis=1, output_type=predictions.dtype) != predictions


class SeenImages:
    """Images that were measured, of one shape and dtype, and their predicted classes: a random sample of limited size.

    It is the same sample whenever the same images come in the same order.

    Example:
    >>> seen = keras_amm.measuring.data_bound.SeenImages((2,), "float64")
    >>> seen.add(np.zeros((3, 2)), np.arange(3))
    >>> seen.images.shape, seen.classes.tolist()
    ((3, 2), [0, 1, 2])
    """

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self._rng = np.random.default_rng(0)
        self._number = 0
        self._most = max(1, min(_MOST_IMAGES, _MOST_VALUES // max(1, int(np.prod(shape)))))
        self.images = np.zeros((0, *shape), dtype)
        self.classes = np.zeros(0, "int32")

    def add(self, images: np.ndarray, classes: np.ndarray) -> None:
        """Add a batch [B, ...] with its predicted classes [B]."""
        free = self._most - len(self.classes)
        if free:
            self.images = np.concatenate([self.images, images[:free]])
            self.classes = np.concatenate([self.classes, classes[:free]])
        # Vitter's Algorithm R: each of the images seen is as likely in the sample as any other.
        for i in range(free, len(classes)):
            slot = int(self._rng.integers(self._number + i + 1))
            if slot < self._most:
                self.images[slot], self.classes[slot] = images[i], classes[i]
        self._number += len(classes)
