"""DeepFool's walk against closed forms, a per-sample loop, and its own invariants."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import keras_amm
from tests.helpers import oracle, zoo


def _linear(kernel, bias):
    model = keras.Sequential([keras.Input((kernel.shape[0],)), keras.layers.Dense(kernel.shape[1])])
    model.set_weights([kernel.astype("float32"), bias.astype("float32")])
    return model


def test_binary_linear_classifier_has_the_closed_form():
    generator = np.random.default_rng(0)
    kernel, bias = generator.standard_normal((6, 2)), generator.standard_normal(2)
    x = generator.standard_normal((20, 6)).astype("float32")
    found = keras_amm.DeepFool(overshoot=0.02).perturb(_linear(kernel, bias), x)
    w, b = kernel[:, 1] - kernel[:, 0], bias[1] - bias[0]
    np.testing.assert_allclose(found.norm, 1.02 * np.abs(x @ w + b) / np.linalg.norm(w), rtol=1e-4)
    np.testing.assert_array_equal(found.iterations, 1)
    assert np.all(found.success)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=st.integers(2, 7), seed=st.integers(0, 2**16))
def test_linear_classifier_has_the_closed_form(eagerly, classes, seed):
    """The nearest of the pairwise hyperplanes, and the perturbation normal to it."""
    generator = np.random.default_rng(seed)
    kernel, bias = generator.standard_normal((5, classes)), generator.standard_normal(classes)
    x = generator.standard_normal((9, 5)).astype("float32")
    found = keras_amm.DeepFool(num_candidates=classes).perturb(_linear(kernel, bias), x)
    logits = x @ kernel + bias
    p = np.argmax(logits, axis=1)
    distances = np.array(
        [
            [
                np.inf if k == i else (row[i] - row[k]) / np.linalg.norm(kernel[:, i] - kernel[:, k])
                for k in range(classes)
            ]
            for row, i in zip(logits, p, strict=True)
        ]
    )
    np.testing.assert_allclose(found.norm, 1.02 * distances.min(axis=1), rtol=1e-3, atol=1e-5)
    np.testing.assert_array_equal(found.target, distances.argmin(axis=1))


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", zoo.NAMES)
def test_equals_a_loop_over_samples(name):
    keras.utils.set_random_seed(2)
    model = zoo.build(name)
    x = zoo.images(8)
    logits = oracle.logits_of(model)
    y = np.argmax(logits(x), axis=1)
    y[:4] = (y[:4] + 2) % zoo.CLASSES
    untargeted, targeted = (keras_amm.DeepFool().perturb(model, x, labels) for labels in (None, y))
    # Where the prediction is the label, both are the same.
    np.testing.assert_allclose(targeted.delta[4:], untargeted.delta[4:], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(targeted.success[4:], untargeted.success[4:])
    np.testing.assert_array_equal(targeted.iterations[4:], untargeted.iterations[4:])
    for found, number in ((untargeted, 8), (targeted, 4)):
        for i in range(number):
            label = None if found is untargeted else int(y[i])
            norm, delta, iterations, success = oracle.deepfool(logits, tf.constant(x[i]), label)
            second, first = np.sort(logits((x[i] + delta)[None])[0])[-2:]
            if first - second > 1e-5:  # nearer the boundary, rounding decides whether it was crossed
                assert int(found.iterations[i]) == iterations
                assert bool(found.success[i]) == success
            np.testing.assert_allclose(found.norm[i], norm, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found.delta[i], delta, atol=1e-4)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("name", ["relu_mlp", "max_pool_cnn", "tanh_cnn"])
def test_prediction_changes_where_it_succeeded(name):
    keras.utils.set_random_seed(2)
    model = zoo.build(name)
    x = zoo.images(40)
    found = keras_amm.DeepFool().perturb(model, x)
    before, after = (np.argmax(model(points), axis=1) for points in (x, x + found.delta))
    np.testing.assert_array_equal(before != after, found.success)
    np.testing.assert_allclose(np.linalg.norm(np.reshape(found.delta, (40, -1)), axis=1), found.norm, rtol=1e-5)


def test_more_candidates_than_classes_means_all():
    model = zoo.build("relu_mlp")
    x = zoo.images(8)
    np.testing.assert_array_equal(
        keras_amm.DeepFool(num_candidates=zoo.CLASSES).perturb(model, x).norm,
        keras_amm.DeepFool(num_candidates=100).perturb(model, x).norm,
    )


def test_a_sample_does_not_depend_on_its_batch():
    keras.utils.set_random_seed(2)
    model = zoo.build("batch_norm_cnn")
    x, attack = zoo.images(16), keras_amm.DeepFool()
    together = attack.perturb(model, x).norm
    alone = [float(attack.perturb(model, x[i : i + 1]).norm[0]) for i in range(16)]
    np.testing.assert_allclose(together, alone, rtol=1e-4)


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("fill", [0.0, 1e-25])
@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_flat_networks_give_finite_numbers(fill, bias):
    model = zoo.build("relu_mlp")
    *weights, last = (np.full_like(w, fill) for w in model.get_weights())
    model.set_weights([*weights, last + bias * np.arange(len(last))])
    found = keras_amm.DeepFool().perturb(model, zoo.images(6))
    np.testing.assert_array_equal(found.norm, 0.0)
    # Logits that are all equal are at a boundary, from those of a bias alone nothing leads away.
    assert np.all(found.success == (bias == 0.0))


@pytest.mark.usefixtures("eagerly")
def test_saturated_network_gives_finite_numbers():
    model = zoo.build("softmax_head")
    model.set_weights([1e3 * w for w in model.get_weights()])
    found = keras_amm.DeepFool().perturb(model, zoo.images(6))
    assert np.all(np.isfinite(found.norm))
