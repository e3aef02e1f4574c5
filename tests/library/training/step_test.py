"""What a training step does: the update written out, in every mode of execution, dtype and kind of labels."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import (
    LOSS,
    assert_same_weights,
    assert_trained,
    small_data,
    small_network,
    train,
    wrap_lightly,
)


def test_one_step_is_the_gradient_of_loss_and_penalty():
    """The update against one written out with margin_penalty, which the fixtures check."""
    x, y = small_data(16)
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp")
    model, twin = (keras_amm.wrap(small_network(keras.layers.MaxPooling2D(2)), regularizer) for _ in range(2))
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.train_on_batch(x, y)
    with tf.GradientTape() as tape:
        total = LOSS(y, twin(x, training=True)) + twin.margin_penalty(x, y)
    for weight, gradient in zip(twin.trainable_variables, tape.gradient(total, twin.trainable_variables), strict=True):
        weight.assign_sub(0.1 * gradient)
    assert_same_weights(model, twin)


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        (keras.losses.SparseCategoricalCrossentropy, lambda y: y[:, None]),
        (keras.losses.SparseCategoricalCrossentropy, lambda y: y.astype("float32")),
        (keras.losses.CategoricalCrossentropy, lambda y: np.eye(3, dtype="float32")[y]),
        (lambda **k: keras.losses.CategoricalCrossentropy(label_smoothing=0.1, **k), lambda y: np.eye(3)[y]),
        (keras.losses.CategoricalCrossentropy, lambda y: 0.9 * np.eye(3)[y] + 0.1 / 3),
    ],
)
def test_labels(loss, labels):
    x, y = small_data(16)
    assert_trained(train(wrap_lightly(small_network()), x, labels(y), loss(from_logits=True), run_eagerly=True))


def _train_in_mode(**arguments):
    x, y = small_data()
    # Of all samples, and in steps so small, that where rounding decides for another maximum or selects another sample,
    # the weights go by less than 1e-4 elsewhere: of the nearest ones, in larger steps, by 4e-3.
    regularizer = keras_amm.MarginRegularizer(4.0, "avg", c=0.5, misclassified="all", gradient="unrolled")
    model = keras_amm.wrap(small_network(keras.layers.MaxPooling2D(2)), regularizer)
    optimizer = keras.optimizers.SGD(0.005, momentum=0.5, global_clipnorm=1.0)
    return model, train(model, x, y, optimizer=optimizer, fit={"epochs": 2}, **arguments)


# One training to compare with, for all modes.
_trained_eagerly = functools.cache(functools.partial(_train_in_mode, run_eagerly=True))


@pytest.mark.parametrize("arguments", [{}, {"steps_per_execution": 3}, {"jit_compile": True}], ids=str)
def test_modes_of_execution_agree(arguments):
    wanted, history = _trained_eagerly()
    assert_trained(history)
    got, other = _train_in_mode(**arguments)
    # Not what is remembered of gradients: XLA computes others of them.
    assert_same_weights(got.base_model, wanted.base_model, rtol=1e-3, atol=5e-4)
    for name, values in history.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("metrics", [None, ["accuracy"]])
def test_the_step_is_traced_once(metrics, monkeypatch):
    traces, train_step = [], keras_amm.AMMModel.train_step

    def counted(self, data):
        traces.append(data)
        return train_step(self, data)

    monkeypatch.setattr(keras_amm.AMMModel, "train_step", counted)
    network = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    train(wrap_lightly(network), *small_data(32), metrics=metrics)
    assert len(traces) == 1


@functools.cache
def _weights_in_full_precision():
    full = small_network()
    train(keras_amm.wrap(full), *small_data(), optimizer=keras.optimizers.SGD(0.05), run_eagerly=True)
    return full.get_weights()


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_with_loss_scaling(policy):
    x, y = small_data()
    keras.config.set_dtype_policy(policy)
    try:
        half = small_network()
        model = keras_amm.wrap(half)
    finally:
        keras.config.set_dtype_policy("float32")
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.05), initial_scale=256.0)
    assert_trained(train(model, x, y, optimizer=optimizer if policy == "mixed_float16" else keras.optimizers.SGD(0.05)))
    for a, b in zip(half.get_weights(), _weights_in_full_precision(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.05)


def test_sample_weights_weigh_the_loss_alone():
    x, y = small_data(16)
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp")
    weighed, twin = (keras_amm.wrap(small_network(), regularizer) for _ in range(2))
    weights = np.linspace(0.0, 2.0, 16).astype("float32")
    weighed.compile(keras.optimizers.SGD(0.1), LOSS, run_eagerly=True)
    weighed.train_on_batch(x, y, sample_weight=weights)
    with tf.GradientTape() as tape:
        total = LOSS(y, twin(x), sample_weight=weights) + twin.margin_penalty(x, y)
    for weight, gradient in zip(twin.trainable_variables, tape.gradient(total, twin.trainable_variables), strict=True):
        weight.assign_sub(0.1 * gradient)
    assert_same_weights(weighed, twin)


def test_class_weights():
    x, y = small_data(16)
    fit = {"epochs": 1, "class_weight": {0: 1.0, 1: 5.0, 2: 0.5}}
    assert_trained(train(wrap_lightly(small_network()), x, y, fit=fit, run_eagerly=True))


class LossOfEachImage(keras.layers.Layer):
    """Adds a loss that is not a scalar; Keras takes the sum."""

    def call(self, inputs):
        self.add_loss(0.01 * keras.ops.ones_like(inputs[:, 0]))
        return inputs


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("layer", [keras.layers.ActivityRegularization(l2=0.1), LossOfEachImage()])
def test_extra_losses_are_minimised_and_told_apart(layer):
    x, y = small_data(16)
    sketch = small_network(layer)
    sketch.layers[0].kernel_regularizer = keras.regularizers.L2(0.3)
    network, plain = (keras.models.clone_model(sketch) for _ in range(2))
    plain.set_weights(network.get_weights())
    plain.compile(keras.optimizers.SGD(0.0), LOSS)
    total = plain.train_on_batch(x, y, return_dict=True)["loss"]
    cross_entropy = float(LOSS(y, plain(x)))
    model = keras_amm.wrap(network)
    model.compile(keras.optimizers.SGD(0.0), LOSS)
    logs = model.train_on_batch(x, y, return_dict=True)
    assert logs["cross_entropy"] == pytest.approx(cross_entropy, rel=1e-4)
    assert logs["loss"] == pytest.approx(total + logs["margin_penalty"], rel=1e-4)
    assert total > cross_entropy + 0.1


@pytest.mark.parametrize(
    "arguments",
    [{"clipnorm": 0.1}, {"global_clipnorm": 0.1}, {"clipvalue": 0.01}, {"gradient_accumulation_steps": 2}],
    ids=str,
)
def test_clipping_and_accumulation(arguments):
    x, y = small_data()
    mode = {"run_eagerly": "gradient_accumulation_steps" not in arguments}
    optimizer = keras.optimizers.SGD(0.05, **arguments)
    assert_trained(train(wrap_lightly(small_network()), x, y, optimizer=optimizer, **mode))


def test_frozen_layers_stay():
    x, y = small_data()
    network = small_network(keras.layers.BatchNormalization())
    network.layers[0].trainable = False
    before = [w.copy() for w in network.layers[0].get_weights()]
    assert_trained(train(keras_amm.wrap(network), x, y, run_eagerly=True))
    for a, b in zip(before, network.layers[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
