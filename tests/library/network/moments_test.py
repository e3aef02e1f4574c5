"""Mean and variance against closed forms, first and second derivatives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amm.network.kernels import moments
from keras_amm.network.kernels.replaced import replaced


@pytest.mark.parametrize("keepdims", [False, True])
def test_equals_tensorflow(keepdims):
    x = tf.constant(np.random.default_rng(0).normal(size=(3, 4, 5)))
    with replaced(tf.nn, moments=moments.twice_differentiable_moments):
        got = tf.nn.moments(x, [0, 2], keepdims=keepdims)
    for a, b in zip(got, tf.nn.moments(x, [0, 2], keepdims=keepdims), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_hessian_of_the_variance():
    x = tf.constant(np.random.default_rng(0).normal(size=4))
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            with replaced(tf.nn, moments=moments.twice_differentiable_moments):
                _, variance = tf.nn.moments(x, [0])
        gradient = inner.gradient(variance, x)
    np.testing.assert_allclose(gradient, (x - np.mean(x)) / 2.0)
    np.testing.assert_allclose(outer.jacobian(gradient, x), (np.eye(4) - 0.25) / 2.0, atol=1e-12)


def test_keras_group_normalization_uses_it():
    layer, x = keras.layers.GroupNormalization(1, dtype="float64"), tf.constant([[0.0, 1.0, 3.0, 4.0]], tf.float64)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            with replaced(tf.nn, moments=moments.twice_differentiable_moments):
                total = tf.reduce_sum(layer(x)[:, 0])
        gradient = inner.gradient(total, x)
    # The output does not change along the constant vector, so neither does its gradient.
    np.testing.assert_allclose(tf.reduce_sum(outer.jacobian(gradient, x)[0, :, 0], axis=1), 0.0, atol=1e-12)
