"""The gradient of selected margins with respect to the weights.

DeepFool's norm N is a function of the weights through the logits and through
their gradients, step by step. Its derivative needs no second walk: the adjoint
of the recorded path gives, for each (sample, step) point, constants a and b with
`dN/dtheta = sum d/dtheta [a g(x) + <b, grad_x g(x)>]`, and all points together
make one small batch.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution.checks import in_xla
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import divide_by_squared_norm, expand_to, inner, squared_norm, unit
from keras_amm.search.linearisation import logit_differences
from keras_amm.search.loop import Path


class Points(NamedTuple):
    """Where the network is differentiated: Q points.

    Attributes:
        x: float tensor [Q, ...].
        source: int32 tensor [Q], the class whose logit g subtracts.
        target: int32 tensor [Q], the class whose logit g adds.
        a: float tensor [Q], the factor of g(x).
        b: float tensor [Q, ...], the factor of grad_x g(x), or None for zero.
    """

    x: Any
    source: Any
    target: Any
    a: Any
    b: Any | None


def differentiate(
    classifier: Classifier,
    path: Path,
    index: Any,
    factor: Any,
    weights: list[Any],
    *,
    overshoot: float,
    with_curvature: bool = True,
) -> list[Any]:
    """The gradient of `sum_k factor_k * norm_k` over selected samples.

    Args:
        classifier: the network.
        path: what `search` recorded for the batch.
        index: int32 tensor [K], the selected samples.
        factor: float tensor [K], the weight of each norm, zero for none.
        weights: the variables to differentiate with respect to.
        overshoot: float, the overshoot of the search.
        with_curvature: bool, whether grad g depends on the weights
            (`gradient="unrolled"`) or is held constant (`gradient="masked"`).

    Returns:
        A list of one tensor, or None where the norm does not depend on it, per variable.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> classifier = keras_amm.network.classifier.Classifier(model)
    >>> clean = keras_amm.search.linearisation.clean_pass(classifier, tf.ones((4, 2)))
    >>> path = keras_amm.DeepFool().path(classifier, clean, None)
    >>> gradients = keras_amm.gradient.adjoint.differentiate(
    ...     classifier, path, tf.constant([0]), tf.constant([1.0]), model.trainable_variables, overshoot=0.02)
    >>> gradients[0].shape
    TensorShape([2, 3])

    Reference: Equations 2-4 and Section 3.1.1; without curvature it is
    the ablation of Table 2.
    """
    steps = _Steps(path, index, overshoot)
    points = _path_points(classifier, steps, factor, with_curvature=with_curvature)
    if in_xla():
        return _accumulate(classifier, points, weights, chunk=tf.shape(index)[0])
    return _gradients(classifier, points, weights)


class _Steps:
    """The recorded steps of the selected samples, [S, K] and [S, K, ...]."""

    def __init__(self, path: Path, index: Any, overshoot: float) -> None:
        self.iterations = tf.gather(path.iterations, index)
        length = tf.shape(path.g)[0] if in_xla() else tf.maximum(tf.reduce_max(self.iterations), 1)
        self.length = length
        self.scale = 1.0 + overshoot
        self.w = tf.gather(path.w[:length], index, axis=1)
        self.g = tf.gather(path.g[:length], index, axis=1)
        self.source = tf.gather(path.sources[:length], index, axis=1)
        self.target = tf.gather(path.targets[:length], index, axis=1)
        self.delta = tf.gather(path.delta, index)
        taken = tf.range(length)[:, None] < self.iterations[None, :]
        # Steps that were not taken count as steps of no gradient, whose factors are zero.
        self.taken = taken
        self.w = tf.where(expand_to(taken, self.w), self.w, tf.zeros_like(self.w))
        self.squared = squared_norm(self.w, lead=2)
        step = -self.scale * expand_to(divide_by_squared_norm(self.g, self.squared), self.w) * self.w
        self.x = tf.gather(path.x, index)[None] + tf.cumsum(step, axis=0, exclusive=True)


def _path_points(classifier: Classifier, steps: _Steps, factor: Any, *, with_curvature: bool) -> Points:
    v = _adjoint(classifier, steps, with_curvature=with_curvature)
    along = inner(v, steps.w, lead=2)
    a = -steps.scale * divide_by_squared_norm(along, steps.squared)
    flat = tf.reshape(steps.taken & (factor[None] != 0.0), [-1])
    keep = tf.range(tf.shape(flat)[0]) if in_xla() else tf.where(_with_first_if_empty(flat))[:, 0]
    b = _curvature(steps.g, steps.w, steps.squared, v, along, steps.scale) * expand_to(factor * tf.ones_like(a), v)
    return Points(
        x=_flatten(steps.x, keep),
        source=_flatten(steps.source, keep),
        target=_flatten(steps.target, keep),
        a=_flatten(a * factor, keep),
        b=_flatten(b, keep) if with_curvature else None,
    )


def _curvature(g: Any, w: Any, squared: Any, v: Any, along: Any, scale: float) -> Any:
    """b = -(1 + overshoot) g (v / ||w||^2 - 2 w <v, w> / ||w||^4)."""
    return (
        -scale
        * expand_to(divide_by_squared_norm(g, squared), v)
        * (v - 2.0 * expand_to(divide_by_squared_norm(along, squared), w) * w)
    )


def _adjoint(classifier: Classifier, steps: _Steps, *, with_curvature: bool) -> Any:
    """v per step, [S, K, ...]: how N changes with a shift of that step's result."""
    needs_hessian = with_curvature and not classifier.is_piecewise_linear
    record = tf.TensorArray(steps.w.dtype, size=steps.length, element_shape=steps.delta.shape)

    def body(i: Any, v: Any, record: Any) -> tuple[Any, ...]:
        record = record.write(i, v)
        w, g, squared = steps.w[i], steps.g[i], steps.squared[i]
        along = inner(v, w)
        shift = -steps.scale * expand_to(divide_by_squared_norm(along, squared), w) * w
        if needs_hessian:
            b = _curvature(g, w, squared, v, along, steps.scale)
            shift += _hessian_product(classifier, steps.x[i], steps.source[i], steps.target[i], b)
        return i - 1, v + shift, record

    # The adjoint before the first step is not needed: nothing precedes x.
    _, v, record = tf.while_loop(
        lambda i, v, record: i > 0,
        body,
        (steps.length - 1, unit(steps.delta), record),
        shape_invariants=(tf.TensorShape([]), steps.delta.shape, tf.TensorShape(None)),
    )
    return record.write(0, v).stack()


