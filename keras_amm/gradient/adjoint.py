"""The gradient of selected margins with respect to the weights.

The norm N of DeepFool's perturbation depends on the weights theta through the logits and their gradients at
every step. To differentiate it, the walk need not be repeated. With s = 1 + overshoot, a step goes from x to
`x - s g u / ||w||_*^2`, where g is the logit difference at x, w its gradient, ||w||_* the dual norm and u the dual map
of w (see `keras_amm.search.norms`; in the l2 norm u = w). Going back along the recorded path gives `v`, the derivative
of N with respect to the result of a step. So

    dN/dtheta = sum over the steps of d/dtheta [a g(x) + <b, w(x)>]
    a = -s <v, u> / ||w||_*^2
    b = -s g (v / ||w||^2 - 2 w <v, w> / ||w||^4)     in the l2 norm
    b = s g u <v, u> / ||w||_1^4                      in the l-infinity norm

where a and b are constants, and all points x together make one small batch.
"""

import functools
from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution import xla
from keras_amm.execution.gradients import image_gradient, weight_gradients
from keras_amm.execution.loops import as_round
from keras_amm.gradient.influence import Pull, unbounded
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import divide_by_squared_norm, expand_to, inner
from keras_amm.search.linearisation import logit_difference
from keras_amm.search.norms import Norm, norm_for
from keras_amm.search.path import Path
from keras_amm.typing import Tensor, Variable


class _SelectedSteps(NamedTuple):
    """The recorded steps of K selected samples, each field [S, K] or [S, K, ...].

    A step starts at `x`, `squared` is ||w||_*^2, and `taken` says whether the sample took the step. If not, w and u are
    zero.
    """

    x: Tensor
    w: Tensor
    u: Tensor
    g: Tensor
    squared: Tensor
    source: Tensor
    target: Tensor
    taken: Tensor


class _Points(NamedTuple):
    """Where the network is differentiated: points x [Q, ...] and the classes of g, source and target [Q].

    The factors a [Q], of g(x), and b [Q, ...], of its gradient, are those of the module's docstring, times the factor
    of the sample's norm; b is None if the gradient is held constant.
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
        pull: changes the factors, given the slopes of the paths' last steps.

    Returns:
        A list of one tensor, or None where the norm does not depend on it, per variable.
    """
    scale, norm = 1.0 + overshoot, norm_for(classifier)
    steps = _selected_steps(norm, path, index, scale)
    delta = tf.gather(path.delta, index)
    # From a boundary, where no step was taken, one can only go along its normal.
    way = tf.where(expand_to(norm.of(delta) == 0.0, delta), steps.u[0], delta)
    if pull is not unbounded:
        slope = _last_slope(steps, norm.unit(way))
        factor = slope * pull(factor, slope)
    v = _adjoint(classifier, steps, norm.gradient(way), scale, with_curvature=with_curvature)
    share = divide_by_squared_norm(inner(v, steps.u, lead=2), steps.squared)
    a = factor * -scale * share
    matters = tf.reshape(steps.taken & (factor[None] != 0.0), [-1])
    keep = xla.indices(matters, at_most=tf.shape(matters)[0])
    b = None
    if with_curvature:
        factor_of_w = _factor_of_input_gradient(norm, steps, v, share, scale)
        b = _flatten(expand_to(factor * tf.ones_like(a), v) * factor_of_w, keep)
    points = _Points(
        x=_flatten(steps.x, keep),
        source=_flatten(steps.source, keep),
        target=_flatten(steps.target, keep),
        a=_flatten(a, keep),
        b=b,
    )
    return xla.sum_of_gradients(
        lambda part: _gradients(classifier, part, weights),
        points,
        tf.reduce_sum(tf.cast(matters, tf.int32)),
        weights,
        at_a_time=tf.shape(index)[0],
    )


