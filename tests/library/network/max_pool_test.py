"""Max pooling for XLA against TensorFlow's kernel: values, ties, first and second derivatives."""

import numpy as np
import pytest
import tensorflow as tf

from keras_amm.network.kernels import max_pool
from keras_amm.network.kernels.replaced import replaced


def _derivatives(x, seed, direction, arguments):
    with tf.GradientTape() as outer:
        outer.watch(seed)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = tf.nn.max_pool(x, **arguments)
            total = tf.reduce_sum(y * seed)
        gradient = inner.gradient(total, x)
        along = tf.reduce_sum(gradient * direction)
    return y, gradient, outer.gradient(along, seed)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(
    ("shape", "ksize", "strides"),
    [((2, 6, 7, 3), 2, 2), ((2, 7, 6, 2), (3, 2), (2, 1)), ((2, 9, 3), 3, 2), ((1, 5, 5, 5, 2), 2, 1)],
)
def test_equals_tensorflow(shape, ksize, strides, padding):
    generator = np.random.default_rng(0)
    # few distinct values, so that many windows have ties
    x = tf.constant(generator.integers(-2, 2, shape).astype("float32"))
    arguments = {"ksize": ksize, "strides": strides, "padding": padding}
    y = tf.nn.max_pool(x, **arguments)
    seed, direction = (tf.constant(generator.standard_normal(s.shape), tf.float32) for s in (y, x))
    if len(shape) == 4:
        wanted = _derivatives(x, seed, direction, arguments)
        with replaced(tf.nn, max_pool=max_pool.elementwise_max_pool):
            got = tf.function(_derivatives, jit_compile=True)(x, seed, direction, arguments)
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    else:
        with replaced(tf.nn, max_pool=max_pool.elementwise_max_pool):
            np.testing.assert_array_equal(tf.nn.max_pool(x, **arguments), y)
