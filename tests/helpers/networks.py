"""Small networks and data of three classes, and what training them must show."""

import keras
import numpy as np

import keras_amm

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
MARGIN_LOGS = {"loss", "cross_entropy", "margin_penalty", "margin", "attack_success"}


def small_data(number=48, seed=0, classes=3):
    generator = np.random.default_rng(seed)
    y = generator.integers(0, classes, number)
    centres = generator.standard_normal((classes, 6, 6, 1))
    return (centres[y] + 0.5 * generator.standard_normal((number, 6, 6, 1))).astype("float32"), y.astype("int32")


def small_network(*between, head=None, seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            *between,
            keras.layers.Flatten(),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(3, head),
        ]
    )


def linear_classifier(size, classes):
    """A linear classifier, its random weights and biases, and twelve images."""
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(size, classes)), rng.normal(size=classes)
    model = keras.Sequential([keras.Input((size,)), keras.layers.Dense(classes)])
    model.set_weights([w, b])
    return model, w, b, rng.uniform(0.1, 0.9, size=(12, size))


def wrap_lightly(network):
    """Wrapped with what takes the least time to trace, where a test is about something else."""
    regularizer = keras_amm.MarginRegularizer.from_paper("min-exp", gradient="boundary")
    return keras_amm.wrap(network, regularizer=regularizer, attack=keras_amm.DeepFool(num_candidates=2))


def train(model, x, y, loss=LOSS, optimizer=None, fit=None, **compile_arguments):
    model.compile(optimizer or keras.optimizers.SGD(0.02, momentum=0.5, global_clipnorm=1.0), loss, **compile_arguments)
    return model.fit(x, y, batch_size=16, shuffle=False, verbose=0, **(fit or {"epochs": 1})).history


def assert_same_weights(a, b, **tolerance):
    for left, right in zip(a.get_weights(), b.get_weights(), strict=True):
        np.testing.assert_allclose(left, right, **{"rtol": 1e-4, "atol": 1e-5, **tolerance})


def assert_trained(history):
    assert set(history) >= MARGIN_LOGS
    for values in history.values():
        assert np.all(np.isfinite(values)), history


class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten = keras.layers.Flatten()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        return self.dense(self.flatten(inputs))
