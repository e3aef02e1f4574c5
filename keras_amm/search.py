"""DeepFool's search, over a whole batch and without gradients to the weights.

Which class each step aims at, and when a sample stops, are discrete and carry
no gradient. So the search only records its path, from which `adjoint` later
differentiates the few samples that the aggregation selects.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.checks import Check, in_xla
from keras_amm.classifier import Classifier
from keras_amm.norms import distance, like, over, squared_norm


class Path(NamedTuple):
    """What a search found, and the way it went. S steps, batch size B.

    Attributes:
        x: float tensor [B, ...], where the search started.
        delta: float tensor [B, ...], the perturbation.
        norm: float tensor [B], its l2 norm.
        prediction: int32 tensor [B], the class predicted at `x`.
        correct: boolean tensor [B], whether that is the label; all True in a
            search without labels.
        target: int32 tensor [B], the class the last step aimed at.
        iterations: int32 tensor [B], the number of steps taken.
        success: boolean tensor [B], whether the goal was reached.
        searched: boolean tensor [B], False for samples that were screened out;
            their norm is the first-order estimate and their path is empty.
        w: float tensor [S, B, ...], per step the gradient of g with respect to the point.
        g: float tensor [S, B], per step the logit of the target less the one of the source.
        targets: int32 tensor [S, B].
        sources: int32 tensor [S, B].
        checks: what the values must satisfy for all this to be meaningful.
    """

    x: Any
    delta: Any
    norm: Any
    prediction: Any
    correct: Any
    target: Any
    iterations: Any
    success: Any
    searched: Any
    w: Any
    g: Any
    targets: Any
    sources: Any
    checks: list[Check]


class _Start(NamedTuple):
    """What the search knows before its first step."""

    x: Any
    labels: Any
    prediction: Any
    correct: Any
    candidates: Any


def search(
    classifier: Classifier,
    x: Any,
    labels: Any | None,
    *,
    max_iterations: int,
    num_candidates: int,
    overshoot: float,
    screening: float | None = None,
) -> Path:
    """Walk each sample to the nearest decision boundary (Equations 2-4).

    Args:
        classifier: the network.
        x: float tensor [B, ...].
        labels: int32 tensor [B], or None. A correctly classified sample is
            attacked untargeted, a misclassified one towards its label;
            without labels every sample is attacked untargeted.
        max_iterations: int, steps after which a sample is given up.
        num_candidates: int, the classes considered, those of the largest logits at `x`.
        overshoot: float, by what fraction each step goes beyond the linear boundary.
        screening: float in (0, 1], the fraction of the correctly classified
            samples, nearest by a first-order estimate, that is searched; None for all.

    Returns:
        The `Path`.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> path = keras_amm.search.search(keras_amm.classifier.Classifier(model), tf.zeros((4, 2)), None,
    ...     max_iterations=6, num_candidates=3, overshoot=0.02)
    >>> path.norm.shape
    TensorShape([4])
    """
    if screening is None:
        logits, checks = classifier.logits(x)
        start = _start(x, labels, logits, num_candidates)
        norm = tf.zeros(tf.shape(x)[:1], x.dtype)
        searched = tf.ones_like(start.correct)
    else:
        start, norm, searched, checks = _screen(classifier, x, labels, num_candidates, overshoot, screening)
    checks.insert(0, Check(tf.reduce_all(tf.math.is_finite(x)), "Images must be finite. Got NaN or infinity in a batch of images."))
    return _walk(classifier, start, norm, searched, checks, max_iterations, overshoot)


def _start(x: Any, labels: Any | None, logits: Any, num_candidates: int) -> _Start:
    _, candidates = tf.math.top_k(logits, min(num_candidates, logits.shape[1]))
    prediction = candidates[:, 0]
    correct = tf.ones_like(prediction, tf.bool) if labels is None else tf.equal(prediction, labels)
    labels = prediction if labels is None else labels
    others = tf.where(correct[:, None], candidates[:, 1:], labels[:, None])
    return _Start(x, labels, prediction, correct, others)


def _screen(
    classifier: Classifier, x: Any, labels: Any, num_candidates: int, overshoot: float, fraction: float
) -> tuple[_Start, Any, Any, list[Check]]:
    """Estimate every margin by one gradient, towards the runner-up or the label."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        logits, checks = classifier.logits(x)
        start = _start(x, labels, logits, num_candidates)
        g = differences(logits, start.prediction, start.candidates[:, :1])
    w = tape.gradient(g, x)
    norm = (1.0 + overshoot) * distance(g[:, 0], squared_norm(w))
    rank = tf.argsort(tf.argsort(tf.where(start.correct, norm, norm.dtype.max)))
    num_correct = tf.reduce_sum(tf.cast(start.correct, tf.float32))
    is_near = tf.cast(rank, tf.float32) < tf.math.ceil(fraction * num_correct)
    return start, norm, tf.logical_or(tf.logical_not(start.correct), is_near), checks


