"""One batch's margin penalty and its gradient: search, select, differentiate."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.deepfool import DeepFool
from keras_amm.execution import replicas
from keras_amm.execution.checks import Check, in_xla
from keras_amm.gradient import adjoint, boundary
from keras_amm.network.classifier import Classifier
from keras_amm.network.labels import class_indices
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search.linearisation import CleanPass
from keras_amm.search.loop import Path


class MarginPenalty(NamedTuple):
    """The penalty of one batch.

    Attributes:
        value: scalar float tensor, lambda and 1/B included, B the global batch.
        gradients: list of tensors, one for each variable, or None; of several replicas, their sum is the penalty's.
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
    clean: CleanPass,
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
        clean: the network's pass over the images.
        y: labels, in any of Keras's forms.
        weights: the variables to differentiate with respect to.
        strength: scalar float tensor, lambda.
        loss_scale: scalar, a factor of the gradients alone, for mixed precision.

    Returns:
        A `MarginPenalty`.

    Raises:
        ValueError: images or labels are not fit for the network.

    Reference: Equation 6.
    """
    num_classes = clean.logits.shape[1]
    labels, checks = class_indices(y, num_classes)
    keep_path = regularizer.gradient != "boundary"
    path = attack.path(classifier, clean, labels, screening=regularizer.screening, keep_path=keep_path)
    value, slope, selected = _penalize(regularizer, path, labels, strength)
    checks = (
        path.checks
        + checks
        + [
            Check(
                tf.reduce_all(tf.math.is_finite(slope)) & tf.math.is_finite(value),
                "The margin penalty must be finite. Got",
                (value,),
            )
        ]
    )
    index = _indices(selected, regularizer.max_selected(clean.x.shape[0] or tf.shape(labels)[0], num_classes))
    factor = tf.gather(tf.where(selected, slope, tf.zeros_like(slope)), index) * tf.cast(loss_scale, slope.dtype)
    if regularizer.gradient == "boundary":
        gradients = boundary.differentiate(classifier, path, index, factor, weights)
    else:
        with_curvature = regularizer.gradient == "unrolled"
        gradients = adjoint.differentiate(
            classifier, path, index, factor, weights, overshoot=attack.overshoot, with_curvature=with_curvature
        )
    return MarginPenalty(value, gradients, *_statistics(path), checks)


def _penalize(regularizer: MarginRegularizer, path: Path, labels: Any, strength: Any) -> tuple[Any, Any, Any]:
    """The penalty of the global batch, its slope in each of this replica's norms, and which of these it counts."""
    size = tf.shape(labels)[0]
    norm, labels, correct, success = (replicas.gather(part) for part in (path.norm, labels, path.correct, path.success))
    selected = regularizer.select(norm, labels, correct, success)
    with tf.GradientTape() as tape:
        tape.watch(norm)
        value = regularizer.penalize(norm, correct, selected, strength, tf.shape(norm)[0])
    slope = tape.gradient(value, norm)
    return value, replicas.own_part(slope, size), replicas.own_part(selected, size)


def unless_off(strength: Any, weights: list[Any], compute: Callable[[], MarginPenalty]) -> MarginPenalty:
    """The penalty of a scheduled strength, at no cost while the strength is 0.

    Args:
        strength: scalar float tensor, lambda.
        weights: the variables that gradients are for.
        compute: makes the `MarginPenalty`; does not run where the strength is 0.

    Returns:
        What `compute` makes, or zeros that say that no margin was measured.
        Several replicas cannot communicate within a branch and always compute.

    Example:
    >>> found = keras_amm.gradient.penalty.unless_off(tf.constant(0.0), [], compute=lambda: 1 / 0)
    >>> float(found.value)
    0.0
    """
    if replicas.are_several():
        return compute()
    if tf.executing_eagerly():
        zero = tf.constant(0.0)
        return compute() if strength > 0 else MarginPenalty(zero, [None] * len(weights), zero, zero, zero, zero, [])
    traced: list[MarginPenalty] = []

    def on() -> list[Any]:
        found = compute()
        dense = [
            tf.zeros(weight.shape, weight.dtype) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, weight in zip(found.gradients, weights, strict=True)
        ]
        traced.append(found._replace(gradients=dense))
        return _tensors(traced[0])

    def off() -> list[Any]:
        # Traced after `on`. What must hold holds, and all else is zero.
        return [tf.constant(True) if t.dtype == tf.bool else tf.zeros(t.shape, t.dtype) for t in _tensors(traced[0])]

    tensors = iter(tf.cond(strength > 0, on, off))
    return tf.nest.map_structure(lambda part: part if isinstance(part, str) else next(tensors), traced[0])


def _tensors(found: MarginPenalty) -> list[Any]:
    return [tf.convert_to_tensor(part) for part in tf.nest.flatten(found) if not isinstance(part, str)]


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
