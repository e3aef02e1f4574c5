"""What the regularizer's settings do in training: kinds of gradient, screening, schedules and intervals."""

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
)


@pytest.mark.parametrize(("gradient", "run_eagerly"), [("masked", False), ("boundary", True)])
def test_other_gradients_and_screening(gradient, run_eagerly):
    x, y = small_data()
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", gradient=gradient, screening=0.3)
    assert_trained(train(keras_amm.wrap(small_network(), regularizer=regularizer), x, y, run_eagerly=run_eagerly))


@pytest.mark.parametrize(("search", "compiled"), [("ranks", {"run_eagerly": True}), ("cheap", {"jit_compile": True})])
def test_other_searches(search, compiled):
    x, y = small_data()
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", gradient="boundary", search=search, normalize="median"
    )
    model = keras_amm.wrap(small_network(), regularizer=regularizer)
    assert_trained(train(model, x, y, **compiled))


def test_full_screening_is_no_screening():
    x, y = small_data(16)
    wanted, got = (
        keras_amm.wrap(
            small_network(), regularizer=keras_amm.MarginRegularizer.from_paper("min-exp", screening=screening)
        )
        for screening in (None, 1.0)
    )
    train(wanted, x, y, run_eagerly=True)
    train(got, x, y, run_eagerly=True)
    assert_same_weights(got, wanted)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_zero_strength_is_plain_training(jit_compile):
    x, y = small_data()
    plain, wrapped = (small_network(keras.layers.Dropout(0.3, seed=5)) for _ in range(2))
    wanted = train(plain, x, y, jit_compile=jit_compile)
    history = train(
        keras_amm.wrap(wrapped, regularizer=keras_amm.MarginRegularizer.from_paper("min-exp", strength=0.0)),
        x,
        y,
        jit_compile=jit_compile,
    )
    assert set(history) == set(wanted)
    assert_same_weights(wrapped, plain, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("strength", [8.0, "auto"])
def test_warm_up(strength):
    """It grows linearly with the optimizer's updates; at the first there is no penalty."""
    x, y = small_data(16)
    regularizer = keras_amm.MarginRegularizer.from_paper(
        "min-exp", strength=strength, shrinkage="lin", gradient="boundary", max_influence=0.4, warmup_steps=2
    )
    whole = 8.0 if strength == 8.0 else 0.4
    np.testing.assert_allclose(
        [regularizer.strength_at(step) for step in range(5)], whole * np.minimum(np.arange(5) / 2, 1)
    )
    model = keras_amm.wrap(small_network(), regularizer=regularizer)
    model.compile(keras.optimizers.SGD(0.0), LOSS, run_eagerly=True)
    penalties = [float(model.margin_penalty(x, y))]
    for _ in range(4):
        model.train_on_batch(x, y)
        penalties.append(float(model.margin_penalty(x, y)))
    assert penalties[2] != 0.0
    np.testing.assert_allclose(penalties, penalties[2] * np.minimum(np.arange(5) / 2, 1), rtol=1e-5)


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_delayed_start(run_eagerly):
    """While a schedule is zero the update is the plain one, and no margin is shown."""
    x, y = small_data(32)
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.0, 32.0])
    plain, delayed, always = small_network(), small_network(), small_network()
    train(plain, x, y, fit={"epochs": 1})
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", strength=schedule, gradient="boundary")
    model = keras_amm.wrap(delayed, regularizer, keras_amm.DeepFool(num_candidates=2))
    history = train(model, x, y, fit={"epochs": 1}, run_eagerly=run_eagerly)
    assert_same_weights(delayed, plain)
    assert history["margin_penalty"] == [0.0]
    assert np.isnan(history["margin"][0])
    history = model.fit(x, y, batch_size=16, epochs=2, verbose=0).history
    assert np.isfinite(history["margin"][1])
    assert history["margin_penalty"][1] > 0
    train(keras_amm.wrap(always), x, y, fit={"epochs": 1}, run_eagerly=True)
    assert not np.allclose(always.get_weights()[0], plain.get_weights()[0])


def test_steps_of_an_interval_are_plain_ones():
    x, y = small_data(32)
    plain, wrapped = (small_network(keras.layers.MaxPooling2D(2)) for _ in range(2))
    arguments = {"gradient": "boundary"}
    model = keras_amm.wrap(wrapped, keras_amm.MarginRegularizer.from_paper("min-exp", interval=2, **arguments))
    for part in (plain, model):
        part.compile(keras.optimizers.SGD(0.1), LOSS)
    with tf.GradientTape() as tape:
        total = LOSS(y[:16], plain(x[:16])) + 2.0 * keras_amm.wrap(
            plain, keras_amm.MarginRegularizer.from_paper("min-exp", **arguments)
        ).margin_penalty(x[:16], y[:16])
    gradients = tape.gradient(total, plain.trainable_variables)
    for weight, gradient in zip(plain.trainable_variables, gradients, strict=True):
        weight.assign_sub(0.1 * gradient)
    first = model.train_on_batch(x[:16], y[:16], return_dict=True)
    assert_same_weights(wrapped, plain)
    plain.train_on_batch(x[16:], y[16:])
    second = model.train_on_batch(x[16:], y[16:], return_dict=True)
    assert_same_weights(wrapped, plain)
    assert first["margin"] > 0 and first["margin_penalty"] > 0
    assert np.isnan(second["margin"]) and second["margin_penalty"] == 0
