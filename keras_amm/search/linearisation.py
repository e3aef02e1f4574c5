"""The nearest linear boundary of each sample: DeepFool's linearisation.

A network is linearised towards several classes, each at the cost of a gradient with
respect to the image. At a sample's first point all of its classes are looked at. From then on
the lengths of its gradients are roughly known, and the logits alone tell most classes
to be far beyond the nearest.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.execution.xla import in_xla
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import distance, squared_norm
from keras_amm.typing import Tensor

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

    x: Tensor
    logits: Tensor
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

    w: Tensor
    g: Tensor
    target: Tensor
    squared: Tensor


def clean_pass(classifier: Classifier, x: Tensor) -> CleanPass:
    """Run the network over images [B, ...] and record it."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        logits, checks = classifier.logits(x)
    return CleanPass(x, logits, checks, tape)


def linearise_towards_all(
    classifier: Classifier, clean: CleanPass, source: Tensor, candidates: Tensor
) -> NearestBoundary:
    """Linearise from each image's class, source [B], towards every one of its candidates [B, k] (Equation 3)."""
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
    x: Tensor,
    logits: Tensor,
    source: Tensor,
    candidates: Tensor,
    allowed: Tensor,
    squared: Tensor,
    *,
    at_a_time: Tensor | int,
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


def linearise_again(
    classifier: Classifier,
    x: Tensor,
    logits: Tensor,
    source: Tensor,
    candidates: Tensor,
    allowed: Tensor,
    squared: Tensor,
    *,
    at_a_time: Tensor | int,
) -> NearestBoundary:
    """Linearise from a further point: towards few classes, and under XLA, which cannot leave classes out, towards all.

    Its arguments are those of `linearise_towards_few`.
    """
    if in_xla():
        return linearise_towards_all(classifier, clean_pass(classifier, x), source, candidates)
    return linearise_towards_few(classifier, x, logits, source, candidates, allowed, squared, at_a_time=at_a_time)


def logit_differences(logits: Tensor, source: Tensor, candidates: Tensor) -> Tensor:
    """g [B, k]: of logits [B, C], those of the candidates [B, k] less the one of the source class [B]."""
    return tf.gather(logits, candidates, batch_dims=1) - tf.gather(logits, source[:, None], batch_dims=1)


def _gradients(classifier: Classifier, clean: CleanPass, values: Tensor, columns: list[Tensor]) -> Tensor:
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

    def gradient(k: Tensor) -> Tensor:
        seed = tf.repeat(tf.one_hot([k], number, dtype=values.dtype), tf.shape(values)[0], axis=0)
        return clean.tape.gradient(
            values, clean.x, output_gradients=seed, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return tf.vectorized_map(gradient, tf.range(number))


def _gradients_of_pairs(
    classifier: Classifier, x: Tensor, source: Tensor, sample: Tensor, target: Tensor, at_a_time: Tensor | int
) -> tuple[Tensor, Tensor]:
    """The gradient [P, ...] and value [P] of one logit difference for each of P samples, which may occur repeatedly."""
    number = tf.shape(sample)[0]

    def part(i: Tensor, *found: Tensor) -> tuple[Any, ...]:
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
