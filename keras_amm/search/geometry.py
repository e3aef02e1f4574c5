"""Per-sample l2 geometry, guarded where a gradient vanishes.

Vectors are tensors [..., D1, D2, ...] whose leading axes count samples (and
steps); a per-sample value has those leading axes alone.
"""

from typing import Any

import tensorflow as tf

# Gradients whose squared norm is below this count as zero. The derivative of a
# step divides by the fourth power of the norm: it stays a normal float32.
_TINY = 1e-18


def inner(u: Any, v: Any, lead: int = 1) -> Any:
    """Inner products over all but the leading axes.

    Args:
        u: float tensor.
        v: float tensor of the same shape.
        lead: int, the number of leading axes.

    Returns:
        Float tensor, the leading axes alone.

    Example:
    >>> keras_amm.search.geometry.inner(tf.ones((2, 3)), tf.ones((2, 3))).numpy()
    array([3., 3.], dtype=float32)
    """
    return tf.reduce_sum(u * v, axis=list(range(lead, u.shape.rank)))


def squared_norm(v: Any, lead: int = 1) -> Any:
    """Squared l2 norms over all but the leading axes.

    Args:
        v: float tensor.
        lead: int, the number of leading axes.

    Returns:
        Float tensor, the leading axes alone.

    Example:
    >>> keras_amm.search.geometry.squared_norm(tf.ones((2, 3))).numpy()
    array([3., 3.], dtype=float32)
    """
    return tf.reduce_sum(tf.square(v), axis=list(range(lead, v.shape.rank)))


def expand_to(values: Any, v: Any) -> Any:
    """Per-sample values, shaped so that they broadcast against vectors.

    Args:
        values: tensor, the leading axes alone.
        v: tensor, the vectors.

    Returns:
        `values` with an axis of 1 for each further axis of `v`.

    Example:
    >>> keras_amm.search.geometry.expand_to(tf.ones((2,)), tf.ones((2, 3, 4))).shape
    TensorShape([2, 1, 1])
    """
    trailing = v.shape.rank - values.shape.rank
    return tf.reshape(values, tf.concat([tf.shape(values), [1] * trailing], axis=0)) if trailing else values


def unit(v: Any) -> Any:
    """v / ||v||, and zero where v is zero.

    Args:
        v: float tensor [B, ...].

    Returns:
        Float tensor of the same shape.

    Example:
    >>> keras_amm.search.geometry.unit(tf.constant([[3.0, 4.0], [0.0, 0.0]])).numpy()
    array([[0.6, 0.8],
           [0. , 0. ]], dtype=float32)
    """
    return expand_to(tf.math.divide_no_nan(1.0, tf.sqrt(squared_norm(v))), v) * v


def divide_by_squared_norm(numerator: Any, squared: Any) -> Any:
    """numerator / ||w||^2, and zero where w is zero, in value and derivative.

    Args:
        numerator: float tensor.
        squared: float tensor of the same shape, the squared norms of w.

    Returns:
        Float tensor of the same shape.

    Example:
    >>> keras_amm.search.geometry.divide_by_squared_norm(tf.ones((2,)), tf.constant([0.0, 4.0])).numpy()
    array([0.  , 0.25], dtype=float32)
    """
    is_zero = squared <= _TINY
    return tf.where(is_zero, tf.zeros_like(squared), numerator / tf.where(is_zero, tf.ones_like(squared), squared))


def distance(g: Any, squared: Any) -> Any:
    """|g| / ||w||, the distance to the linear boundary g = 0; the largest float where w is zero.

    Args:
        g: float tensor, the value of the linear function.
        squared: float tensor of the same shape, the squared norms of its gradient w.

    Returns:
        Float tensor of the same shape.

    Example:
    >>> keras_amm.search.geometry.distance(tf.constant([-6.0]), tf.constant([4.0])).numpy()
    array([3.], dtype=float32)

    Reference: Equation 3.
    """
    is_zero = squared <= _TINY
    divisor = tf.sqrt(tf.where(is_zero, tf.ones_like(squared), squared))
    return tf.where(is_zero, tf.fill(tf.shape(g), g.dtype.max), tf.abs(g) / divisor)
