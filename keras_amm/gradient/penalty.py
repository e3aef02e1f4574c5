"""One batch's margin penalty and its gradient: search, select, differentiate."""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf

from keras_amm.attack import Attack
from keras_amm.execution import replicas
from keras_amm.execution.checks import Check, enforce, first_failure
from keras_amm.execution.xla import indices
from keras_amm.gradient import adjoint, boundary, influence
from keras_amm.gradient.current_strength import CurrentStrength, strength_in_step
from keras_amm.gradient.metrics import MarginStatistics, batch_statistics, median_of
from keras_amm.gradient.searching import norms_of_images, search, walk_of
from keras_amm.network.classifier import Classifier
from keras_amm.network.second_derivatives import naming_layers
from keras_amm.regularizer import MarginRegularizer
from keras_amm.search import gradient_norms
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
        through_batch: one tensor or None for each of `classifier.sources`, the gradient in the statistics of the batch.
        selected: boolean tensor [b], which of this replica's samples count; None where `tf.cond` decides.
        gradient_norms: float32 tensor, what changes in that weight of `RunningStatistics`; None for nothing.
    """

    value: Tensor
    gradients: list[Tensor | None]
    statistics: MarginStatistics
    checks: list[Check]
    through_batch: Sequence[Tensor | None] = ()
    selected: Tensor | None = None
    gradient_norms: Tensor | None = None

    def through_pass(self, sources: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """The statistics of the batch, `classifier.sources`, that the penalty depends on, each with its gradient."""
        pairs = zip(sources, self.through_batch, strict=True)
        return [(source, gradient) for source, gradient in pairs if gradient is not None]

    def added_to(self, gradients: list[Tensor | None]) -> list[Tensor | None]:
        """The sums of other gradients and the penalty's, in the dtypes of the others; None is zero."""
        return [_add(other, own) for other, own in zip(gradients, self.gradients, strict=True)]

    def finite_gradients(self) -> Check:
        """The check that no gradient is NaN or infinite, which may be so even if the penalty is finite."""
        gradients = [*self.gradients, *self.through_batch]
        finite = [tf.reduce_all(tf.math.is_finite(gradient)) for gradient in gradients if gradient is not None]
        return Check(
            tf.reduce_all(finite) if finite else tf.constant(True),
            "The gradient of the margin penalty is NaN or infinite. Probably a layer has no finite second derivative "
            "at some input. gradient='boundary' needs first derivatives only.",
        )

    def differentiable_value(self, weights: list[Variable], sources: list[Tensor]) -> Tensor:
        """The value, a scalar with these gradients in the weights and `classifier.sources`; raises if a check fails."""
        with tf.control_dependencies(enforce(self.checks)):
            value = tf.stop_gradient(self.value)
        for weight, gradient in zip([*weights, *sources], [*self.gradients, *self.through_batch], strict=True):
            if gradient is not None:
                # This adds zero, but has the gradient.
                here = tf.convert_to_tensor(weight)
                zero = tf.reduce_sum(tf.stop_gradient(gradient) * (here - tf.stop_gradient(here)))
                value += tf.cast(zero, value.dtype)
        return value


def _add(gradient: Tensor | None, other: Tensor | None) -> Tensor | None:
    if gradient is None or other is None:
        return other if gradient is None else gradient
    return gradient + tf.cast(other, gradient.dtype)


def find_penalty(
    classifier: Classifier,
    attack: Attack,
    regularizer: MarginRegularizer,
    clean: CleanPass,
    y: TensorLike,
    weights: list[Variable],
    *,
    step: TensorLike,
    loss_scale: TensorLike,
    label_smoothing: float = 0.0,
) -> MarginPenalty:
    """The margin penalty of a batch (Equation 6) and its gradient; both are 0, without a search, if the strength is 0.

    Args:
        classifier: the network.
        attack: finds the nearest point of another class.
        regularizer: aggregation, shrinkage and kind of gradient.
        clean: the network's pass over the images.
        y: labels, in any of Keras's forms.
        weights: the variables to differentiate with respect to.
        step: scalar, the number of updates so far, for a strength that changes.
        loss_scale: scalar, multiplies the gradients but not the value, as mixed precision needs.
        label_smoothing: by how much the loss smooths the labels, which matters with two classes.

    Raises:
        ValueError: images or labels are not fit for the network.
    """
    now = strength_in_step(regularizer, clean, y, step, label_smoothing)
    sources = [*weights, *classifier.sources]
    compute = functools.partial(_compute, classifier, attack, regularizer, clean, y, sources, now, loss_scale)
    found = unless_off(now.strength, sources, compute, clean.logits.dtype) if regularizer.is_scheduled else compute()
    gradients, through_batch = found.gradients[: len(weights)], found.gradients[len(weights) :]
    return found._replace(gradients=gradients, through_batch=through_batch)


