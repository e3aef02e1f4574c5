"""The gradient of selected margins with respect to the weights.

DeepFool's norm N is a function of the weights through the logits and through their gradients, step by
step. Its derivative needs no second walk. The adjoint of the recorded path gives, for each (sample, step)
point, constants a and b with `dN/dtheta = sum d/dtheta [a g(x) + <b, grad_x g(x)>]`, and all points
together make one small batch.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution import xla
from keras_amm.execution.gradients import image_gradient, weight_gradients
from keras_amm.gradient.influence import Pull, unbounded
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import divide_by_squared_norm, expand_to, inner, squared_norm, unit
from keras_amm.search.linearisation import logit_differences
from keras_amm.search.path import Path
from keras_amm.typing import Tensor, Variable


class _Steps(NamedTuple):
    """The recorded steps of K selected samples, each field [S, K] or [S, K, ...]: the point, w, g and so on.

    `squared` is ||w||^2 and `taken` tells which steps were taken; the others have zeros in w.
    """

    x: Tensor
    w: Tensor
    g: Tensor
    squared: Tensor
    source: Tensor
    target: Tensor
    taken: Tensor


class _Points(NamedTuple):
    """Where the network is differentiated: the points [Q, ...], the classes of g [Q], and two factors.

    a [Q] is the factor of g(x), b [Q, ...] the one of its gradient, or None where that is held constant.
    """

    x: Tensor
    source: Tensor
    target: Tensor
    a: Tensor
    b: Tensor | None


def differentiate(
    classifier: Classifier,
    path: Path,
    index: Tensor,
    factor: Tensor,
    weights: list[Variable],
    *,
    overshoot: float,
    with_curvature: bool = True,
    pull: Pull = unbounded,
) -> list[Tensor | None]:
    """The gradient of `sum_k factor_k * norm_k` over selected samples (Equations 2-4 and Section 3.1.1).

    Args:
        classifier: the network.
        path: what `search` recorded for the batch.
        index: int32 tensor [K], the selected samples.
        factor: float tensor [K], the weight of each norm, zero for none.
        weights: the variables to differentiate with respect to.
        overshoot: float, the overshoot of the search.
        with_curvature: bool, whether grad g depends on the weights (`gradient="unrolled"`)
            or is held constant (`gradient="masked"`, the ablation of Table 2).
        pull: what becomes of the factors, given the slopes of the paths' last steps.

    Returns:
        A list of one tensor, or None where the norm does not depend on it, per variable.
    """
    scale = 1.0 + overshoot
    steps = _steps(path, index, scale)
    delta = tf.gather(path.delta, index)
    # From a boundary, where no step was taken, one can only go along its normal.
    direction = unit(tf.where(expand_to(squared_norm(delta) == 0.0, delta), steps.w[0], delta))
    if pull is not unbounded:
        slope = _last_slope(steps, direction)
        factor = slope * pull(factor, slope)
    v = _adjoint(classifier, steps, direction, scale, with_curvature=with_curvature)
    along = inner(v, steps.w, lead=2)
    a = factor * -scale * divide_by_squared_norm(along, steps.squared)
    b = expand_to(factor * tf.ones_like(a), v) * _curvature(steps.g, steps.w, steps.squared, v, along, scale)
    matters = tf.reshape(steps.taken & (factor[None] != 0.0), [-1])
    keep = xla.indices(matters, at_most=tf.shape(matters)[0])
    points = _Points(
        x=_flatten(steps.x, keep),
        source=_flatten(steps.source, keep),
        target=_flatten(steps.target, keep),
        a=_flatten(a, keep),
        b=_flatten(b, keep) if with_curvature else None,
    )
    return xla.sum_of_gradients(
        lambda part: _gradients(classifier, part, weights),
        points,
        tf.reduce_sum(tf.cast(matters, tf.int32)),
        weights,
        at_a_time=tf.shape(index)[0],
    )


def _steps(path: Path, index: Tensor, scale: float) -> _Steps:
    """The steps of the selected samples [K], as many as the longest path among them has."""
    # At a boundary no step was taken. What was recorded there is its normal, which the norm's derivative needs.
    iterations = tf.maximum(tf.gather(path.iterations, index), 1)
    length = xla.largest(iterations, at_most=tf.shape(path.g)[0])
    w, g, source, target = (
        tf.gather(record[:length], index, axis=1) for record in (path.w, path.g, path.sources, path.targets)
    )
    taken = tf.range(length)[:, None] < iterations[None, :]
    # Steps that were not taken count as steps of no gradient, whose factors are zero.
    w = tf.where(expand_to(taken, w), w, tf.zeros_like(w))
    squared = squared_norm(w, lead=2)
    step = -scale * expand_to(divide_by_squared_norm(g, squared), w) * w
    x = tf.gather(path.x, index)[None] + tf.cumsum(step, axis=0, exclusive=True)
    return _Steps(x, w, g, squared, source, target, taken)


def _last_slope(steps: _Steps, direction: Tensor) -> Tensor:
    """How steeply g rises along the direction [K, ...] of each path, by its last step [K]; 0 where that is not up."""
    num_taken = tf.reduce_sum(tf.cast(steps.taken, tf.int32), axis=0)
    last = tf.stack([tf.maximum(num_taken - 1, 0), tf.range(tf.size(num_taken))], axis=1)
    return tf.maximum(inner(tf.gather_nd(steps.w, last), direction), 0.0)


def _curvature(g: Tensor, w: Tensor, squared: Tensor, v: Tensor, along: Tensor, scale: float) -> Tensor:
    """b = -(1 + overshoot) g (v / ||w||^2 - 2 w <v, w> / ||w||^4)."""
    return (
        -scale
        * expand_to(divide_by_squared_norm(g, squared), v)
        * (v - 2.0 * expand_to(divide_by_squared_norm(along, squared), w) * w)
    )


def _adjoint(classifier: Classifier, steps: _Steps, direction: Tensor, scale: float, *, with_curvature: bool) -> Tensor:
    """v [S, K, ...], per step how N changes with a shift of that step's result; `direction` [K, ...]."""
    needs_hessian = with_curvature and not classifier.is_piecewise_linear
    length = tf.shape(steps.g)[0]
    record = tf.TensorArray(steps.w.dtype, size=length, element_shape=direction.shape)

    def step_back(i: Tensor, v: Tensor, record: tf.TensorArray) -> tuple[Tensor, ...]:
        record = record.write(i, v)
        w, g, squared = steps.w[i], steps.g[i], steps.squared[i]
        along = inner(v, w)
        shift = -scale * expand_to(divide_by_squared_norm(along, squared), w) * w
        if needs_hessian:
            b = _curvature(g, w, squared, v, along, scale)
            shift += _hessian_product(classifier, steps.x[i], steps.source[i], steps.target[i], b)
        return i - 1, v + shift, record

    # The adjoint before the first step is not needed: nothing precedes x.
    _, v, record = tf.while_loop(
        lambda i, v, record: i > 0,
        step_back,
        (length - 1, direction, record),
        shape_invariants=(tf.TensorShape([]), direction.shape, tf.TensorShape(None)),
    )
    return record.write(0, v).stack()


