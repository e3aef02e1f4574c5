"""Linear classifiers, whose margins are known in closed form, and the size of the images that they take."""

import math

import keras
import numpy as np

SHAPE, NUM_CLASSES, NUM_IMAGES = (8, 8, 1), 3, 40
MEAN = 0.25


def linear(seed, shape=SHAPE, classes=NUM_CLASSES, first=(), activation=None):
    model = keras.Sequential(
        [keras.Input(shape), *first, keras.layers.Flatten(), keras.layers.Dense(classes, activation=activation)]
    )
    rng = np.random.default_rng(seed)
    model.layers[-1].set_weights([rng.normal(size=w.shape).astype("float32") for w in model.layers[-1].get_weights()])
    return model


def closed_form(model, x):
    """The distance of each image to the nearest boundary, and its class."""
    w, b = (part.astype("float64") for part in model.layers[-1].get_weights())
    logits = x.reshape(len(x), -1).astype("float64") @ w + b
    predictions = np.argmax(logits, axis=1)
    distances = [
        min(
            abs(logits[i, k] - logits[i, p]) / np.linalg.norm(w[:, k] - w[:, p])
            for k in range(logits.shape[1])
            if k != p
        )
        for i, p in enumerate(predictions)
    ]
    return np.array(distances), predictions


@keras.saving.register_keras_serializable(package="cli_test")
class Subclassed(keras.Model):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.flatten, self.dense = keras.layers.Flatten(), keras.layers.Dense(NUM_CLASSES)

    def build(self, shape):
        self.dense.build((None, math.prod(shape[1:])))

    def call(self, x):
        return self.dense(self.flatten(x))
