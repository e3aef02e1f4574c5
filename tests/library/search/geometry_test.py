"""Norms and distances, and their limits where a vector vanishes."""

import numpy as np
import tensorflow as tf

from keras_amm.search import geometry


def test_norms_and_products_are_of_all_axes_but_the_leading_ones():
    u, v = (np.random.default_rng(seed).standard_normal((2, 3, 4, 5)).astype("float32") for seed in (0, 1))
    for lead in (1, 2):
        axes = tuple(range(lead, 4))
        np.testing.assert_allclose(geometry.inner(tf.constant(u), tf.constant(v), lead), np.sum(u * v, axes), rtol=1e-4)
        np.testing.assert_allclose(geometry.squared_norm(tf.constant(u), lead), np.sum(u * u, axes), rtol=1e-5)


def test_division_by_a_vanishing_norm_is_zero_in_value_and_derivative():
    squared = tf.constant([0.0, 1e-20, 4.0])
    with tf.GradientTape() as tape:
        tape.watch(squared)
        quotient = geometry.divide_by_squared_norm(tf.fill((3,), 2.0), squared)
    np.testing.assert_allclose(quotient, [0.0, 0.0, 0.5])
    np.testing.assert_allclose(tape.gradient(quotient, squared), [0.0, 0.0, -2.0 / 16.0])


def test_distance_is_the_largest_float_where_only_the_gradient_vanishes():
    found = geometry.distance(tf.constant([-6.0, 3.0, 0.0]), tf.constant([4.0, 0.0, 0.0]))
    np.testing.assert_array_equal(found, [3.0, tf.float32.max, 0.0])