def _selected_steps(norm: Norm, path: Path, index: Tensor, scale: float) -> _SelectedSteps:
    """The steps of the selected samples [K], up to the end of the longest path among them."""
    # A sample that started at a boundary took no step. Its first record holds the normal, which the derivative needs.
    iterations = tf.maximum(tf.gather(path.iterations, index), 1)
    length = xla.largest(iterations, at_most=tf.shape(path.g)[0])
    w, g, source, target = (
        tf.gather(record[:length], index, axis=1) for record in (path.w, path.g, path.sources, path.targets)
    )
    taken = tf.range(length)[:, None] < iterations[None, :]
    # A gradient of zero gives steps that were not taken the factors zero.
    w = tf.where(expand_to(taken, w), w, tf.zeros_like(w))
    squared, u = norm.dual_squared(w, lead=2), norm.dual_map(w, lead=2)
    step = -scale * expand_to(divide_by_squared_norm(g, squared), w) * u
    x = tf.gather(path.x, index)[None] + tf.cumsum(step, axis=0, exclusive=True)
    return _SelectedSteps(x, w, u, g, squared, source, target, taken)


def _last_slope(steps: _SelectedSteps, direction: Tensor) -> Tensor:
    """How steeply g rises along the direction [K, ...] of each path, by its last step [K]; 0 where g falls."""
    num_taken = tf.reduce_sum(tf.cast(steps.taken, tf.int32), axis=0)
    last = tf.stack([tf.maximum(num_taken - 1, 0), tf.range(tf.size(num_taken))], axis=1)
    return tf.maximum(inner(tf.gather_nd(steps.w, last), direction), 0.0)


def _factor_of_input_gradient(norm: Norm, steps: _SelectedSteps, v: Tensor, share: Tensor, scale: float) -> Tensor:
    """b of the module's docstring, of the shape of v; `share` is <v, u> / ||w||_*^2."""
    change = norm.change_of_step(v, steps.w, steps.u, expand_to(share, v))
    return -scale * expand_to(divide_by_squared_norm(steps.g, steps.squared), v) * change


def _adjoint(
    classifier: Classifier, steps: _SelectedSteps, direction: Tensor, scale: float, *, with_curvature: bool
) -> Tensor:
    """v [S, K, ...], per step how N changes with a shift of that step's result; `direction` [K, ...]."""
    needs_hessian = with_curvature and not classifier.is_piecewise_linear
    length = tf.shape(steps.g)[0]
    record = tf.TensorArray(steps.w.dtype, size=length, element_shape=direction.shape)
    hessian_product = as_round(functools.partial(_hessian_product, classifier))

    def step_back(i: Tensor, v: Tensor, record: tf.TensorArray) -> tuple[Tensor, ...]:
        record = record.write(i, v)
        step = _SelectedSteps(*(tf.gather(part, i) for part in steps))
        share = divide_by_squared_norm(inner(v, step.u), step.squared)
        shift = -scale * expand_to(share, v) * step.w
        if needs_hessian:
            b = _factor_of_input_gradient(norm_for(classifier), step, v, share, scale)
            shift += hessian_product(step.x, step.source, step.target, b)
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
            g = logit_difference(classifier(x), source, target)
        product = image_gradient(inner_tape, g, x) * b
    return image_gradient(outer_tape, product, x)


def _gradients(classifier: Classifier, points: _Points, weights: list[Variable]) -> list[Tensor | None]:
    """The gradient of `sum a g(x) + <b, grad_x g(x)>` with respect to the weights; x, a and b are constants."""
    with tf.GradientTape() as tape:
        tape.watch(classifier.sources)
        if points.b is None:
            g = logit_difference(classifier(points.x), points.source, points.target)
            total = tf.reduce_sum(points.a * g)
        else:
            with tf.GradientTape() as inner_tape:
                inner_tape.watch(points.x)
                g = logit_difference(classifier(points.x), points.source, points.target)
            w = image_gradient(inner_tape, g, points.x)
            total = tf.reduce_sum(points.a * g) + tf.reduce_sum(points.b * w)
    return weight_gradients(tape, total, weights)


def _flatten(values: Tensor, keep: Tensor) -> Tensor:
    """The rows `keep` of values [S, K, ...] seen as [S * K, ...]."""
    return tf.gather(tf.reshape(values, tf.concat([[-1], tf.shape(values)[2:]], 0)), keep)
