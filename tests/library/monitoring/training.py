"""A linear classifier that is trained in a moment, and what a training leaves."""

import functools
import pathlib

import keras
import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

INPUTS, CLASSES, IMAGES = 6, 4, 50
_LOGGED = "margin margin_median signed_margin paper_margin attack_success most_predicted_share margin_seconds"
KEYS = {f"val_{name}" for name in _LOGGED.split()}


def data_of(number=IMAGES, shape=(INPUTS,), seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(number, *shape)).astype("float32"), rng.integers(CLASSES, size=number).astype("int32")


X, Y = data_of()


def linear(shape=(INPUTS,)):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(CLASSES)])


def compiled(model, optimizer=None, **options):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer or keras.optimizers.SGD(0.1), loss, metrics=["accuracy"], **options)
    return model


@functools.cache
def shared():
    """One model for most tests, and its first weights: one model means one compilation."""
    keras.utils.set_random_seed(3)
    model = compiled(linear())
    return model, model.get_weights()


def untrained():
    model, weights = shared()
    model.set_weights(weights)
    model.optimizer.iterations.assign(0)
    model.optimizer.learning_rate = 0.1
    keras.utils.set_random_seed(3)
    return model


def fit(*callbacks, model=None, epochs=2, **options):
    model = model or untrained()
    return model.fit(X, Y, batch_size=10, epochs=epochs, verbose=0, callbacks=[*callbacks], **options).history


def closed_form(model, x):
    """Distance to the nearest boundary of a linear classifier, in float64."""
    weights, bias = (np.asarray(w, "float64") for w in model.get_weights())
    logits = x.astype("float64") @ weights + bias
    top = np.argmax(logits, axis=1)
    gap = logits[np.arange(len(x)), top][:, None] - logits
    norm = np.linalg.norm(weights[:, top].T[:, :, None] - weights[None], axis=1)
    return np.min(np.divide(gap, norm, out=np.full_like(gap, np.inf), where=gap > 0), axis=1)


def margins_of(model, x, y, scale=1.02):
    """What counts of a linear classifier: the distances, overshoot included, and 0 where it is wrong."""
    weights, bias = model.get_weights()
    return scale * closed_form(model, x) * (np.argmax(x @ weights + bias, axis=1) == y)


class Batches(keras.utils.PyDataset):
    def __init__(self, x, y, size=20):
        super().__init__()
        self.parts, self.size, self.fails = (x, y), size, False

    def __len__(self):
        return -(-len(self.parts[1]) // self.size)

    def __getitem__(self, index):
        if self.fails:
            raise OSError("the disk is gone")
        return tuple(part[index * self.size : (index + 1) * self.size] for part in self.parts)


def events(log_dir, folder="margins"):
    accumulator = EventAccumulator(str(pathlib.Path(log_dir, folder)), size_guidance={"tensors": 0})
    accumulator.Reload()
    return accumulator


def tensors(log_dir, tag, folder="margins"):
    """Of a tag, the steps and the values."""
    found = events(log_dir, folder).Tensors(tag)
    return [event.step for event in found], [tf.make_ndarray(event.tensor_proto) for event in found]
