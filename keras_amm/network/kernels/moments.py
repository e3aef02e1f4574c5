"""Mean and variance whose second derivative is right, which GroupNormalization needs.

`tf.nn.moments` takes the mean within the variance as constant. That is right for
the first derivative, where the mean's part vanishes, but not for the second.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import tensorflow as tf

_moments = tf.nn.moments


@contextlib.contextmanager
def twice_differentiable_moments() -> Iterator[None]:
    """Trace `tf.nn.moments`, and with it Keras's layers, without constants.

    Example:
    >>> with keras_amm.network.kernels.moments.twice_differentiable_moments():
    ...     y = keras.layers.GroupNormalization(2)(tf.random.normal((1, 4, 4, 2)))
    >>> y.shape
    TensorShape([1, 4, 4, 2])
    """
    with mock.patch.object(tf.nn, "moments", _without_constants):
        yield


def _without_constants(x: Any, axes: Any, shift: Any = None, keepdims: bool = False, name: str | None = None) -> Any:
    x = tf.convert_to_tensor(x)
    if x.dtype == tf.float16:
        return _moments(x, axes, shift, keepdims, name)
    mean = tf.reduce_mean(x, axes, keepdims=True)
    variance = tf.reduce_mean(tf.math.squared_difference(x, mean), axes, keepdims=keepdims)
    return mean if keepdims else tf.squeeze(mean, axes), variance