def _compute(
    classifier: Classifier,
    attack: Attack,
    regularizer: MarginRegularizer,
    clean: CleanPass,
    y: TensorLike,
    weights: list[Variable],
    now: CurrentStrength,
    loss_scale: TensorLike,
) -> MarginPenalty:
    """The penalty at a strength."""
    num_classes = clean.logits.shape[1]
    labels, checks = clean.class_indices(y)
    path = search(classifier, attack, regularizer, clean, labels, now.counts_misclassified)
    value, slope, selected, median = _penalize(classifier, regularizer, path, labels, now)
    is_finite = tf.reduce_all(tf.math.is_finite(slope)) & tf.math.is_finite(value)
    checks = [*path.checks, *checks, Check(is_finite, "The margin penalty must be finite.", (value,))]
    index = indices(selected, regularizer.max_selected(clean.x.shape[0] or tf.shape(labels)[0], num_classes))
    loss_scale = tf.cast(loss_scale, slope.dtype)
    factor = tf.gather(tf.where(selected, slope, tf.zeros_like(slope)), index) * loss_scale
    pull = _pull(regularizer, labels, median, now, loss_scale)
    sum_of_cosines = tf.zeros((), slope.dtype)
    if regularizer.gradient == "boundary":
        gradients, cosines = boundary.differentiate(classifier, path, index, factor, weights, pull=pull)
        sum_of_cosines = tf.reduce_sum(tf.where(tf.gather(selected, index), cosines, tf.zeros_like(cosines)))
    else:
        with naming_layers(classifier.model):
            gradients = adjoint.differentiate(
                classifier,
                path,
                index,
                factor,
                weights,
                overshoot=walk_of(attack).overshoot,
                with_curvature=regularizer.gradient == "unrolled",
                pull=pull,
            )
    # Without a cap a factor of 0 is meant: beyond the hinge, the margin is the one that is wanted.
    capped = selected & (slope == 0.0) & regularizer.has_cap
    most = now.strength if regularizer.is_automatic else now.max_influence
    num_clipped = pull.num_clipped if isinstance(pull, influence.Bounded) else tf.zeros(())
    statistics = batch_statistics(path, median, selected, capped, num_clipped, sum_of_cosines, most)
    seen = path.gradient_norms
    return MarginPenalty(value, gradients, statistics, checks, selected=selected, gradient_norms=seen)


def _pull(
    regularizer: MarginRegularizer, labels: Tensor, median: Tensor, now: CurrentStrength, loss_scale: Tensor
) -> influence.Pull:
    """What becomes of the factors, which are scaled by `loss_scale`, of this replica's samples with labels [b]."""
    if regularizer.is_automatic:
        # With two classes the pull follows cross-entropy's own, which falls where logits are large and right.
        return influence.given if now.num_classes == 2 else influence.fading(median)
    if regularizer.max_influence is None:
        return influence.unbounded
    # Only the bound needs the number of samples of all replicas, which they have to exchange.
    of_cross_entropy = loss_scale / tf.cast(tf.size(replicas.gather(labels)), loss_scale.dtype)
    return influence.Bounded(regularizer.interval * tf.cast(now.max_influence, loss_scale.dtype) * of_cross_entropy)


