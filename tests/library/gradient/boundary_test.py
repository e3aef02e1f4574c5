"""The boundary gradient against closed forms and against bisection to the true boundary."""

import keras
import numpy as np
import tensorflow as tf

import keras_amm


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
