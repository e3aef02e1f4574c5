"""The recorded steps of a search."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.network.classifier import Classifier
from keras_amm.search.linearisation import clean_pass
from tests.helpers import zoo

OVERSHOOT = 0.02


@functools.cache
def _path(how, keep_path=True):
    keras.utils.set_random_seed(2)
    classifier = Classifier(zoo.build("tanh_mlp"))
    attack = keras_amm.DeepFool(overshoot=OVERSHOOT)

    def run(x):
        path = attack.path(classifier, clean_pass(classifier, x), None, keep_path=keep_path)
        return path._replace(checks=[])

    x = tf.constant(zoo.images(16))
    return run(x) if how == "eager" else tf.function(run, jit_compile=how == "xla")(x)


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_recorded_steps_add_up_to_the_perturbation(how):
    path = _path(how)
    w, g, iterations = (np.asarray(part) for part in (path.w, path.g, path.iterations))
    assert 1 == iterations.min() < iterations.max() <= len(g)
    taken = np.arange(len(g))[:, None] < iterations
    squared = np.sum(w**2, axis=tuple(range(2, w.ndim)))
    scale = np.where(taken, -(1.0 + OVERSHOOT) * g / np.where(taken, squared, 1.0), 0.0)
    np.testing.assert_allclose(np.einsum("sb,sb...->b...", scale, w), path.delta, rtol=1e-4, atol=1e-5)
    # Samples that had arrived before have zeros.
    for record in (w, g, np.asarray(path.targets), np.asarray(path.sources)):
        assert not np.any(record[~taken])


@pytest.mark.parametrize("how", ["eager", "graph", "xla"])
def test_each_step_leads_from_the_prediction_and_the_last_one_to_the_target(how):
    path = _path(how)
    last = np.asarray(path.iterations) - 1
    sources, targets = np.asarray(path.sources), np.asarray(path.targets)
    np.testing.assert_array_equal(targets[last, np.arange(len(last))], path.target)
    np.testing.assert_array_equal(sources[last, np.arange(len(last))], path.source)
    np.testing.assert_array_equal(sources[0], path.prediction)


def test_without_record_the_result_is_the_same():
    kept, plain = _path("graph"), _path("graph", keep_path=False)
    assert plain.w is plain.g is plain.targets is plain.sources is None
    np.testing.assert_array_equal(plain.delta, kept.delta)
