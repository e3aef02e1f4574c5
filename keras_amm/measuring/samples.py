"""The images that are measured again and again during training: the same ones every time."""

import itertools
from collections.abc import Iterator
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_amm.measuring.batches import DEFAULT_BATCH_SIZE, LabelledBatches, describe, labelled_arrays, labelled_batches
from keras_amm.network.classifier import unwrapped

_BATCHES_PER_PART = 8


class HeldSamples:
    """Labelled images that are held in memory.

    Args:
        x: array or tensor [n, ...], of one image or more.
        y: array or tensor [n, ...], their labels.
        batch_size: int, the size of the batch to be tried; None for 128.

    Example:
    >>> samples = keras_amm.measuring.samples.HeldSamples(np.zeros((500, 2)), np.zeros(500))
    >>> samples.first_batch()[0].shape
    (128, 2)
    >>> [x.shape for x, y in samples.parts()]
    [(500, 2)]
    """

    def __init__(self, x: Any, y: Any, batch_size: int | None = None) -> None:
        self._x, self._y = x, y
        self._batch_size = batch_size or DEFAULT_BATCH_SIZE

    def parts(self) -> Iterator[tuple[Any, Any]]:
        """Iterator of a single pair (x, y), of all images."""
        yield self._x, self._y

    def first_batch(self) -> tuple[Any, Any]:
        """A pair (x, y), the first of the images, as a trial."""
        return self._x[: self._batch_size], self._y[: self._batch_size]


class StreamedSamples:
    """Labelled images that are read anew each time, in bounded memory.

    Args:
        data: `tf.data.Dataset` or `keras.utils.PyDataset`, as `keras_amm.evaluate_margins` takes it.
        model: `keras.Model`, whose input tells single images from batches.
        batch_size: int, the most images of a batch; None for batches as they come.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> data = tf.data.Dataset.from_tensor_slices((np.random.rand(50, 2), np.arange(50) % 3)).batch(5)
    >>> samples = keras_amm.measuring.samples.StreamedSamples(data, model)
    >>> samples.first_batch()[0].shape
    TensorShape([5, 2])
    >>> [x.shape for x, y in samples.parts()]
    [(40, 2), (10, 2)]
    """

    def __init__(self, data: Any, model: keras.Model, batch_size: int | None = None) -> None:
        self._data, self._model, self._batch_size = data, unwrapped(model), batch_size

    def parts(self) -> Iterator[tuple[Any, Any]]:
        """Iterator of pairs (x, y), each of some batches."""
        batches = self._batches()
        # Several at a time, as misclassified images are attacked together.
        while waiting := [*itertools.islice(batches, _BATCHES_PER_PART)]:
            x, y = zip(*waiting, strict=True)
            yield np.concatenate(x), np.concatenate(y)

    def first_batch(self) -> tuple[Any, Any]:
        """A pair (x, y), the first batch of the images, as a trial.

        Raises:
            ValueError: the data are empty, infinite or without labels.
        """
        for x, y in self._batches():
            if len(y):
                return x, y
        raise _no_images(self._data)

    def _batches(self) -> Iterator[tuple[Any, Any]]:
        batches = labelled_batches(self._data, self._model, self._batch_size).batches
        return itertools.chain.from_iterable(batches)


FixedSamples: TypeAlias = HeldSamples | StreamedSamples


