"""One batch's margin penalty and its gradient: search, select, differentiate."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.adjoint import differentiate
from keras_amm.checks import Check, in_xla
from keras_amm.classifier import Classifier
from keras_amm.deepfool import DeepFool
from keras_amm.labels import class_indices
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search import Path


class MarginPenalty(NamedTuple):
    """The penalty of one batch.

    Attributes:
        value: scalar float tensor, lambda and 1/B included.
        gradients: list of tensors, one for each variable, or None.
        margin: scalar float tensor, the sum of the correct samples' norms
            (where the attack succeeded or was screened out).
        num_margins: scalar float tensor, how many these are.
        num_success: scalar float tensor, how many attacks succeeded.
        num_searched: scalar float tensor, how many samples were attacked.
        checks: what the values must satisfy.
    """

    value: Any
    gradients: list[Any]
    margin: Any
    num_margins: Any
    num_success: Any
    num_searched: Any
    checks: list[Check]


def margin_penalty(
    classifier: Classifier,
    attack: DeepFool,
    regularizer: MarginRegularizer,
    x: Any,
    y: Any,
    weights: list[Any],
    *,
    strength: Any,
    loss_scale: Any = 1.0,
) -> MarginPenalty:
    """The margin penalty of a batch and its gradient.

    Args:
        classifier: the network.
        attack: the DeepFool settings.
        regularizer: aggregation, shrinkage and kind of gradient.
        x: images [B, ...].
        y: labels, in any of Keras's forms.
        weights: the variables to differentiate with respect to.
        strength: scalar float tensor, lambda.
        loss_scale: scalar, a factor of the gradients alone, for mixed precision.

    Returns:
        A `MarginPenalty`.

    Raises:
        ValueError: images or labels are not fit for the network.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> found = keras_amm.penalty.margin_penalty(keras_amm.classifier.Classifier(model), keras_amm.DeepFool(),
    ...     keras_amm.MarginRegularizer(), np.ones((4, 2)), np.zeros(4), model.trainable_variables, strength=32.0)
    >>> len(found.gradients)
    2

    Reference: Equation 6.
    """
    x = classifier.inputs(x)
    num_classes = classifier.num_classes(x)
    labels, checks = class_indices(y, num_classes)
    path = attack.path(classifier, x, labels, regularizer.screening)
    selected = regularizer.select(path.norm, labels, path.correct, path.success)
    batch_size = tf.shape(labels)[0]
    with tf.GradientTape() as tape:
        tape.watch(path.norm)
        value = regularizer.penalize(path.norm, path.correct, selected, strength, batch_size)
    slope = tape.gradient(value, path.norm)
    checks = path.checks + checks + [
        Check(
            tf.reduce_all(tf.math.is_finite(slope)) & tf.math.is_finite(value),
            "The margin penalty must be finite. Got",
            (value,),
        )
    ]
    index = _indices(selected, regularizer.max_selected(x.shape[0] or batch_size, num_classes))
    factor = tf.gather(tf.where(selected, slope, tf.zeros_like(slope)), index) * tf.cast(loss_scale, slope.dtype)
    gradients = differentiate(
        classifier, path, index, factor, weights, overshoot=attack.overshoot, gradient=regularizer.gradient
    )
    return MarginPenalty(value, gradients, *_statistics(path), checks)


def _indices(selected: Any, at_most: Any) -> Any:
    """The selected samples' indices; at least one, and exactly `at_most` under XLA."""
    if in_xla():
        return tf.math.top_k(tf.cast(selected, tf.int32), at_most).indices
    first = tf.range(tf.shape(selected)[0]) == 0
    return tf.cast(tf.where(tf.where(tf.reduce_any(selected), selected, first))[:, 0], tf.int32)


def _statistics(path: Path) -> tuple[Any, Any, Any, Any]:
    known = path.correct & (path.success | tf.logical_not(path.searched))
    margin = tf.reduce_sum(tf.where(known, path.norm, tf.zeros_like(path.norm)))
    return margin, *(tf.reduce_sum(tf.cast(mask, tf.float32)) for mask in (known, path.success, path.searched))
