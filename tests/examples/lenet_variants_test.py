"""Variants of LeNet: their networks and initial weights."""

import keras
import numpy as np

from paper import architectures
from paper.data.arrays import MNIST_MEAN
from paper.variants.lenet import LENET_VARIANTS, build_lenet


def test_networks():
    """Where nothing differs it is `lenet-mnist`; pixels are scaled within the network."""
    ours, expected = build_lenet(LENET_VARIANTS["ours"]), architectures.build("lenet-mnist")
    ours.set_weights(expected.get_weights())
    pixels = np.random.default_rng(0).random((5, 28, 28, 1), "float32")
    x = pixels - MNIST_MEAN
    np.testing.assert_allclose(ours(x), expected(x), rtol=1e-5, atol=1e-6)
    for name, inner in (("deviation", x / 0.3081), ("no-mean", pixels)):
        other = build_lenet(LENET_VARIANTS[name])
        other.set_weights(expected.get_weights())
        np.testing.assert_allclose(other(x), expected(inner), rtol=1e-4, atol=1e-5)


def test_initialisations():
    """Deviations of the kernels: sqrt(2 / n), n from the inputs or the outputs of a unit."""

    def deviations(name):
        keras.utils.set_random_seed(0)
        return [np.std(w) for w in build_lenet(LENET_VARIANTS[name]).get_weights() if w.ndim > 1]

    fan_in, fan_out = np.array([25, 20 * 25, 800, 500]), np.array([20 * 25, 50 * 25, 500, 10])
    np.testing.assert_allclose(deviations("ours"), np.sqrt(2 / fan_in), rtol=0.1)
    np.testing.assert_allclose(deviations("fan-out"), np.sqrt(2 / fan_out), rtol=0.1)
    np.testing.assert_allclose(deviations("pytorch"), np.sqrt(1 / 3 / fan_in), rtol=0.1)
    mixed = np.array([*fan_in[:2], *fan_out[2:]])
    np.testing.assert_allclose(deviations("fan-out-dense"), np.sqrt(2 / mixed), rtol=0.1)
    mixed = np.array([*fan_out[:2], *fan_in[2:]])
    np.testing.assert_allclose(deviations("fan-out-convolutions"), np.sqrt(2 / mixed), rtol=0.1)