def _walk(
    classifier: Classifier, start: _Start, norm: Any, searched: Any, checks: list[Check], max_iterations: int, overshoot: float
) -> Path:
    batch = tf.shape(start.x)[0]
    static = in_xla()
    zeros = tf.zeros(tf.shape(start.prediction), tf.int32)
    record = tuple(
        tf.TensorArray(dtype, size=max_iterations if static else 0, dynamic_size=not static, element_shape=shape)
        for dtype, shape in (
            (start.x.dtype, start.x.shape),
            (start.x.dtype, start.prediction.shape),
            (tf.int32, start.prediction.shape),
            (tf.int32, start.prediction.shape),
        )
    )

    def body(i: Any, point: Any, source: Any, target: Any, iterations: Any, active: Any, record: Any) -> tuple[Any, ...]:
        # Samples that stopped drop out, except under XLA, whose shapes are static.
        index = tf.range(batch) if static else tf.where(active)[:, 0]
        put = _put_masked(active) if static else _put_at(tf.cast(index, tf.int32))
        at, now, goal = tf.gather(point, index), tf.gather(source, index), tf.gather(start.labels, index)
        w, g, aim = _nearest(classifier, at, now, tf.gather(start.candidates, index))
        at = at - (1.0 + overshoot) * like(over(g, squared_norm(w)), w) * w
        after = tf.argmax(classifier(at), axis=1, output_type=tf.int32)
        stopped = tf.where(tf.gather(start.correct, index), after != now, after == goal)
        values = (w, g, aim, now)
        record = tuple(
            array.write(i, put(tf.zeros(tf.concat([[batch], tf.shape(v)[1:]], 0), v.dtype), v))
            for array, v in zip(record, values, strict=True)
        )
        source = put(source, tf.where(tf.gather(start.correct, index), now, after))
        iterations = put(iterations, tf.fill(tf.shape(now), i + 1))
        point = tf.ensure_shape(put(point, at), start.x.shape)
        return i + 1, point, source, put(target, aim), iterations, put(active, tf.logical_not(stopped)), record

    _, point, _, target, iterations, active, record = tf.while_loop(
        lambda i, point, source, target, iterations, active, record: tf.logical_and(i < max_iterations, tf.reduce_any(active)),
        body,
        (tf.constant(0), start.x, start.prediction, start.candidates[:, 0], zeros, searched, record),
        shape_invariants=(
            tf.TensorShape([]),
            start.x.shape,
            *(tf.TensorShape([None]) for _ in range(4)),
            tuple(tf.TensorShape(None) for _ in record),
        ),
    )
    delta = point - start.x
    w, g, targets, sources = (array.stack() for array in record)
    searched_norm = tf.sqrt(squared_norm(delta))
    return Path(
        x=start.x,
        delta=delta,
        norm=tf.where(searched, searched_norm, norm),
        prediction=start.prediction,
        correct=start.correct,
        target=target,
        iterations=iterations,
        success=tf.logical_and(searched, tf.logical_not(active)),
        searched=searched,
        w=w,
        g=g,
        targets=targets,
        sources=sources,
        checks=checks,
    )


def _nearest(classifier: Classifier, x: Any, source: Any, candidates: Any) -> tuple[Any, Any, Any]:
    """Gradient, value and class of the logit difference whose linear boundary is nearest."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        values = differences(classifier(x), source, candidates)
        columns = tf.unstack(values, axis=1)
    # One pass per candidate: on CPU as fast as a vectorised Jacobian for dense
    # networks, faster for convolutions, and possible for any layer.
    gradients = [tape.gradient(column, x) for column in columns]
    distances = [distance(g, squared_norm(w)) for g, w in zip(columns, gradients, strict=True)]
    nearest = tf.argmin(tf.stack(distances, axis=1), axis=1, output_type=tf.int32)
    w = gradients[0]
    for k, gradient in enumerate(gradients[1:], start=1):
        w = tf.where(like(nearest == k, w), gradient, w)
    return w, tf.gather(values, nearest, batch_dims=1), tf.gather(candidates, nearest, batch_dims=1)


def differences(logits: Any, source: Any, candidates: Any) -> Any:
    """Logits of the candidates less the one of the source class.

    Args:
        logits: float tensor [B, C].
        source: int32 tensor [B].
        candidates: int32 tensor [B, k].

    Returns:
        Float tensor [B, k].

    Example:
    >>> keras_amm.search.differences(tf.constant([[1.0, 4.0]]), tf.constant([1]), tf.constant([[0]])).numpy()
    array([[-3.]], dtype=float32)
    """
    return tf.gather(logits, candidates, batch_dims=1) - tf.gather(logits, source[:, None], batch_dims=1)


def _put_at(index: Any) -> Callable[[Any, Any], Any]:
    return lambda old, new: tf.tensor_scatter_nd_update(old, index[:, None], new)


def _put_masked(mask: Any) -> Callable[[Any, Any], Any]:
    return lambda old, new: tf.where(like(mask, new), new, old)
