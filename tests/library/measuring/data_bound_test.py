"""Margins are bounded by the way to the nearest image that is predicted otherwise."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.measuring import data_bound


@keras.saving.register_keras_serializable("data_bound_test")
class Saturated(keras.layers.Layer):
    """`tanh` of the sum of two values, so steep that it is nearly flat away from the boundary, where the sum is 0."""

    def call(self, x):
        return keras.ops.tanh(2.0 * keras.ops.sum(x, axis=1, keepdims=True))


def saturated():
    model = keras.Sequential([keras.Input((2,)), Saturated(), keras.layers.Dense(2)])
    model.set_weights([np.array([[-1.0, 1.0]]), np.zeros(2)])
    return model


X = np.array([[1.0, 1.0], [1.2, 0.9], [-1.0, -1.1], [-0.9, -1.0], [0.05, 0.05]])
Y = np.array([1, 1, 0, 0, 1])


def crossing(i):
    """In closed form: how far the line sum(x) = 0 is on the way to the nearest point of the other class."""
    others = X[Y[i] != Y]
    way = min(others - X[i], key=np.linalg.norm)
    return np.linalg.norm(way) * X[i].sum() / -way.sum()


def test_where_deepfool_overshoots():
    """One linear step from where tanh is flat goes far beyond the boundary, and succeeds."""
    model = saturated()
    with pytest.warns(UserWarning, match="Of 4 of the 5 images measured, the attack went over twice"):
        report = keras_amm.evaluate_margins(model, (X, Y), verbose=0)
    found = keras_amm.DeepFool().perturb(model, X)
    assert np.all(found.success) and np.all(found.norm[:4] > 100)
    # Near the boundary DeepFool is right.
    np.testing.assert_array_equal(report.bounded_by_data, [True] * 4 + [False])
    np.testing.assert_allclose(report.norms[:4], [crossing(i) for i in range(4)], rtol=0.1)
    np.testing.assert_allclose(report.norms[4], found.norm[4], rtol=1e-6)
    np.testing.assert_array_equal(report.signed, report.norms)
    assert "bounded by data   80.00%  (4: on the way to another image" in report.summary()
    again = keras_amm.MarginReport.from_json(report.to_json())
    np.testing.assert_array_equal(again.bounded_by_data, report.bounded_by_data)
    np.testing.assert_allclose(again.attack_norms, found.norm, rtol=1e-5)
    old = json.dumps({key: value for key, value in json.loads(report.to_json()).items() if key != "attack_norms"})
    assert not keras_amm.MarginReport.from_json(old).bounded_by_data.any()


@pytest.mark.filterwarnings("ignore:Of . of the 5 images")
def test_images_of_earlier_batches_bound_later_ones():
    """And not the other way round: the first batch, of one class, knows no other."""
    report = keras_amm.evaluate_margins(saturated(), (X, Y), batch_size=2, verbose=0)
    np.testing.assert_array_equal(report.bounded_by_data, [False, False, True, True, False])


@pytest.mark.filterwarnings("ignore:Of . of the 5 images")
def test_the_largest_change_is_bounded_too():
    report = keras_amm.evaluate_margins(saturated(), (X, Y), keras_amm.DeepFool(norm="linf"), verbose=0)
    assert report.bounded_by_data[:4].all() and report.norms[:4].max() < 1.6


def test_a_linear_classifier_is_never_bounded():
    """DeepFool's points are the nearest there, but for its overshoot."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    x = np.random.default_rng(0).normal(size=(300, 2))
    report = keras_amm.evaluate_margins(model, (x, np.zeros(300)), verbose=0)
    found = keras_amm.DeepFool().perturb(model, x)
    np.testing.assert_allclose(report.norms, found.norm, rtol=1e-5)
    assert not report.bounded_by_data.any() and "bounded" not in report.summary()


def test_a_failed_attack_remains_failed():
    """That the boundary is not known to an attack is not hidden by what the data show."""
    model = saturated()
    attack = keras_amm.DeepFool(1, overshoot=0.0)
    classifier = attack.classifier(model)
    found = attack.perturb(model, X)._replace(success=tf.zeros(5, tf.bool))
    x, classes = tf.constant(X, tf.float32), tf.constant(Y, tf.int32)
    bounded = data_bound.bound(classifier, x, classes, found, x, classes)
    np.testing.assert_array_equal(bounded.norm, found.norm)
    assert not np.any(bounded.is_bounded)


def test_the_perturbation_leads_to_the_nearer_point():
    model, attack = saturated(), keras_amm.DeepFool()
    x, classes = tf.constant(X, tf.float32), tf.constant(Y, tf.int32)
    bounded = data_bound.bound(attack.classifier(model), x, classes, attack.perturb(model, X), x, classes)
    np.testing.assert_array_equal(np.argmax(model(x + bounded.delta), axis=1), 1 - Y)
    np.testing.assert_allclose(np.linalg.norm(bounded.delta, axis=1), bounded.norm, rtol=1e-5)


def test_seen_images_are_a_random_sample_of_limited_size(monkeypatch):
    monkeypatch.setattr(data_bound, "_MOST_IMAGES", 20)
    seen, again = (data_bound.SeenImages((2,), "float32") for _ in range(2))
    images = np.arange(1000, dtype="float32").repeat(2).reshape(-1, 2)
    for start in range(0, 1000, 50):
        for each in (seen, again):
            each.add(images[start : start + 50], np.arange(start, start + 50))
    assert seen.images.shape == (20, 2) and 300 < np.mean(seen.classes) < 700
    np.testing.assert_array_equal(seen.images[:, 0], seen.classes)
    np.testing.assert_array_equal(seen.classes, again.classes)