def _hessian_product(classifier: Classifier, x: Tensor, source: Tensor, target: Tensor, b: Tensor) -> Tensor:
    """The Hessian of g at x [K, ...] times b [K, ...]."""
    with tf.GradientTape() as outer_tape:
        outer_tape.watch(x)
        with tf.GradientTape() as inner_tape:
            inner_tape.watch(x)
            g = logit_differences(classifier(x), source, target[:, None])
        along = image_gradient(inner_tape, g, x) * b
    return image_gradient(outer_tape, along, x)


def _gradients(classifier: Classifier, points: _Points, weights: list[Variable]) -> list[Tensor | None]:
    """The gradient of `sum a g(x) + <b, grad_x g(x)>`, of which only g depends on the weights."""
    with tf.GradientTape() as tape:
        if points.b is None:
            g = logit_differences(classifier(points.x), points.source, points.target[:, None])[:, 0]
            total = tf.reduce_sum(points.a * g)
        else:
            with tf.GradientTape() as inner_tape:
                inner_tape.watch(points.x)
                g = logit_differences(classifier(points.x), points.source, points.target[:, None])[:, 0]
            w = image_gradient(inner_tape, g, points.x)
            total = tf.reduce_sum(points.a * g) + tf.reduce_sum(points.b * w)
    return weight_gradients(tape, total, weights)


def _flatten(values: Tensor, keep: Tensor) -> Tensor:
    """[S, K, ...] as the kept ones of [S * K, ...]."""
    return tf.gather(tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], 0)), keep)
