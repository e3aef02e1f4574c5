"""The nearest linear boundary of each sample: DeepFool's linearisation.

A network is linearised towards several classes, each at the cost of a gradient with
respect to the image. At a sample's first point all of its classes are looked at. From then on
the lengths of its gradients are roughly known, and the logits alone tell most classes
to be far beyond the nearest.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import distance, squared_norm

# A class is looked at again unless its boundary, by the last known length of its gradient, is over this many times
# as far as the nearest one. It would be missed only if, from step to step, its gradient grew this many times as much as
# the nearest one's.
REACH = 3.0


class CleanPass(NamedTuple):
    """The network's pass over unperturbed images, recorded so that it can be differentiated.

    Attributes:
        x: float tensor [B, ...], watched by the tape.
        logits: float tensor [B, C].
        checks: what `x` and the logits must satisfy.
        tape: persistent `tf.GradientTape` that recorded the pass.
    """

    x: Any
    logits: Any
    checks: list[Check]
    tape: tf.GradientTape


class NearestBoundary(NamedTuple):
    """The nearest linear boundary of b samples, of which k candidate classes were considered.

    Attributes:
        w: float tensor [b, ...], the gradient of g with respect to the image.
        g: float tensor [b], the logit of the class beyond the boundary less the one of the source class.
        target: int32 tensor [b], that class.
        squared: float tensor [b, k], the last known squared norms of the gradients towards all candidates.
    """

    w: Any
    g: Any
    target: Any
    squared: Any


def clean_pass(classifier: Classifier, x: Any) -> CleanPass:
    """Run the network over images and record it.

    Args:
        classifier: the network.
        x: float tensor [B, ...].

    Returns:
        A `CleanPass`.
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        logits, checks = classifier.logits(x)
    return CleanPass(x, logits, checks, tape)


def linearise_towards_all(classifier: Classifier, clean: CleanPass, source: Any, candidates: Any) -> NearestBoundary:
    """Linearise towards every candidate class.

    Args:
        classifier: the network.
        clean: its pass over the images.
        source: int32 tensor [B], the class of each image.
        candidates: int32 tensor [B, k].

    Returns:
        The `NearestBoundary` boundaries.

    Reference: Equation 3.
    """
    with clean.tape:
        values = logit_differences(clean.logits, source, candidates)
        columns = tf.unstack(values, axis=1)
    gradients = _gradients(classifier, clean, values, columns)
    squared = tf.transpose(squared_norm(gradients, lead=2))
    nearest = tf.argmin(distance(values, squared), axis=1, output_type=tf.int32)
    at = tf.stack([nearest, tf.range(tf.shape(nearest)[0])], axis=1)
    w = tf.gather_nd(gradients, at)
    g = tf.gather(values, nearest, batch_dims=1)
    return NearestBoundary(w, g, tf.gather(candidates, nearest, batch_dims=1), squared)


