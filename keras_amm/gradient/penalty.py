"""One batch's margin penalty and its gradient: search, select, differentiate."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from keras_amm.deepfool import DeepFool
from keras_amm.execution import replicas
from keras_amm.execution.checks import Check, enforce, first_failure
from keras_amm.execution.xla import indices
from keras_amm.gradient import adjoint, boundary
from keras_amm.gradient.metrics import MarginStatistics, batch_statistics
from keras_amm.network.classifier import Classifier
from keras_amm.network.labels import class_indices
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search.linearisation import CleanPass
from keras_amm.search.path import Path
from keras_amm.typing import Tensor, TensorLike, Variable


class MarginPenalty(NamedTuple):
    """The penalty of one batch.

    Attributes:
        value: scalar float tensor, lambda and 1/B included, B the global batch.
        gradients: one tensor or None for each weight. With several replicas, their sum is the penalty's gradient.
        statistics: what `fit` shows.
        checks: what the values must satisfy.
    """

    value: Tensor
    gradients: list[Tensor | None]
    statistics: MarginStatistics
    checks: list[Check]

    def added_to(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """The sums of the penalty's gradients and of others; None is zero."""
        return [
            own if other is None else other if own is None else other + tf.cast(own, other.dtype)
            for other, own in zip(gradients, self.gradients, strict=True)
        ]

    def finite_gradients(self) -> Check:
        """The check that no gradient is NaN or infinite, which the values do not show."""
        finite = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in self.gradients if gradient is not None]
        return Check(
            tf.reduce_all(finite) if finite else tf.constant(True),
            "The gradient of the margin penalty must be finite. Got NaN or infinity from a layer whose second "
            "derivative has none.",
        )

    def differentiable_value(self, weights: list[Variable]) -> Tensor:
        """The value, a scalar, whose gradient in the weights is the one that was found; raises if a check fails."""
        with tf.control_dependencies(enforce(self.checks)):
            value = tf.stop_gradient(self.value)
        for weight, gradient in zip(weights, self.gradients, strict=True):
            if gradient is not None:
                # This adds zero, but has the gradient.
                here = tf.convert_to_tensor(weight)
                value += tf.reduce_sum(tf.stop_gradient(gradient) * (here - tf.stop_gradient(here)))
        return value


def find_penalty(
    classifier: Classifier,
    attack: DeepFool,
    regularizer: MarginRegularizer,
    clean: CleanPass,
    y: TensorLike,
    weights: list[Variable],
    *,
    step: TensorLike,
    loss_scale: TensorLike,
) -> MarginPenalty:
    """The margin penalty of a batch (Equation 6) and its gradient; nothing is searched in steps of strength 0.

    Args:
        classifier: the network.
        attack: the DeepFool settings.
        regularizer: aggregation, shrinkage and kind of gradient.
        clean: the network's pass over the images.
        y: labels, in any of Keras's forms.
        weights: the variables to differentiate with respect to.
        step: scalar, the number of updates so far.
        loss_scale: scalar, a factor of the gradients alone, for mixed precision.

    Raises:
        ValueError: images or labels are not fit for the network.
    """
    strength = regularizer.strength_at(step)
    compute = functools.partial(_compute, classifier, attack, regularizer, clean, y, weights, strength, loss_scale)
    return unless_off(strength, weights, compute, clean.logits.dtype) if regularizer.is_scheduled else compute()


def _compute(
    classifier: Classifier,
    attack: DeepFool,
    regularizer: MarginRegularizer,
    clean: CleanPass,
    y: TensorLike,
    weights: list[Variable],
    strength: Tensor,
    loss_scale: TensorLike,
) -> MarginPenalty:
    """The penalty at a strength that is a scalar tensor."""
    num_classes = clean.logits.shape[1]
    labels, checks = class_indices(y, num_classes)
    keep_path = regularizer.gradient != "boundary"
    path = attack.path(classifier, clean, labels, screening=regularizer.screening, keep_path=keep_path)
    value, slope, selected = _penalize(regularizer, path, labels, strength)
    is_finite = tf.reduce_all(tf.math.is_finite(slope)) & tf.math.is_finite(value)
    checks = [*path.checks, *checks, Check(is_finite, "The margin penalty must be finite.", (value,))]
    index = indices(selected, regularizer.max_selected(clean.x.shape[0] or tf.shape(labels)[0], num_classes))
    factor = tf.gather(tf.where(selected, slope, tf.zeros_like(slope)), index) * tf.cast(loss_scale, slope.dtype)
    if regularizer.gradient == "boundary":
        gradients = boundary.differentiate(classifier, path, index, factor, weights)
    else:
        with_curvature = regularizer.gradient == "unrolled"
        gradients = adjoint.differentiate(
            classifier, path, index, factor, weights, overshoot=attack.overshoot, with_curvature=with_curvature
        )
    return MarginPenalty(value, gradients, batch_statistics(path), checks)


def _penalize(
    regularizer: MarginRegularizer, path: Path, labels: Tensor, strength: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The global batch's penalty, its slope in each norm of this replica [b], and which of them it counts [b]."""
    size = tf.shape(labels)[0]
    norm, labels, correct, success = (replicas.gather(part) for part in (path.norm, labels, path.correct, path.success))
    selected = regularizer.select(norm, labels, correct, success)
    with tf.GradientTape() as tape:
        tape.watch(norm)
        value = regularizer.penalize(norm, correct, selected, strength, tf.shape(norm)[0])
    slope = tape.gradient(value, norm)
    return value, replicas.own_part(slope, size), replicas.own_part(selected, size)


def unless_off(
    strength: Tensor, weights: list[Variable], compute: Callable[[], MarginPenalty], dtype: tf.DType = tf.float32
) -> MarginPenalty:
    """What `compute` makes in `dtype`; zeros, at no cost, while the scalar strength is 0.

    Several replicas cannot communicate within a branch, and always compute.

    Example:
    >>> found = keras_amm.gradient.penalty.unless_off(tf.constant(0.0), [], compute=lambda: 1 / 0)
    >>> float(found.value)
    0.0
    """
    if replicas.are_several():
        return compute()
    if tf.executing_eagerly():
        if strength > 0:
            return compute()
        return MarginPenalty(tf.zeros((), dtype), [None] * len(weights), _none(dtype), [])
    checks: list[Check] = []

    def on() -> list[Tensor]:
        found = compute()
        checks.extend(found.checks)
        # Both branches must return the same kinds of tensors, so all checks leave this one as a single number. A check
        # that fails therefore shows its values here.
        with tf.control_dependencies(enforce(found.checks)):
            failure = first_failure(found.checks)
        dense = [
            tf.zeros(weight.shape, weight.dtype) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, weight in zip(found.gradients, weights, strict=True)
        ]
        return [failure, found.value, *found.statistics, *dense]

    def off() -> list[Tensor]:
        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in weights]
        return [tf.constant(0), tf.zeros((), dtype), *_none(dtype), *zeros]

    failure, value, *others = tf.cond(strength > 0, on, off)
    num_statistics = len(MarginStatistics._fields)
    statistics, gradients = MarginStatistics(*others[:num_statistics]), others[num_statistics:]
    numbered = enumerate(checks, start=1)
    return MarginPenalty(
        value, gradients, statistics, [check._replace(ok=failure != number, values=()) for number, check in numbered]
    )


def _none(dtype: tf.DType) -> MarginStatistics:
    """The statistics of a batch in which nothing was measured."""
    return MarginStatistics(tf.zeros((), dtype), tf.zeros(()), tf.zeros(()), tf.zeros(()))
