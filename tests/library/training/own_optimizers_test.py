"""Optimizers that override what Keras's training step calls."""

import keras
import numpy as np
import pytest

import keras_amm
from tests.helpers.networks import LOSS

_X = np.random.default_rng(0).random((24, 5), dtype="float32")
_Y = np.arange(24) % 3


class Centralised(keras.optimizers.SGD):
    """Gradient centralisation (Yong et al. 2020): the mean over a kernel's inputs is taken from its gradient."""

    def apply_gradients(self, grads_and_vars):
        return super().apply_gradients(
            [(g - keras.ops.mean(g, axis=0, keepdims=True) if len(v.shape) == 2 else g, v) for g, v in grads_and_vars]
        )


@pytest.mark.parametrize("jit_compile", [False, True])
def test_apply_gradients_of_an_optimizer_is_called(jit_compile):
    keras.utils.set_random_seed(0)
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    before = network.get_weights()[0]
    model = keras_amm.wrap(network)
    model.compile(Centralised(0.1), LOSS, jit_compile=jit_compile)
    model.fit(_X, _Y, batch_size=8, verbose=0)
    change = network.get_weights()[0] - before
    assert np.abs(change).max() > 1e-3
    # What is centralised has a sum of zero over the inputs of each unit.
    np.testing.assert_allclose(change.sum(axis=0), 0.0, atol=1e-6)


def test_nothing_trainable_changes_nothing():
    network = keras.Sequential([keras.Input((5,)), keras.layers.Dense(3)])
    network.trainable = False
    before = network.get_weights()
    model = keras_amm.wrap(network)
    model.compile("sgd", LOSS)
    model.fit(_X, _Y, verbose=0)
    for kept, weights in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weights)