def _penalize(
    classifier: Classifier, regularizer: MarginRegularizer, path: Path, labels: Tensor, now: CurrentStrength
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The global batch's penalty, the factors of this replica's samples [b], which of them count [b], the median norm.

    The factor of a sample is the derivative of the penalty in its norm; of an automatic strength, its pull.
    """
    size = tf.shape(labels)[0]
    norm, labels, correct, success = (replicas.gather(part) for part in (path.norm, labels, path.correct, path.success))
    if path.estimated is None:
        median = median_of(norm, correct & success)
        unit = _unit_of_margins(classifier, regularizer, path, median)
        selected = regularizer.select(norm / unit, labels, correct, success, now.num_classes)
    else:
        # An estimate takes part in the ranks of the batch, as if of a class of its own, and is never selected.
        estimated = replicas.gather(path.estimated)
        median = median_of(norm, correct & (success | estimated))
        unit = _unit_of_margins(classifier, regularizer, path, median)
        labels = tf.where(estimated, -tf.ones_like(labels), labels)
        selected = regularizer.select(norm / unit, labels, correct, success | estimated, now.num_classes)
        selected &= ~estimated
    selected &= correct | now.counts_misclassified
    if regularizer.is_automatic:
        value, factor = influence.automatic(regularizer, norm / unit, labels, correct, selected, now)
    else:
        with tf.GradientTape() as tape:
            tape.watch(norm)
            value = regularizer.penalize(norm / unit, correct, selected, now.strength, tf.shape(norm)[0])
        factor = tape.gradient(value, norm)
    return value, replicas.own_part(factor, size), replicas.own_part(selected, size), median


def _unit_of_margins(classifier: Classifier, regularizer: MarginRegularizer, path: Path, median: Tensor) -> Tensor:
    """What norms are divided by: a scalar, or [B] for the norms of the images themselves."""
    if regularizer.normalize == "input":
        return replicas.gather(norms_of_images(classifier, path.x))
    if regularizer.normalize == "median" and regularizer.running is not None:
        return regularizer.running.margin_or(median)
    return tf.where(median > 0.0, median, 1.0) if regularizer.normalize == "median" else tf.ones_like(median)


def unless_off(
    strength: Tensor, weights: list[Variable], compute: Callable[[], MarginPenalty], dtype: tf.DType = tf.float32
) -> MarginPenalty:
    """The penalty that `compute` returns; while the scalar strength is 0, zeros of `dtype`, and nothing is computed.

    Replicas always compute, because they cannot communicate within a branch; what they measure then is left out.

    Example:
    >>> found = keras_amm.gradient.penalty.unless_off(tf.constant(0.0), [], compute=lambda: 1 / 0)
    >>> float(found.value)
    0.0
    """
    if replicas.are_several():
        found = compute()
        measured = (*found.statistics, found.gradient_norms)
        *statistics, seen = (
            None if each is None else tf.where(strength > 0, each, tf.zeros_like(each)) for each in measured
        )
        return found._replace(statistics=MarginStatistics(*statistics), gradient_norms=seen)
    if tf.executing_eagerly():
        if strength > 0:
            return compute()
        return MarginPenalty(tf.zeros((), dtype), [None] * len(weights), _none(dtype), [])
    return _unless_off_in_graph(strength, weights, compute, dtype)


def _unless_off_in_graph(
    strength: Tensor, weights: list[Variable], compute: Callable[[], MarginPenalty], dtype: tf.DType
) -> MarginPenalty:
    """`unless_off` by `tf.cond`, whose branches must return the same kinds of tensors: None becomes zeros."""
    # The branch `on` fills this list while tf.cond traces it, so it is complete once tf.cond returns.
    checks: list[Check] = []

    def on() -> list[Tensor]:
        found = compute()
        checks.extend(found.checks)
        # The checks leave the branch as one number, that of the first failure. The values of a failed check can be
        # shown only here.
        with tf.control_dependencies(enforce(found.checks)):
            failure = first_failure(found.checks)
        gradients = [
            tf.zeros(weight.shape, weight.dtype) if gradient is None else tf.convert_to_tensor(gradient)
            for gradient, weight in zip(found.gradients, weights, strict=True)
        ]
        seen = tf.zeros([gradient_norms.SIZE]) if found.gradient_norms is None else found.gradient_norms
        return [failure, found.value, seen, *found.statistics, *gradients]

    def off() -> list[Tensor]:
        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in weights]
        return [tf.constant(0), tf.zeros((), dtype), tf.zeros([gradient_norms.SIZE]), *_none(dtype), *zeros]

    failure, value, seen, *others = tf.cond(strength > 0, on, off)
    num_statistics = len(MarginStatistics._fields)
    statistics, gradients = MarginStatistics(*others[:num_statistics]), others[num_statistics:]
    outside = [check._replace(ok=failure != number, values=()) for number, check in enumerate(checks, start=1)]
    return MarginPenalty(value, gradients, statistics, outside, gradient_norms=seen)


def _none(dtype: tf.DType) -> MarginStatistics:
    """The statistics of a batch in which nothing was measured."""
    none = MarginStatistics(*[tf.zeros(())] * len(MarginStatistics._fields))
    return none._replace(sum_of_margins=tf.zeros((), dtype), median=tf.zeros((), dtype))
