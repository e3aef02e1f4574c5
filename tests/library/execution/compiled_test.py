"""Compiled functions: what is compiled again, what is not, and what is dropped."""

import gc
import weakref

import keras
import numpy as np
import tensorflow as tf

import keras_amm
from keras_amm.execution.compiled import CompiledPerModel


class _Scores:
    """A function to compile that counts how often it is traced."""

    def __init__(self):
        self.compiled, self.traced = CompiledPerModel(), 0

    def __call__(self, model, x, setting="any"):
        return self.compiled.get(model, setting, self._run, [x])(x)

    def _run(self, model, x):
        self.traced += 1
        return model(x)


def _model(*layers):
    return keras.Sequential([keras.Input((4,)), *layers, keras.layers.Dense(3)])


def test_once_for_batches_of_any_size_and_weights_of_any_value():
    scores, model = _Scores(), _model()
    for size in (1, 3, 1):
        model.layers[-1].kernel.assign_add(tf.ones((4, 3)))
        x = tf.random.normal((size, 4))
        np.testing.assert_allclose(scores(model, x), model(x), rtol=1e-5)
    assert scores.traced == 1


def test_again_for_another_setting_dtype_or_model():
    scores, model = _Scores(), _model()
    for _ in range(2):
        scores(model, tf.ones((2, 4)))
        scores(model, tf.ones((2, 4)), setting="another")
        scores(model, tf.ones((2, 4), tf.float64))
        scores(_other := _model(), tf.ones((2, 4)))
    assert scores.traced == 3 + 2


def test_again_where_a_weight_was_exchanged():
    scores, x = _Scores(), tf.ones((2, 4))
    inner = _model()
    model = keras.Sequential([keras.Input((4,)), inner])
    scores(model, x)
    inner.pop()
    inner.add(keras.layers.Dense(3))
    np.testing.assert_allclose(scores(model, x), model(x), rtol=1e-5)
    assert scores.traced == 2


def test_nothing_keeps_a_model_alive():
    attack, model = keras_amm.DeepFool(), _model()
    attack.perturb(model, np.ones((2, 4), "float32"))
    reference = weakref.ref(model)
    del model
    keras.backend.clear_session()
    gc.collect()
    assert reference() is None
