"""Images at a decision boundary: two equal largest logits are reached at distance 0."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.gradient import adjoint, boundary
from keras_amm.network.classifier import Classifier
from keras_amm.search.linearisation import clean_pass
from tests.helpers.networks import small_data, train

# Logits are the inputs themselves, so ties are exact, and the boundary of two classes is at |difference| / sqrt(2).
X = np.array([[2, 2, 0], [0, 3, 3], [1, 1, 1], [2, 0, 1], [0, 0, 4]], "float32")
CORRECT, WRONG = [0, 1, 0], [1, 2, 1]
DISTANCES = np.array([0, 0, 0, 1 / np.sqrt(2), 4 / np.sqrt(2)], "float32")


def _identity(*layers):
    model = keras.Sequential([keras.Input((3,)), *layers, keras.layers.Dense(3)])
    model.layers[-1].set_weights([np.eye(3, dtype="float32"), np.zeros(3, "float32")])
    return model


def _perturb(how, model, x, labels=None, **options):
    attack = keras_amm.DeepFool(**{"overshoot": 0.02, **options})
    labels = labels if labels is None else tf.constant(labels)
    if how == "eager":
        classifier = Classifier(model)
        return attack.perturb_from(classifier, clean_pass(classifier, tf.constant(x)), labels)
    if how == "graph":
        return attack.perturb(model, x, labels)
    return tf.function(lambda x: attack.perturb(model, x, labels), jit_compile=True)(tf.constant(x))


@pytest.mark.parametrize(("how", "refine_steps"), [("eager", 0), ("graph", 5), ("xla", 5)])
def test_distance_is_zero_after_no_step(how, refine_steps):
    found = _perturb(how, _identity(), X, refine_steps=refine_steps)
    # Bisection comes within a part in 2**5 of the boundary.
    np.testing.assert_allclose(found.norm, 1.02 * DISTANCES, rtol=0.02 + 1e-5)
    np.testing.assert_array_equal(found.iterations, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(found.target[:3], [1, 2, 1])
    np.testing.assert_array_equal(found.delta[:3], np.zeros((3, 3)))
    assert np.all(found.success)


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_towards_the_label(how):
    # Predictions are 0, 1, 0, 0 and 2, the first of the equal ones; the first three labels are others of them.
    # The last two images are the first ones again: a tie of two other classes is none with the label.
    found = _perturb(how, _identity(), np.concatenate([X, X[:2]]), labels=[1, 2, 2, 2, 2, 2, 0])
    np.testing.assert_allclose(found.norm[:5], 1.02 * DISTANCES, rtol=1e-5)
    np.testing.assert_array_equal(found.iterations[:5], [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(found.target[:5], [1, 2, 2, 2, np.asarray(found.target)[4]])
    assert np.all(found.success[:5])
    assert np.all(found.norm[5:] > 1) and np.all(found.iterations[5:] > 0)


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_a_step_that_ends_at_the_boundary_reaches_it(how):
    """Without overshoot, and with numbers that are exact, both logits are equal after the step."""
    found = _perturb(how, _identity(), np.array([[4, 2, 0], [8, 0, -8]], "float32"), overshoot=0.0)
    np.testing.assert_allclose(found.norm, np.array([2, 8]) / np.sqrt(2), rtol=1e-6)
    np.testing.assert_array_equal(found.iterations, 1)
    assert np.all(found.success)


def test_reports_count_ties_as_reached():
    report = keras_amm.evaluate_margins(_identity(), (X, np.array([0, 2, 2, 0, 2])), verbose=0)
    np.testing.assert_allclose(report.norms, 1.02 * DISTANCES, rtol=1e-5)
    np.testing.assert_allclose(np.abs(report.signed), 1.02 * DISTANCES, rtol=1e-5)
    assert report.success_rate == 1.0


@pytest.mark.parametrize(
    ("settings", "regularizer"),
    [
        ({}, {"gradient": "boundary"}),
        ({"jit_compile": True}, {"screening": 0.3}),
        ({"run_eagerly": True}, {}),
    ],
    ids=str,
)
def test_fit_of_a_head_initialised_with_zeros(settings, regularizer):
    x, y = small_data(16)
    keras.utils.set_random_seed(0)
    head = keras.layers.Dense(3, kernel_initializer="zeros")
    network = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(4, "relu"), head])
    y[:4] = 0
    model = keras_amm.wrap(network, keras_amm.MarginRegularizer.from_paper("min-exp", **regularizer))
    history = train(model, x, y, optimizer=keras.optimizers.SGD(0.0), fit={"epochs": 1}, **settings)
    assert history["margin"] == [0.0] and history["attack_success"] == [1.0]
    # The largest penalty of a sample is strength * exp(0), of one correct sample and one of each other class.
    assert history["margin_penalty"] == [pytest.approx(3 * 32 / 16)]


@pytest.mark.parametrize(
    ("kind", "labels", "jit_compile"),
    [
        ("unrolled", CORRECT, False),
        ("unrolled", WRONG, True),
        ("boundary", CORRECT, True),
        ("boundary", WRONG, False),
    ],
)
def test_the_gradient_is_that_of_the_distance(kind, labels, jit_compile):
    """N = -g / ||w|| on the image's side of the boundary, so dN = -dg / ||w|| where g is zero."""
    model = _identity()
    classifier, x = Classifier(model), tf.constant(X[:3])

    @tf.function(jit_compile=jit_compile)
    def differentiate():
        path = keras_amm.DeepFool(overshoot=0.0).path(
            classifier, clean_pass(classifier, x), tf.constant(labels), keep_path=True
        )
        index, factor = tf.range(3), tf.constant([1.0, 2.0, 4.0])
        if kind == "boundary":
            return boundary.differentiate(classifier, path, index, factor, model.trainable_weights)[0]
        return adjoint.differentiate(classifier, path, index, factor, model.trainable_weights, overshoot=0.0)

    bias = np.zeros(3)
    for factor, source, target in ((1, 0, 1), (2, 1, 2), (4, 0, 1)):
        bias[[source, target]] += np.array([factor, -factor]) / np.sqrt(2)
    np.testing.assert_allclose(differentiate()[1], bias, rtol=1e-5)