def linearise_towards_few(
    classifier: Classifier,
    x: Any,
    logits: Any,
    source: Any,
    candidates: Any,
    allowed: Any,
    squared: Any,
    *,
    at_a_time: Any,
) -> NearestBoundary:
    """Linearise towards the candidate classes that may be nearest, by the last known lengths of the gradients.

    Args:
        classifier: the network.
        x: float tensor [b, ...], the images, at least one.
        logits: float tensor [b, C], the network's there.
        source: int32 tensor [b], the class of each image.
        candidates: int32 tensor [b, k].
        allowed: boolean tensor [b, k], the candidates that count.
        squared: float tensor [b, k], the last known squared norms of the gradients.
        at_a_time: int or scalar integer tensor, the most images that go through the network together.

    Returns:
        The `NearestBoundary` boundaries.

    Reference: Equation 3.
    """
    number = candidates.shape[1]
    estimate = distance(logit_differences(logits, source, candidates), squared)
    estimate = tf.where(allowed, estimate, tf.constant(float("inf"), estimate.dtype))
    first = tf.one_hot(tf.argmin(estimate, axis=1), number, on_value=True, off_value=False, dtype=tf.bool)
    # The first also where no gradient is left, and where logits are no numbers, which is refused later.
    near = estimate <= REACH * tf.reduce_min(estimate, axis=1, keepdims=True)
    pairs = tf.where(first | (allowed & near & (estimate < estimate.dtype.max)))
    sample, target = pairs[:, 0], tf.gather_nd(candidates, pairs)
    # An image once for each of its classes.
    w, g = _gradients_of_pairs(classifier, x, source, sample, target, at_a_time)
    norms = squared_norm(w)
    squared = tf.tensor_scatter_nd_update(squared, pairs, norms)
    far = tf.fill(tf.shape(squared), tf.constant(float("inf"), norms.dtype))
    nearest = tf.argmin(tf.tensor_scatter_nd_update(far, pairs, distance(g, norms)), axis=1)
    order = tf.scatter_nd(pairs, tf.range(tf.shape(sample)[0]), tf.shape(squared, pairs.dtype))
    at = tf.gather(order, nearest, batch_dims=1)
    return NearestBoundary(tf.gather(w, at), tf.gather(g, at), tf.gather(target, at), squared)


def logit_differences(logits: Any, source: Any, candidates: Any) -> Any:
    """Logits of the candidates less the one of the source class.

    Args:
        logits: float tensor [B, C].
        source: int32 tensor [B].
        candidates: int32 tensor [B, k].

    Returns:
        Float tensor [B, k].

    Example:
    >>> logits, source, candidates = tf.constant([[1.0, 4.0]]), tf.constant([1]), tf.constant([[0]])
    >>> keras_amm.search.linearisation.logit_differences(logits, source, candidates).numpy()
    array([[-3.]], dtype=float32)
    """
    return tf.gather(logits, candidates, batch_dims=1) - tf.gather(logits, source[:, None], batch_dims=1)


def _gradients(classifier: Classifier, clean: CleanPass, values: Any, columns: list[Any]) -> Any:
    """The gradients of k logit differences, [k, B, ...]."""
    number = len(columns)
    if number == 1 or not classifier.is_dense:
        # One pass per candidate: faster than a vectorised Jacobian where there
        # are convolutions, lighter in memory, and possible for any layer.
        found = [
            clean.tape.gradient(column, clean.x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            for column in columns
        ]
        return tf.stack(found)

    def gradient(k: Any) -> Any:
        seed = tf.repeat(tf.one_hot([k], number, dtype=values.dtype), tf.shape(values)[0], axis=0)
        return clean.tape.gradient(
            values, clean.x, output_gradients=seed, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return tf.vectorized_map(gradient, tf.range(number))


def _gradients_of_pairs(
    classifier: Classifier, x: Any, source: Any, sample: Any, target: Any, at_a_time: Any
) -> tuple[Any, Any]:
    """The gradient [P, ...] and value [P] of one logit difference for each of P samples, which may occur repeatedly."""
    number = tf.shape(sample)[0]

    def part(i: Any, *found: Any) -> tuple[Any, ...]:
        here, there = (all_[i * at_a_time : (i + 1) * at_a_time] for all_ in (sample, target))
        clean = clean_pass(classifier, tf.gather(x, here))
        with clean.tape:
            g = logit_differences(clean.logits, tf.gather(source, here), there[:, None])[:, 0]
        w = clean.tape.gradient(g, clean.x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return i + 1, *(array.write(i, each) for array, each in zip(found, (w, g), strict=True))

    arrays = [
        tf.TensorArray(x.dtype, size=0, dynamic_size=True, infer_shape=False, element_shape=shape)
        for shape in (tf.TensorShape([None, *x.shape[1:]]), tf.TensorShape([None]))
    ]
    _, *found = tf.while_loop(
        lambda i, *_: i * at_a_time < number, part, (tf.constant(0), *arrays), parallel_iterations=1
    )
    w, g = (array.concat() for array in found)
    return w, g
