"""Layers that cannot be differentiated twice are named, with what to do; the boundary gradient trains them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from tests.helpers.networks import LOSS, small_data


@keras.saving.register_keras_serializable(package="tests")
class ResponseNormalization(keras.layers.Layer):
    def call(self, x):
        return tf.nn.lrn(x)


LAYERS = {
    "nearest": lambda: keras.layers.Resizing(9, 9, interpolation="nearest", name="culprit"),
    "bicubic": lambda: keras.layers.UpSampling2D(2, interpolation="bicubic", name="culprit"),
    "lanczos": lambda: keras.layers.UpSampling2D(2, interpolation="lanczos3", name="culprit"),
    "lrn": lambda: ResponseNormalization(name="culprit"),
    "lambda": lambda: keras.layers.Lambda(tf.nn.lrn, name="culprit"),
    "nested": lambda: keras.Sequential([keras.Input((6, 6, 4)), ResponseNormalization(name="culprit")]),
}


def _fit(layer, gradient, **compiled):
    keras.utils.set_random_seed(0)
    convolution = keras.layers.Conv2D(4, 3, padding="same", activation="relu")
    network = keras.Sequential(
        [keras.Input((6, 6, 1)), convolution, layer, keras.layers.Flatten(), keras.layers.Dense(3)]
    )
    regularizer, attack = keras_amm.MarginRegularizer.from_paper("min-exp", gradient=gradient), keras_amm.DeepFool(2, 2)
    model = keras_amm.wrap(network, regularizer, attack)
    model.compile(keras.optimizers.SGD(0.01), LOSS, **compiled)
    return model.fit(*small_data(16), batch_size=16, verbose=0).history


@pytest.mark.parametrize("name", LAYERS)
def test_the_layer_is_named(name):
    with pytest.raises(ValueError, match=r"layer 'culprit' .*gradient='boundary'"):
        _fit(LAYERS[name](), "unrolled")
    assert np.isfinite(_fit(LAYERS[name](), "boundary", run_eagerly=True)["loss"]).all()


@pytest.mark.parametrize("compiled", [{"run_eagerly": True}, {"jit_compile": True}])
def test_in_other_modes_of_execution(compiled):
    with pytest.raises(ValueError, match=r"ResizeNearestNeighbor, which layer 'culprit' \(Resizing\)"):
        _fit(LAYERS["nearest"](), "unrolled", **compiled)


def test_a_layer_that_does_not_know_its_input():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="subclassed")
            self.resize = keras.layers.Resizing(9, 9, interpolation="nearest")
            self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(3)

        def call(self, x):
            return self.dense(self.flatten(self.resize(2.0 * x)))

    x, y = small_data(8)
    model = Subclassed()
    model(x)
    with pytest.raises(ValueError, match="ResizeNearestNeighbor, which a layer of model 'subclassed' uses"):
        keras_amm.wrap(model, gradient="unrolled").margin_penalty(x, y)


def test_other_errors_pass():
    from keras_amm.network.second_derivatives import naming_layers

    with pytest.raises(KeyError), naming_layers(keras.Sequential()):
        {}["missing"]
