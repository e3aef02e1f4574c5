"""The boundaries that are looked at: all of them, or those that may be nearest."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_amm.network.classifier import Classifier
from keras_amm.search import linearisation
from tests.helpers import zoo


def _setting(name):
    keras.utils.set_random_seed(2)
    classifier = Classifier(zoo.build(name))
    x = tf.constant(zoo.images(12))
    clean = linearisation.clean_pass(classifier, x)
    _, ranked = tf.math.top_k(clean.logits, zoo.CLASSES)
    return classifier, clean, ranked[:, 0], ranked[:, 1:]


@pytest.mark.parametrize("in_graph", [False, True])
@pytest.mark.parametrize("at_a_time", [1, 5, 100])
@pytest.mark.parametrize("name", ["relu_mlp", "tanh_cnn"])
def test_few_find_what_all_find(name, at_a_time, in_graph):
    classifier, clean, source, candidates = _setting(name)
    wanted = linearisation.linearise_towards_all(classifier, clean, source, candidates)

    def few(x, logits, squared):
        allowed = tf.fill(tf.shape(candidates), True)
        return linearisation.linearise_towards_few(
            classifier, x, logits, source, candidates, allowed, squared, at_a_time=at_a_time
        )

    got = (tf.function(few) if in_graph else few)(clean.x, clean.logits, wanted.squared)
    np.testing.assert_array_equal(got.target, wanted.target)
    np.testing.assert_allclose(got.g, wanted.g, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.w, wanted.w, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.squared, wanted.squared, rtol=1e-4)


def test_which_are_looked_at():
    """Boundaries of known distances; what is looked at gets the true length of its gradient, 1 for what it was told."""
    kernel = np.diag([0.0, 2.0, 2.0, 2.0, 2.0]).astype("float32")
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(5)])
    network.set_weights([kernel, np.array([0.0, -1.0, -2.9, -3.1, -1.5], "float32")])
    x = tf.zeros((1, 5))
    found = linearisation.linearise_towards_few(
        Classifier(network),
        x,
        network(x),
        tf.constant([0]),
        tf.constant([[1, 2, 3, 4]]),
        tf.constant([[True, True, True, False]]),
        tf.ones((1, 4)),
        at_a_time=1,
    )
    np.testing.assert_array_equal(found.squared, [[4.0, 4.0, 1.0, 1.0]])
    assert int(found.target[0]) == 1 and float(found.g[0]) == -1.0


def test_without_gradients_one_class_is_looked_at(monkeypatch):
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3, "relu"), keras.layers.Dense(4)])
    network.set_weights([np.zeros((2, 3)), -np.ones(3), np.ones((3, 4)), np.arange(4.0)])
    classifier, x = Classifier(network), tf.zeros((6, 2))
    seen = []
    plain = linearisation.clean_pass
    monkeypatch.setattr(linearisation, "clean_pass", lambda c, x: seen.append(len(x)) or plain(c, x))
    candidates = tf.tile([[2, 1, 0]], (6, 1))
    source, allowed = tf.fill((6,), 3), tf.fill((6, 3), True)
    found = linearisation.linearise_towards_few(
        classifier, x, network(x), source, candidates, allowed, tf.zeros((6, 3)), at_a_time=4
    )
    assert seen == [4, 2]
    assert not np.any(found.w) and np.all(np.isfinite(found.g))
