"""BatchNormalization: the margins of training are those of the network that is trained, with the batch's statistics."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.network.batch_statistics import recorded_statistics
from keras_amm.network.classifier import Classifier
from keras_amm.search.linearisation import clean_pass
from tests.helpers.networks import assert_trained, train

X = tf.constant(np.random.default_rng(0).normal(3.0, 2.0, (8, 4)), tf.float32)
Y = np.arange(8) % 2


def _network(between=()):
    keras.utils.set_random_seed(0)
    normalised = [keras.layers.BatchNormalization(), *between]
    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), *normalised, keras.layers.Dense(2)])


def _state(network):
    return [value.copy() for value in network.get_weights()]


def test_the_view_in_a_batch_computes_what_training_computes():
    network = _network()
    before = _state(network)
    view = Classifier(network).in_batch_of(X)
    for a, b in zip(before, _state(network), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(view(X), network(X, training=True), atol=1e-5)
    assert np.abs(view(X) - Classifier(_network())(X)).max() > 0.1


def test_an_image_does_not_depend_on_its_neighbours():
    view = Classifier(_network()).in_batch_of(X)
    np.testing.assert_allclose(view(X[:1]), view(X)[:1], atol=1e-6)


def test_margins_are_those_of_the_linear_classifier_that_the_statistics_make():
    """A linear network, normalised by the batch: |w.x + b| / ||w|| with mean and deviation computed by NumPy."""
    network = _network()
    features = X @ network.layers[0].kernel
    mean, deviation = features.numpy().mean(0), np.sqrt(features.numpy().var(0) + network.layers[1].epsilon)
    last = network.layers[2].kernel.numpy()
    normal = network.layers[0].kernel.numpy() / deviation @ (last[:, 1] - last[:, 0])
    logit = (features.numpy() - mean) / deviation @ (last[:, 1] - last[:, 0])
    margin = np.abs(logit) / np.linalg.norm(normal)
    view = Classifier(network).in_batch_of(X)
    found = keras_amm.DeepFool(overshoot=0.0).path(view, clean_pass(view, X), tf.constant(Y, tf.int32))
    np.testing.assert_allclose(found.norm, margin, rtol=1e-5)
    np.testing.assert_array_equal(found.correct, (logit > 0) == Y)


@pytest.mark.parametrize("jit_compile", [False, True], ids=["graph", "xla"])
def test_fit_shows_the_margin_of_the_batch(jit_compile):
    model = keras_amm.wrap(_network(), search="exact")
    view = Classifier(model.base_model).in_batch_of(X)
    found = model.attack.path(view, clean_pass(view, X), tf.constant(Y, tf.int32))
    margin = float(tf.reduce_mean(tf.where(found.correct & found.success, found.norm, 0.0)))
    history = train(model, X.numpy(), Y, fit={"epochs": 1}, jit_compile=jit_compile)
    assert_trained(history)
    assert history["margin"][0] == pytest.approx(margin, rel=1e-4)


def test_a_layer_called_twice_has_the_mean_of_its_statistics():
    layer = keras.layers.BatchNormalization()
    with recorded_statistics() as statistics:
        layer(tf.constant([[1.0], [3.0]]), training=True)
        layer(tf.constant([[5.0], [5.0]]), training=True)
    assert [float(value[0]) for _, value in statistics] == [3.5, 0.5]


def test_what_is_computed_in_an_inner_graph_is_left_to_the_moving_statistics():
    layer = keras.layers.BatchNormalization()
    layer.build((2, 1))

    @tf.function
    def outer(x):
        with recorded_statistics() as statistics:
            tf.map_fn(lambda row: layer(row, training=True), x)
        return len(statistics)

    assert int(outer(tf.ones((3, 2, 1)))) == 0


def test_frozen_and_renormalised_layers_keep_their_moving_statistics():
    for layer in (keras.layers.BatchNormalization(trainable=False), keras.layers.BatchNormalization(renorm=True)):
        with recorded_statistics() as statistics:
            layer(tf.constant([[1.0], [3.0]]), training=True)
        assert not statistics


@pytest.mark.parametrize("gradient", ["boundary", "unrolled"])
def test_the_gradient_goes_through_the_statistics(gradient):
    """By finite differences. And what normalisation undoes, the scale and the bias of what it normalises, has none."""
    network = _network()
    regularizer = keras_amm.MarginRegularizer.from_paper("avg-lin", gradient=gradient)
    model = keras_amm.wrap(network, regularizer, keras_amm.DeepFool(1, overshoot=1e-4))
    kernel, bias = network.layers[0].kernel, network.layers[0].bias
    with tf.GradientTape() as tape:
        penalty = model.margin_penalty(X, Y)
    of_kernel, of_bias = tape.gradient(penalty, [kernel.value, bias.value])
    np.testing.assert_allclose(of_bias, np.zeros(5), atol=1e-5)
    direction = tf.constant(np.random.default_rng(1).normal(size=kernel.shape), tf.float32)
    start, step = tf.identity(kernel), 2e-3
    values = []
    for sign in (1.0, -1.0):
        kernel.assign(start + sign * step * direction)
        values.append(float(model.margin_penalty(X, Y)))
    assert float(tf.reduce_sum(of_kernel * direction)) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-2)