def fixed_samples(
    data: Any, model: keras.Model, num_samples: int | None = None, seed: int = 0, batch_size: int | None = None
) -> FixedSamples:
    """Labelled images to be measured repeatedly.

    Arrays are held as they are. A subsample is drawn once, in one pass over the
    data, and held; so a data set that shuffles gives the same images every
    time. A data set without a subsample is read anew each time.

    Args:
        data: what `keras_amm.evaluate_margins` takes.
        model: `keras.Model`, the classifier to be measured.
        num_samples: int, the size of the subsample (all, if there are fewer); None for all images.
        seed: int, which subsample: with the same seed the same one of the same data.
        batch_size: int, the most images attacked at a time; None for the default of `evaluate_margins`.

    Returns:
        `HeldSamples` or `StreamedSamples`.

    Raises:
        ValueError: the data are empty, infinite, without labels or, for a subsample, of several shapes.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> data = tf.data.Dataset.from_tensor_slices((np.random.rand(50, 2), np.arange(50) % 3)).shuffle(50)
    >>> samples = keras_amm.measuring.samples.fixed_samples(data, model, num_samples=10)
    >>> [y.shape for x, y in samples.parts()]
    [(10,)]
    """
    if num_samples is not None:
        drawn = subsample(labelled_batches(data, unwrapped(model), batch_size), num_samples, seed)
        if drawn is None:
            raise _no_images(data)
        return HeldSamples(*drawn, batch_size)
    if isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        return StreamedSamples(data, model, batch_size)
    x, y = labelled_arrays(data)
    if not len(y):
        raise _no_images(data)
    return HeldSamples(x, y, batch_size)


def subsample(batches: LabelledBatches, number: int, seed: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Draw images at random without replacement, each as likely as any other.

    One pass, in the memory of the images drawn and one batch: reservoir
    sampling. How the images are batched does not matter.

    Args:
        batches: `LabelledBatches`.
        number: int, how many to draw; all, if there are fewer.
        seed: int.

    Returns:
        Arrays x [number, ...] and y [number, ...] in the order of the data; None if there are none.

    Raises:
        ValueError: the images differ in shape.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> data = keras_amm.measuring.batches.labelled_batches((np.zeros((50, 2)), np.arange(50)), model)
    >>> keras_amm.measuring.samples.subsample(data, 4, seed=0)[1]
    array([...])

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
                # Of several for one slot the last stays, as if they came one by one.
                array[slots[chosen]] = values[chosen]
            seen += len(y)
    if held is None or not seen:
        return None
    order = np.argsort(positions[:seen])
    return held[0][order], held[1][order]


def validation_data(model: keras.Model) -> Any:
    """The validation data of the `fit` that is running, once it has validated.

    Args:
        model: `keras.Model` inside `fit`, at the end of an epoch.

    Returns:
        A `tf.data.Dataset` or `keras.utils.PyDataset` of batches.

    Raises:
        ValueError: nothing was validated so far, or the data cannot be read a second time.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> keras_amm.measuring.samples.validation_data(model)
    Traceback (most recent call last):
    ValueError: There are no validation data to measure: ...
    """
    # Keras keeps them nowhere else, and makes the iterator when it first validates.
    iterator = getattr(model, "_eval_epoch_iterator", None)
    if iterator is None:
        raise ValueError(
            "There are no validation data to measure: fit has not validated by the end of its first epoch. Pass "
            "`validation_data` (or `validation_split`) to fit, without a `validation_freq` that leaves out the first "
            "epoch, or give the data to the callback: MarginLogger((x, y))."
        )
    adapter = iterator.data_adapter
    data = getattr(adapter, "py_dataset", None)
    if data is None and type(adapter).__name__ != "GeneratorDataAdapter":
        data = adapter.get_tf_dataset()
    if not isinstance(data, (tf.data.Dataset, keras.utils.PyDataset)):
        raise ValueError(
            "The validation data of fit cannot be read a second time, to be measured. Expected: arrays, a "
            "tf.data.Dataset or a keras.utils.PyDataset. Received: validation data read by Keras's "
            f"{type(adapter).__name__}. Give data to the callback: MarginLogger((x, y))."
        )
    if isinstance(data, tf.data.Dataset) and iterator.steps_per_epoch:
        data = data.take(iterator.steps_per_epoch)
    return data


def _no_images(data: Any) -> ValueError:
    return ValueError(f"There are no images to measure. Received: empty data, {describe(data)}.")
