"""Convolutions of images against TensorFlow's own: values, first and second derivatives."""

import functools
import itertools

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


def _compared(image, kernel, *, jit_compile, any_batch=False, **arguments):
    """Derivatives by the module and by TensorFlow, in double precision, of six filters."""
    generator = np.random.default_rng(0)
    x, direction = (tf.constant(generator.standard_normal((2, *image))) for _ in range(2))
    weights = tf.constant(generator.standard_normal((*kernel, image[-1], 6)))
    seed = tf.constant(generator.standard_normal(tf.nn.convolution(x, weights, **arguments).shape))
    derivatives = functools.partial(_derivatives, **arguments)
    inputs = x, weights, seed, direction
    signature = [tf.TensorSpec(part.shape if part is weights else [None, *part.shape[1:]], x.dtype) for part in inputs]
    wanted = tf.function(derivatives)(*inputs)
    with replaced(tf.nn, convolution=convolution.cheap_gradient_convolution):
        compiled = tf.function(derivatives, jit_compile=jit_compile, input_signature=signature if any_batch else None)
        got = compiled(*inputs)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
@pytest.mark.parametrize(
    ("image", "kernel"),
    [((9, 8, 1), (5, 5)), ((8, 11, 3), (3, 4)), ((7, 7, 2), (2, 2)), ((6, 6, 4), (3, 3)), ((5, 6, 1), (5, 3))],
)
def test_equals_tensorflow(image, kernel, padding):
    _compared(image, kernel, jit_compile=False, padding=padding)


@pytest.mark.parametrize(
    ("image", "kernel", "arguments"),
    [
        ((9, 8, 1), (5, 5), {"padding": "VALID"}),
        ((8, 11, 3), (3, 4), {"padding": "SAME"}),
        ((6, 5, 18), (3, 3), {"padding": "SAME"}),
        ((9, 8, 5), (3, 3), {"padding": "SAME", "strides": 2}),
        ((8, 10, 2), (4, 3), {"padding": "VALID", "strides": [3, 2]}),
        ((7, 8, 3), (1, 1), {"padding": "SAME", "strides": 2}),
        ((7, 8, 3), (1, 1), {"padding": "VALID", "strides": [1, 3]}),
        ((7, 9, 1), (2, 3), {"padding": "SAME", "strides": 4}),
        ((8, 8, 4), (3, 3), {"padding": "SAME", "strides": [1, 2, 2, 1]}),
        ((8, 8, 4), (3, 3), {"padding": "SAME", "strides": np.array([2, 1])}),
    ],
)
def test_equals_tensorflow_under_xla_with_strides_and_many_channels(image, kernel, arguments):
    _compared(image, kernel, jit_compile=True, **arguments)


def test_equals_tensorflow_under_xla_for_any_number_of_images():
    _compared((8, 7, 3), (3, 2), jit_compile=True, any_batch=True, padding="SAME", strides=2)


@pytest.mark.parametrize("padding", ["VALID", "SAME"])
def test_gradients_are_adjoint_for_every_size(padding, monkeypatch):
    # <conv(x, kernel), seed> = <x, gradient of x> = <kernel, gradient of kernel>, since it is bilinear.
    monkeypatch.setattr(convolution, "in_xla", lambda: True)
    generator = np.random.default_rng(0)
    for size, extent, stride in itertools.product(range(4, 9), range(1, 5), range(1, 5)):
        x, kernel = generator.standard_normal((2, size, 5, 3)), generator.standard_normal((extent, 2, 3, 4))
        y = tf.nn.conv2d(x, kernel, [stride, 1], padding)
        seed = generator.standard_normal(y.shape)
        of_x = convolution.image_gradient(tf.constant(seed), tf.constant(kernel), (size, 5), padding, (stride, 1))
        of_kernel = convolution.kernel_gradient(tf.constant(x), tf.constant(seed), kernel.shape, padding, (stride, 1))
        np.testing.assert_allclose([np.sum(x * of_x), np.sum(kernel * of_kernel)], np.sum(y * seed), rtol=1e-9)


@pytest.mark.parametrize(
    ("image", "channels", "arguments"),
    [
        ((8, 8, 1), 1, {"strides": 2}),
        ((8, 8, 1), 1, {"strides": [1, 2], "padding": "SAME"}),
        ((8, 8, 1), 1, {"dilations": 2}),
        ((8, 8, 6), 6, {"strides": [1, 2, 2, 1], "padding": "SAME"}),
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
