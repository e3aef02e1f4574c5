"""Which layers are known to compute the same in training as in inference."""

import dis
import inspect

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.network.classifier import Classifier
from keras_amm.network.training_mode import computes_in, is_same_in_training
from tests.helpers.networks import LOSS, small_data, small_network

layers = keras.layers


def _model(*stack):
    return keras.Sequential([keras.Input((4, 4, 1)), *stack])


@keras.saving.register_keras_serializable(package="training_mode_test")
class Scaled(layers.Layer):
    def call(self, x, training=None):
        return 2.0 * x


class Denser(layers.Dense):
    pass


def _attention(dropout):
    x = keras.Input((4, 4))
    return keras.Model(x, layers.MultiHeadAttention(2, 2, dropout=dropout)(x, x))


def _frozen(layer):
    layer.trainable = False
    return layer


def _quantized(mode):
    layer = layers.Dense(3)
    model = _model(layers.Flatten(), layer)
    layer.quantize(mode)
    return model


@pytest.mark.parametrize(
    ("build", "same"),
    [
        (lambda: _model(layers.Conv2D(2, 3, activation="relu"), layers.MaxPooling2D()), True),
        (lambda: _model(layers.Flatten(), layers.Dense(3)), True),
        (lambda: _model(layers.EinsumDense("abcd,de->abce", (4, 4, 2))), True),
        (lambda: _model(_model(layers.Flatten(), layers.Dense(3))), True),
        (lambda: _model(layers.Resizing(8, 8)), True),
        (lambda: _model(layers.GroupNormalization(1)), True),
        (lambda: _model(layers.Lambda(lambda x: 2 * x)), True),
        (lambda: _model(layers.Lambda(lambda x, training=False: 2 * x)), False),
        (lambda: _model(layers.Dropout(0.5)), False),
        (lambda: _model(layers.Dropout(0.0)), True),
        (lambda: _model(layers.SpatialDropout2D(0.1)), False),
        (lambda: _model(layers.GaussianNoise(0.1)), False),
        (lambda: _model(layers.RandomFlip()), False),
        (lambda: _model(layers.BatchNormalization()), False),
        (lambda: _model(_frozen(layers.BatchNormalization())), True),
        (lambda: _attention(0.0), True),
        (lambda: _attention(0.1), False),
        (lambda: _model(Scaled()), False),
        (lambda: _model(Denser(2)), False),
        (lambda: _quantized("int8"), True),
        (lambda: _quantized("float8"), False),
    ],
)
def test_layers(build, same):
    assert is_same_in_training(build()) is same


def test_precision():
    for policy in ("float32", "mixed_bfloat16", "float16", "int8_from_mixed_bfloat16"):
        assert computes_in(_model(layers.Dense(2, dtype=policy)), "float32") is (policy == "float32")


def test_keras_ignores_the_argument_in_these_layers_alone():
    """Layers whose `call` has the argument, and never looks at it."""
    ignoring = set()
    for name, kind in vars(layers).items():
        is_layer = inspect.isclass(kind) and issubclass(kind, keras.Layer)
        if is_layer and "training" in inspect.signature(kind.call).parameters:
            code = inspect.unwrap(kind.call).__code__
            if not any(step.argval == "training" for step in dis.get_instructions(code)):
                ignoring.add(name)
    assert ignoring == {"Dense", "EinsumDense"}


def test_the_pass_of_the_loss_is_shared(monkeypatch):
    x, y = small_data(16)
    runs = []
    output = Classifier.output
    monkeypatch.setattr(Classifier, "output", lambda self, x: runs.append(1) or output(self, x))
    counts = []
    for between in ((), (Scaled(),)):
        runs.clear()
        model = keras_amm.wrap(small_network(*between), attack=keras_amm.DeepFool(max_iterations=1))
        model.compile(keras.optimizers.SGD(0.1), LOSS, run_eagerly=True)
        history = model.fit(x, y, batch_size=16, verbose=0).history
        assert np.isfinite(history["loss"]).all()
        counts.append(len(runs))
    assert counts[1] == counts[0] + 1


@pytest.mark.parametrize("run_eagerly", [True, False])
def test_images_in_double_precision_train_as_in_single(run_eagerly):
    x, y = small_data(16)
    histories = []
    for dtype in ("float32", "float64"):
        model = keras_amm.wrap(small_network(), attack=keras_amm.DeepFool(max_iterations=1))
        model.compile(keras.optimizers.SGD(0.1), LOSS, run_eagerly=run_eagerly)
        # Keras casts arrays, and leaves the batches of a tf.data.Dataset as they are.
        batches = tf.data.Dataset.from_tensors((x.astype(dtype), y)).repeat(2)
        histories.append(model.fit(batches, verbose=0).history)
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)
    np.testing.assert_allclose(histories[0]["margin"], histories[1]["margin"], rtol=1e-5)
