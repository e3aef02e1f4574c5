"""What a gradient tape gives, as dense tensors.

The gradient of a table that is looked up, such as the weights of an `Embedding`, comes as `tf.IndexedSlices`: some of
its rows. These can neither be added nor multiplied, nor carried through a loop or a branch.
"""

from typing import Any

import tensorflow as tf

from keras_amm.typing import Tensor, Variable


def weight_gradients(
    tape: tf.GradientTape,
    target: Tensor | list[Tensor],
    weights: list[Variable],
    output_gradients: Tensor | list[Tensor] | None = None,
) -> list[Tensor | None]:
    """The gradient of a target, or of several, in each weight, of its shape; None where they do not depend on it."""
    found = tape.gradient(target, weights, output_gradients=output_gradients)
    return [_dense(gradient, weight.shape) for gradient, weight in zip(found, weights, strict=True)]


def image_gradient(tape: tf.GradientTape, target: Tensor, x: Tensor, output_gradients: Tensor | None = None) -> Tensor:
    """The gradient of a target in x, of the shape of x; zeros where it does not depend on it."""
    zero = tf.UnconnectedGradients.ZERO
    found = tape.gradient(target, x, output_gradients=output_gradients, unconnected_gradients=zero)
    return tf.ensure_shape(_dense(found, tf.shape(x)), x.shape) if isinstance(found, tf.IndexedSlices) else found


def _dense(gradient: Any, shape: Any) -> Tensor | None:
    """A gradient as a tensor of the given shape, its rows summed up where they came more than once."""
    if not isinstance(gradient, tf.IndexedSlices):
        return gradient
    return tf.math.unsorted_segment_sum(gradient.values, gradient.indices, shape[0])
