"""What a scheduled penalty is in a graph: that of the branch that runs, whichever is traced first."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import LOSS, small_data, small_network


def _false_branch_first(monkeypatch):
    cond = tf.cond
    monkeypatch.setattr(tf, "cond", lambda holds, yes, no: cond(tf.logical_not(holds), no, yes))


def _scheduled(policy="float32"):
    keras.config.set_dtype_policy(policy)
    try:
        network = small_network()
    finally:
        keras.config.set_dtype_policy("float32")
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.0, 32.0])
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", strength=schedule, gradient="boundary")
    return keras_amm.wrap(network, regularizer, keras_amm.DeepFool(num_candidates=2))


@pytest.mark.parametrize("jit_compile", [False, True])
def test_either_branch_may_be_traced_first(monkeypatch, jit_compile):
    x, y = small_data(16)
    model = _scheduled()
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.optimizer.build(model.trainable_variables)

    def penalty():
        with tf.GradientTape() as tape:
            value = model.margin_penalty(x, y)
        return value, tape.gradient(
            value, [weight.value for weight in model.trainable_variables], unconnected_gradients="zero"
        )

    expected = {}
    for step in (0, 3):
        model.optimizer.iterations.assign(step)
        expected[step] = penalty()
    _false_branch_first(monkeypatch)
    compiled = tf.function(penalty, jit_compile=jit_compile)
    for step, (wanted, wanted_gradients) in expected.items():
        assert (wanted > 0) == (step > 2)
        model.optimizer.iterations.assign(step)
        value, gradients = compiled()
        np.testing.assert_allclose(value, wanted, rtol=1e-5)
        for got, wanted_gradient in zip(gradients, wanted_gradients, strict=True):
            np.testing.assert_allclose(got, wanted_gradient, rtol=1e-3, atol=1e-6)


def test_a_scheduled_penalty_in_float64():
    x, y = small_data(16)
    model = _scheduled("float64")
    assert keras_amm.network.classifier.Classifier(model.base_model).dtype == "float64"
    model.compile(keras.optimizers.SGD(0.1), LOSS)
    model.optimizer.build(model.trainable_variables)
    compiled = tf.function(model.margin_penalty)
    for step in (0, 3):
        model.optimizer.iterations.assign(step)
        value = compiled(tf.constant(x), tf.constant(y))
        assert value.dtype == tf.float64
        np.testing.assert_allclose(value, model.margin_penalty(x, y), rtol=1e-10)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_a_check_that_fails_within_the_branch_names_itself(jit_compile):
    x, y = small_data(32)
    y[20] = 7
    model = _scheduled()
    model.compile("sgd", LOSS, jit_compile=jit_compile)
    model.fit(x[:16], y[:16], epochs=3, verbose=0)
    before = model.get_weights()
    # Of the cross-entropy's check of labels and this library's, either may be the first to fail.
    values = "Train without jit_compile to see the offending values" if jit_compile else "Got (labels such as )?7"
    with pytest.raises(ValueError, match=rf"training step 4,.*0\.\.2, the classifier's outputs\. {values}\."):
        model.fit(x[16:], y[16:], batch_size=16, verbose=0)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
