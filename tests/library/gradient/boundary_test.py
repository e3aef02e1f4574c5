"""The boundary gradient against closed forms and against bisection to the true boundary."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.gradient import boundary
from keras_amm.network.classifier import Classifier
from keras_amm.search.linearisation import clean_pass
from tests.helpers.networks import LOSS


def test_linear_classifier():
    """For a linear classifier the distance along the fixed normal is |w.x + b| / ||w||; only b moves it freely."""
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    kernel = np.array([[1.0, -1.0], [0.5, 0.0], [0.0, 2.0]], "float32")
    bias = np.array([0.3, -0.2], "float32")
    model.set_weights([kernel, bias])
    x = np.array([[1.0, 2.0, -1.0]], "float32")
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=1.0, aggregation="avg", shrinkage="lin", c=1.0, d=1.0, gradient="boundary"
    )
    wrapped = keras_amm.wrap(model, regularizer=regularizer, attack=keras_amm.DeepFool(overshoot=0.0))
    label = np.argmax(model(x), axis=1)
    with tf.GradientTape() as tape:
        penalty = wrapped.margin_penalty(x, label)
    got = tape.gradient(penalty, model.trainable_variables)
    w = kernel[:, 0] - kernel[:, 1]
    norm = np.linalg.norm(w)
    sign = 1.0 if label[0] == 0 else -1.0
    # penalty = -N, and dN/db_k = sign / ||w|| for the predicted class, minus that for the other
    np.testing.assert_allclose(got[1], -sign * np.array([1.0, -1.0]) / norm, rtol=1e-5)


def test_smooth_network_against_the_moved_boundary():
    """Along the fixed direction, the distance to the true boundary changes by the gradient."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(16, "tanh"), keras.layers.Dense(3)])
    x = np.random.default_rng(0).standard_normal((1, 4)).astype("float32")
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=1.0, aggregation="avg", shrinkage="lin", c=1.0, d=1.0, gradient="boundary"
    )
    attack = keras_amm.DeepFool(overshoot=0.0, max_iterations=30)
    wrapped = keras_amm.wrap(model, regularizer=regularizer, attack=attack)
    label = np.argmax(model(x), axis=1)
    found = attack.perturb(model, x)
    assert bool(found.success[0])
    with tf.GradientTape() as tape:
        penalty = wrapped.margin_penalty(x, label)
    gradient = tape.gradient(penalty, model.trainable_variables)
    direction = found.delta / found.norm[:, None]
    target = int(found.target[0])

    def distance():
        low, high = 0.5 * float(found.norm[0]), 1.5 * float(found.norm[0])
        for _ in range(60):
            middle = 0.5 * (low + high)
            logits = model(x + middle * direction)[0].numpy().astype("float64")
            low, high = (middle, high) if logits[target] < logits[label[0]] else (low, middle)
        return low

    step = [0.003 * np.random.default_rng(2).standard_normal(w.shape) for w in model.get_weights()]
    weights = model.get_weights()
    values = []
    for sign in (1.0, -1.0):
        model.set_weights([w + sign * s for w, s in zip(weights, step, strict=True)])
        values.append(distance())
    slope = sum(np.vdot(g, s) for g, s in zip(gradient, step, strict=True))
    np.testing.assert_allclose(-(values[0] - values[1]) / 2, slope, rtol=2e-2)


def test_the_cosine_of_a_linear_classifier_is_one():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    x = np.random.default_rng(0).standard_normal((8, 3)).astype("float32")
    # Labels as predicted, so that all count.
    assert _cosine_in_fit(model, x, np.argmax(model(x), axis=1)) == pytest.approx(1.0, abs=1e-5)


class Ellipse(keras.layers.Layer):
    """The logits (x^2 / a^2 + y^2 / b^2, 1) of points (x, y) [B, 2], whose boundary is an ellipse."""

    axes = np.array([3.0, 1.0], "float32")

    def call(self, x):
        inside = keras.ops.sum(keras.ops.square(x / self.axes), axis=1, keepdims=True)
        return keras.ops.concatenate([inside, keras.ops.ones_like(inside)], axis=1)


def test_the_cosine_at_an_ellipse():
    """The normal of an ellipse is (x / a^2, y / b^2)."""
    model = keras.Sequential([keras.Input((2,)), Ellipse(), keras.layers.Dense(2, use_bias=False)])
    model.layers[-1].set_weights([np.eye(2)])
    x = np.array([[4.0, 2.0], [2.5, 3.0], [1.0, 0.2]], "float32")
    y = np.argmax(model(x), axis=1)
    found = keras_amm.DeepFool().perturb(model, x)
    normal = (x + found.delta.numpy()) / Ellipse.axes**2
    cosines = np.abs(np.sum(normal * found.delta, axis=1)) / np.linalg.norm(normal, axis=1) / found.norm
    assert np.all(cosines < 0.999)
    assert _cosine_in_fit(model, x, y) == pytest.approx(np.mean(cosines), rel=1e-4)
    assert _cosine_in_fit(model, x, y, jit_compile=True) == pytest.approx(np.mean(cosines), rel=1e-4)


def test_only_the_boundary_gradient_shows_a_cosine():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    wrapped = keras_amm.wrap(model, keras_amm.MarginRegularizer.from_paper("min-exp"))
    wrapped.compile("sgd", LOSS)
    assert "boundary_cosine" not in wrapped.metrics_names


def _cosine_in_fit(model, x, y, **arguments):
    """What training shows of a batch whose samples all count."""
    wrapped = keras_amm.wrap(model, keras_amm.MarginRegularizer(aggregation="avg", search="exact"))
    wrapped.compile(keras.optimizers.SGD(0.0), LOSS, **arguments)
    return wrapped.train_on_batch(x, y, return_dict=True)["boundary_cosine"]


@pytest.mark.parametrize("cosine", [1.0, 0.6, boundary.FLOOR, 0.1, 1e-4, -0.5])
def test_a_small_cosine_counts_as_the_floor(cosine):
    """Of g = w.x + b, the length of a ray to the boundary changes with b by 1 / (||w|| cos)."""
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    model.set_weights([np.array([[0.0, 4.0], [0.0, 0.0]]), np.array([0.0, -4.0])])
    classifier, sine = Classifier(model), np.sqrt(1 - cosine**2)
    # From left of the boundary x = 1, or, where the cosine is negative, from right of it.
    x = tf.constant([[1.0 - 0.5 * cosine, 0.0]])
    path = keras_amm.DeepFool().path(classifier, clean_pass(classifier, x), None)
    zero, one = tf.constant([0]), tf.constant([1])
    path = path._replace(delta=tf.constant([[0.5 * cosine, 0.5 * sine]]), source=zero, target=one)
    gradients, found = boundary.differentiate(classifier, path, zero, tf.constant([1.0]), model.trainable_variables)
    wanted = 1 / (4.0 * max(cosine, boundary.FLOOR)) if cosine > 1e-3 else 0.0
    np.testing.assert_allclose(gradients[1], wanted * np.array([1.0, -1.0]), rtol=1e-5)
    np.testing.assert_allclose(found, [cosine], rtol=1e-4, atol=1e-7)
