"""Classifiers whose margins are known, and images for them."""

import keras
import numpy as np

INPUTS, CLASSES, IMAGES = 6, 4, 50


def linear(weights, bias, activation=None):
    layer = keras.layers.Dense(weights.shape[1], activation=activation)
    model = keras.Sequential([keras.Input((weights.shape[0],)), layer])
    layer.set_weights([weights, bias])
    return model


def data_of(num_classes=CLASSES, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(IMAGES, INPUTS)).astype("float32")
    return x, rng.integers(num_classes, size=IMAGES).astype("int32")


def weights_of(num_classes=CLASSES, seed=1):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(INPUTS, num_classes)).astype("float32"), rng.normal(size=num_classes).astype("float32")


def closed_form(x, weights, bias):
    """Distance to the nearest boundary of a linear classifier, |w.x + b| / ||w||, in float64."""
    x, weights, bias = (a.astype("float64") for a in (x, weights, bias))
    logits = x @ weights + bias
    predictions = np.argmax(logits, axis=1)
    distances = np.full(logits.shape, np.inf)
    for n, p in enumerate(predictions):
        for k in range(weights.shape[1]):
            if k != p:
                distances[n, k] = (logits[n, p] - logits[n, k]) / np.linalg.norm(weights[:, p] - weights[:, k])
    return predictions, distances.min(axis=1)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size):
        super().__init__()
        self.parts = x, y
        self.size = size

    def __len__(self):
        return -(-len(self.parts[1]) // self.size)

    def __getitem__(self, index):
        return tuple(part[index * self.size : (index + 1) * self.size] for part in self.parts)


def assert_same(one, other):
    for name in ("norms", "signed"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=1e-5, atol=1e-7)
    for name in ("predictions", "labels", "success"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
