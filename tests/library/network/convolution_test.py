"""Convolutions of images against TensorFlow's own: values, first and second derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amm.network.kernels import convolution
from keras_amm.network.kernels.replaced import replaced


def _derivatives(x, kernel, seed, direction, **arguments):
    with tf.GradientTape(persistent=True) as outer:
        outer.watch([x, kernel])
        with tf.GradientTape(persistent=True) as inner:
            inner.watch([x, kernel])
            y = tf.nn.convolution(x, kernel, **arguments)
            total = tf.reduce_sum(tf.sin(y) * seed)
        gradient = inner.gradient(total, x)
        along = tf.reduce_sum(gradient * direction)
    return (y, gradient, inner.gradient(total, kernel), *outer.gradient(along, [x, kernel]))


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(
    ("image", "kernel"),
    [((9, 8, 1), (5, 5)), ((8, 11, 3), (3, 4)), ((7, 7, 2), (2, 2)), ((6, 6, 4), (3, 3)), ((5, 6, 1), (5, 3))],
)
def test_equals_tensorflow(image, kernel, padding):
    generator = np.random.default_rng(0)
    x, direction = (tf.constant(generator.standard_normal((2, *image))) for _ in range(2))
    weights = tf.constant(generator.standard_normal((*kernel, image[-1], 6)))
    seed = tf.constant(generator.standard_normal(tf.nn.convolution(x, weights, padding=padding).shape))
    wanted = tf.function(_derivatives)(x, weights, seed, direction, padding=padding)
    with replaced(tf.nn, convolution=convolution.cheap_gradient_convolution):
        got = tf.function(_derivatives)(x, weights, seed, direction, padding=padding)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("image", "channels", "arguments"),
    [
        ((8, 8, 1), 1, {"strides": 2}),
        ((8, 8, 1), 1, {"strides": [1, 2], "padding": "SAME"}),
        ((8, 8, 1), 1, {"dilations": 2}),
        ((8, 8, 6), 6, {}),
        ((8, 8, 4), 2, {}),
        ((8, 3), 3, {}),
    ],
)
def test_leaves_other_convolutions_alone(image, channels, arguments):
    kernel = (*[3] * (len(image) - 1), channels, 4)
    x, weights = keras.random.normal((2, *image), seed=0), keras.random.normal(kernel, seed=1)
    wanted = tf.nn.convolution(x, weights, **arguments)
    with replaced(tf.nn, convolution=convolution.cheap_gradient_convolution):
        got = tf.function(tf.nn.convolution)(x, weights, **arguments)
    np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
