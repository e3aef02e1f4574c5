"""Labelled images that are measured repeatedly during training, the same ones every time."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amm.measuring.batches import (
    DEFAULT_BATCH_SIZE,
    LabelledBatches,
    LabelledImages,
    labelled_arrays,
    labelled_batches,
    no_images,
    rebatched,
)
from keras_amm.network.inputs import unwrapped


class FixedSamples:
    """Labelled images to be measured repeatedly: arrays are held in memory, a data set is read anew each time.

    Args:
        data: what `keras_amm.evaluate_margins` takes.
        model: `keras.Model`, whose input tells single images from batches.
        batch_size: int, the size of the batches; None for 128.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> data = tf.data.Dataset.from_tensor_slices((np.random.rand(50, 2), np.arange(50) % 3)).batch(5)
    >>> samples = keras_amm.measuring.samples.FixedSamples(data, model, batch_size=20)
    >>> [x.shape for x, y in samples.batches()]
    [(20, 2), (20, 2), (10, 2)]
    """

    def __init__(self, data: Any, model: keras.Model, batch_size: int | None = None) -> None:
        is_data_set = isinstance(data, (tf.data.Dataset, keras.utils.PyDataset))
        self._data = data if is_data_set else labelled_arrays(data)
        self._model = unwrapped(model)
        self._batch_size = batch_size

    def batches(self) -> Iterator[LabelledImages]:
        """Iterator of batches (x, y)."""
        parts = labelled_batches(self._data, self._model, self._batch_size).batches
        return rebatched(itertools.chain.from_iterable(parts), self._batch_size or DEFAULT_BATCH_SIZE)

    def first_batch(self) -> LabelledImages:
        """The first batch (x, y), to try whether the data can be measured; a ValueError if there is no image."""
        for batch in self.batches():
            return batch
        raise no_images(self._data)


def choose_samples(
    data: Any, model: keras.Model, num_samples: int | None = None, seed: int = 0, batch_size: int | None = None
) -> FixedSamples:
    """Labelled images to be measured repeatedly, all or a subsample.

    A subsample is drawn once, in one pass over the data, and held; so a data
    set that shuffles gives the same images every time.

    Args:
        data: what `keras_amm.evaluate_margins` takes.
        model: `keras.Model`, the classifier to be measured.
        num_samples: int, the size of the subsample (all, if there are fewer); None for all images.
        seed: int, which subsample: with the same seed the same one of the same data.
        batch_size: int, the most images attacked at a time; None for 128.

    Raises:
        ValueError: the data are infinite, without labels or, for a subsample, empty.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> data = tf.data.Dataset.from_tensor_slices((np.random.rand(50, 2), np.arange(50) % 3)).shuffle(50)
    >>> samples = keras_amm.measuring.samples.choose_samples(data, model, num_samples=10)
    >>> [y.shape for x, y in samples.batches()]
    [(10,)]
    """
    if num_samples is None:
        return FixedSamples(data, model, batch_size)
    drawn = subsample(labelled_batches(data, unwrapped(model), batch_size), num_samples, seed)
    if drawn is None:
        raise no_images(data)
    return FixedSamples(drawn, model, batch_size)


def subsample(batches: LabelledBatches, number: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw images at random without replacement, each as likely as any other, in the order of the data.

    This is reservoir sampling: one pass over the data, in the memory of the
    images drawn and one batch. How the images are batched does not matter.
    Gives x [number, ...] and y [number, ...], fewer if there are no more, and
    None if there are none. Images of several shapes come in an array [number] of arrays.

    Reference: Vitter (1985), Random sampling with a reservoir, Algorithm R.
    """
    rng = np.random.default_rng(seed)
    # By slot: where in the data an image lies, the image, and its label.
    held: dict[int, tuple[int, np.ndarray, np.ndarray]] = {}
    seen = 0
    for batch in batches.batches:
        for part in batch:
            x, y = (np.asarray(array) for array in part)
            index = np.arange(seen, seen + len(y))
            slots = np.where(index < number, index, (rng.random(len(y)) * (index + 1)).astype("int64"))
            for i in np.flatnonzero(slots < number):
                # A copy, so that the batch need not be kept.
                held[int(slots[i])] = int(index[i]), x[i].copy(), y[i]
            seen += len(y)
    if not held:
        return None
    _, images, labels = zip(*sorted(held.values(), key=lambda each: each[0]), strict=True)
    if len({image.shape for image in images}) == 1:
        return np.stack(images), np.stack(labels)
    of_several = np.empty(len(images), dtype=object)
    of_several[:] = images
    return of_several, np.stack(labels)
