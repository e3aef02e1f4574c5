"""The cosine of perturbation and normal where both are known."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from benchmarks import boundary_cosine


@pytest.mark.usefixtures("eagerly")
def test_one_for_a_linear_classifier_and_less_for_a_curved_boundary():
    linear = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, kernel_initializer="random_normal")])
    x = np.random.default_rng(0).normal(size=(20, 3)).astype("float32")
    np.testing.assert_allclose(boundary_cosine.cosines(linear, x), 1.0, rtol=1e-5)
    # Class 1 outside of a long ellipse: seen from inside, DeepFool's first gradient is not the normal where it ends.
    inputs = keras.Input((2,))
    beyond = keras.layers.Lambda(lambda x: tf.reduce_sum(x**2 * [0.01, 1.0], axis=1, keepdims=True) - 1.0)(inputs)
    curved = keras.Model(inputs, keras.layers.Concatenate()([keras.ops.zeros_like(beyond), beyond]))
    (cosine,) = boundary_cosine.cosines(curved, np.array([[6.0, 0.05]], "float32"))
    point = _end_of_deepfool(np.array([6.0, 0.05]))
    normal, ray = point * [0.01, 1.0], point - [6.0, 0.05]
    assert cosine == pytest.approx(normal @ ray / np.linalg.norm(normal) / np.linalg.norm(ray), rel=1e-3)
    assert cosine < 0.99


def _end_of_deepfool(x: np.ndarray) -> np.ndarray:
    """Where DeepFool ends, with its overshoot at every step, by hand."""
    start, point = x, x
    for _ in range(6):
        level = np.sum(point**2 * [0.01, 1.0]) - 1.0
        if level > 0:
            break
        w = 2.0 * point * [0.01, 1.0]
        point = start + (point - start) + 1.02 * (-level / (w @ w)) * w
    return point


def test_summary():
    row = boundary_cosine.summary(np.array([0.1, 0.8, 0.9, 1.0]))
    assert row["images"] == 4 and row["median"] == pytest.approx(0.85) and row["below_floor"] == 0.25
