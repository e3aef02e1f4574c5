"""Per-sample l2 geometry, without division by zero where a gradient vanishes.

Here a vector is an image or gradient, whatever its rank. A tensor of vectors has `lead` leading axes, which count
samples (or steps and samples); the axes after them belong to one vector. A value per sample has the leading axes alone.
"""

import tensorflow as tf

from keras_amm.typing import Tensor

# Gradients whose squared norm is below this count as zero. The derivative of a step divides by the fourth power of the
# norm, which above this is still a normal float32.
_TINY = 1e-18


def inner(u: Tensor, v: Tensor, lead: int = 1) -> Tensor:
    """Inner products of vectors, one for each sample.

    Example:
    >>> u, v = tf.constant([[[1.0, 2.0], [3.0, 4.0]]]), tf.constant([[[1.0, 0.0], [0.0, -1.0]]])
    >>> keras_amm.search.geometry.inner(u, v).numpy(), keras_amm.search.geometry.inner(u, v, lead=2).numpy()
    (array([-3.], dtype=float32), array([[ 1., -4.]], dtype=float32))
    """
    return tf.reduce_sum(u * v, axis=list(range(lead, u.shape.rank)))


def squared_norm(v: Tensor, lead: int = 1) -> Tensor:
    """Squared l2 norms of vectors, one for each sample."""
    return tf.reduce_sum(tf.square(v), axis=list(range(lead, v.shape.rank)))


def expand_to(values: Tensor, v: Tensor) -> Tensor:
    """Per-sample values, shaped so that they broadcast against vectors.

    Example:
    >>> keras_amm.search.geometry.expand_to(tf.ones((2,)), tf.ones((2, 3, 4))).shape
    TensorShape([2, 1, 1])
    """
    trailing = v.shape.rank - values.shape.rank
    if not trailing:
        return values
    shape = values.shape.concatenate([1] * trailing)
    if not shape.is_fully_defined():
        shape = tf.concat([tf.shape(values), [1] * trailing], axis=0)
    return tf.reshape(values, shape)


def unit(v: Tensor) -> Tensor:
    """v / ||v||, and zero where v is zero.

    Example:
    >>> keras_amm.search.geometry.unit(tf.constant([[3.0, 4.0], [0.0, 0.0]])).numpy()
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    return expand_to(tf.math.divide_no_nan(1.0, tf.sqrt(squared_norm(v))), v) * v


def divide_by_squared_norm(numerator: Tensor, squared: Tensor) -> Tensor:
    """numerator / ||w||^2, and zero where w is zero, in value and derivative.

    Example:
    >>> keras_amm.search.geometry.divide_by_squared_norm(tf.ones((2,)), tf.constant([0.0, 4.0])).numpy()
    array([0.  , 0.25], dtype=float32)
    """
    is_zero = squared <= _TINY
    return tf.where(is_zero, tf.zeros_like(squared), numerator / tf.where(is_zero, tf.ones_like(squared), squared))


def distance(g: Tensor, squared: Tensor) -> Tensor:
    """|g| / ||w||, the distance to the linear boundary g = 0; where w alone is zero, the largest finite float.

    Example:
    >>> keras_amm.search.geometry.distance(tf.constant([-6.0]), tf.constant([4.0])).numpy()
    array([3.], dtype=float32)

    Reference: Equation 3.
    """
    is_zero = squared <= _TINY
    divisor = tf.sqrt(tf.where(is_zero, tf.ones_like(squared), squared))
    # Where g is zero too, the boundary is here.
    return tf.where(is_zero & (g != 0.0), tf.fill(tf.shape(g), g.dtype.max), tf.abs(g) / divisor)
