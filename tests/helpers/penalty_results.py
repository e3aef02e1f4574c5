"""What a search finds for one batch, and what the penalty makes of it."""

import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.gradient import penalty, searching
from keras_amm.network.classifier import Classifier
from keras_amm.search.linearisation import clean_pass

EAGER, GRAPH, XLA = None, False, True


def results(model, x, y, mode=EAGER, attack=None, signature=None, **regularizer):
    """Path, selection, and penalty of a batch; without the path's fields that no search has to give."""
    attack = attack or keras_amm.DeepFool()
    settings = {"strength": 1.0, "shrinkage": "lin", "c": 1.0, "d": 1.0, "top_fraction": 0.3}
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", **{**settings, **regularizer})

    def of_batch(x, y):
        classifier = Classifier(model)
        clean = clean_pass(classifier, x)
        paths = []

        def kept(*arguments):
            paths.append(searching.search(*arguments))
            return paths[0]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(penalty, "search", kept)
            found = penalty.find_penalty(
                classifier, attack, regularizer, clean, y, model.trainable_weights, step=0, loss_scale=1.0
            )
        (path,) = paths
        now = penalty.strength_in_step(regularizer, clean, y, 0)
        _, _, selected, _ = penalty._penalize(classifier, regularizer, path, y, now)
        return {
            "selected": selected,
            **{name: getattr(path, name) for name in ("norm", "searched", "success", "correct")},
            "value": found.value,
            "gradients": [gradient for gradient in found.gradients if gradient is not None],
            "statistics": found.statistics,
        }

    if mode is not EAGER:
        of_batch = tf.function(of_batch, autograph=False, jit_compile=mode, input_signature=signature)
    found = of_batch(tf.constant(x), tf.constant(y))
    return tf.nest.map_structure(lambda tensor: tensor.numpy(), found)


def assert_same(got, wanted, tolerance=1e-4):
    selected = wanted["selected"]
    np.testing.assert_array_equal(got["selected"], selected)
    np.testing.assert_allclose(got["norm"][selected], wanted["norm"][selected], rtol=tolerance, atol=1e-7)
    np.testing.assert_allclose(got["value"], wanted["value"], rtol=tolerance, atol=1e-7)
    a, b = (np.concatenate([np.ravel(part) for part in found["gradients"]]) for found in (got, wanted))
    assert np.linalg.norm(a - b) <= 10 * tolerance * np.linalg.norm(b)