def _hessian_product(classifier: Classifier, x: Any, source: Any, target: Any, b: Any) -> Any:
    with tf.GradientTape() as outer_tape:
        outer_tape.watch(x)
        with tf.GradientTape() as inner_tape:
            inner_tape.watch(x)
            g = logit_differences(classifier(x), source, target[:, None])
        along = inner_tape.gradient(g, x, unconnected_gradients=tf.UnconnectedGradients.ZERO) * b
    return outer_tape.gradient(along, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)


def _gradients(classifier: Classifier, points: Points, weights: list[Any]) -> list[Any]:
    with tf.GradientTape() as tape:
        if points.b is None:
            g = logit_differences(classifier(points.x), points.source, points.target[:, None])[:, 0]
            total = tf.reduce_sum(points.a * g)
        else:
            with tf.GradientTape() as inner_tape:
                inner_tape.watch(points.x)
                g = logit_differences(classifier(points.x), points.source, points.target[:, None])[:, 0]
            w = inner_tape.gradient(g, points.x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            total = tf.reduce_sum(points.a * g) + tf.reduce_sum(points.b * w)
    return tape.gradient(total, weights)


def _accumulate(classifier: Classifier, points: Points, weights: list[Any], chunk: Any) -> list[Any]:
    """The gradients in static shapes: the points that count first, `chunk` at a time, until none is left."""
    counts = points.a != 0.0
    if points.b is not None:
        counts |= squared_norm(points.b) > 0.0
    order = tf.argsort(tf.cast(tf.logical_not(counts), tf.int32))
    number = tf.reduce_sum(tf.cast(counts, tf.int32))

    def body(start: Any, total: list[Any]) -> tuple[Any, list[Any]]:
        index = tf.slice(order, [start], [chunk])
        part = Points(*(None if field is None else tf.gather(field, index) for field in points))
        found = _gradients(classifier, part, weights)
        return start + chunk, [t if f is None else t + tf.cast(f, t.dtype) for t, f in zip(total, found, strict=True)]

    start = [tf.zeros(weight.shape, weight.dtype) for weight in weights]
    _, total = tf.while_loop(lambda i, total: i < number, body, (tf.constant(0), start))
    return total


def _flatten(values: Any, keep: Any) -> Any:
    """[S, K, ...] as the kept ones of [S * K, ...]."""
    return tf.gather(tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], 0)), keep)


def _with_first_if_empty(mask: Any) -> Any:
    """The mask, with its first place set where it is empty: networks refuse empty batches."""
    return tf.where(tf.reduce_any(mask), mask, tf.range(tf.shape(mask)[0]) == 0)
