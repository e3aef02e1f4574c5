"""`fit` says once that the network has no gradient in the image, and says nothing where it has."""

import warnings

import keras
import numpy as np
import pytest

import keras_amm
from tests.helpers.networks import LOSS, small_data, small_network, wrap_lightly

_SAID = "gradient of the logits with respect to the image is zero at all images of 3 batches"


def _rounding():
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Lambda(keras.ops.round), keras.layers.Flatten(), keras.layers.Dense(3)]
    return keras.Sequential([keras.Input((6, 6, 1)), *layers])


def _fit(network, epochs=2, **compiled):
    x, y = small_data()
    model = wrap_lightly(network)
    model.compile(keras.optimizers.SGD(0.01), LOSS, **compiled)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        history = model.fit(x, y, batch_size=16, epochs=epochs, verbose=0).history
    return history, [str(warning.message) for warning in told if "gradient of the logits" in str(warning.message)]


@pytest.mark.parametrize("compiled", [{}, {"run_eagerly": True}, {"jit_compile": True}, {"steps_per_execution": 2}])
def test_a_rounding_network_is_told_once(compiled):
    history, told = _fit(_rounding(), **compiled)
    assert len(told) == 1
    assert _SAID in told[0] or "all images of 4 batches" in told[0]
    assert "so DeepFool cannot take a step" in told[0]
    assert np.all(np.isfinite(history["loss"])) and history["margin"] == [0.0, 0.0]


def test_a_network_with_gradients_is_not_told():
    assert _fit(small_network(), epochs=1, run_eagerly=True)[1] == []


def test_a_head_of_zeros_is_not_told():
    """All of its logits are equal: every image is at a boundary, and the head learns to have a gradient."""
    network = small_network()
    network.layers[-1].kernel.assign(np.zeros(network.layers[-1].kernel.shape))
    assert _fit(network, epochs=1, run_eagerly=True)[1] == []


def test_two_batches_are_not_enough():
    x, y = small_data(32)
    model = keras_amm.wrap(_rounding(), attack=keras_amm.DeepFool(num_candidates=2))
    model.compile(keras.optimizers.SGD(0.01), LOSS, run_eagerly=True)
    # Warnings are errors here.
    model.fit(x, y, batch_size=16, verbose=0)
