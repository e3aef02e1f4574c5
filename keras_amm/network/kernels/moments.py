"""Mean and variance whose second derivative is right, which GroupNormalization needs.

`tf.nn.moments` takes the mean within the variance as constant. That is right for
the first derivative, where the mean's part vanishes, but not for the second.
"""

from typing import Any

import tensorflow as tf

from keras_amm.typing import Tensor, TensorLike

_moments = tf.nn.moments


def twice_differentiable_moments(
    x: TensorLike, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """`tf.nn.moments` without constants."""
    x = tf.convert_to_tensor(x)
    if x.dtype == tf.float16:
        return _moments(x, axes, shift, keepdims, name)
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance
