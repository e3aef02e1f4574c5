"""The images that are measured again and again during training: the same ones every time."""

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
        """The first batch (x, y), as a trial; a ValueError where there is none."""
        for batch in self.batches():
            return batch
        raise no_images(self._data)


def fixed_samples(
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
        ValueError: the data are infinite, without labels or, for a subsample, empty or of several shapes.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> data = tf.data.Dataset.from_tensor_slices((np.random.rand(50, 2), np.arange(50) % 3)).shuffle(50)
    >>> samples = keras_amm.measuring.samples.fixed_samples(data, model, num_samples=10)
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
    None if there are none; a ValueError if the images differ in shape.

    Reference: Vitter (1985), Random sampling with a reservoir, Algorithm R.
    """
    rng = np.random.default_rng(seed)
    held: tuple[np.ndarray, np.ndarray] | None = None
    positions = np.zeros(number, dtype="int64")
    seen = 0
    for batch in batches.batches:
        for part in batch:
            x, y = (np.asarray(array) for array in part)
            if held is None:
                held = np.empty((number, *x.shape[1:]), x.dtype), np.empty((number, *y.shape[1:]), y.dtype)
            if x.shape[1:] != held[0].shape[1:]:
                raise ValueError(
                    "A subsample needs images of one shape. "
                    f"Received: images of shapes {held[0].shape[1:]} and {x.shape[1:]}."
                )
            index = np.arange(seen, seen + len(y))
            slots = np.where(index < number, index, (rng.random(len(y)) * (index + 1)).astype("int64"))
            chosen = np.flatnonzero(slots < number)
            for array, values in zip((*held, positions), (x, y, index), strict=True):
                # Where several are drawn for one slot, the last one stays, as if they had come one by one.
                array[slots[chosen]] = values[chosen]
            seen += len(y)
    if held is None or not seen:
        return None
    order = np.argsort(positions[:seen])
    return held[0][order], held[1][order]
