"""Batches of labelled images, of whatever form they come in."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from keras_amm.network.inputs import as_images

DEFAULT_BATCH_SIZE = 128


class LabelledBatches(NamedTuple):
    """Labelled images, batch by batch.

    Attributes:
        batches: iterable of batches, each an iterable of its parts (x, y) of bounded size.
        number: int, how many batches there will be; None if unknown.
    """

    batches: Iterable[Iterable[tuple[Any, Any]]]
    number: int | None


def labelled_batches(data: Any, model: keras.Model, batch_size: int | None = None) -> LabelledBatches:
    """Labelled images of any form that `evaluate_margins` takes, batch by batch.

    Args:
        data: a pair (x, y) of arrays or tensors, or a `tf.data.Dataset` or `keras.utils.PyDataset`.
        model: `keras.Model`, whose input tells single images from batches.
        batch_size: int, the most images of a part; None for 128 of arrays and single
            images, and for a dataset's batches as they come.

    Returns:
        `LabelledBatches`, to be iterated once.

    Raises:
        ValueError: the data are infinite, without labels, or images and labels are not equally many.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> found = keras_amm.measuring.batches.labelled_batches((np.zeros((5, 2)), np.zeros(5)), model, batch_size=3)
    >>> [len(x) for parts in found.batches for x, y in parts]
    [3, 2]
    """
    if isinstance(data, tf.data.Dataset):
        return _from_dataset(data, model, batch_size)
    if isinstance(data, keras.utils.PyDataset):
        if data.num_batches is None:
            raise ValueError(f"Margins need a finite data set. Received: an infinite {type(data).__name__}.")
        elements: Iterable[Any] = (data[i] for i in range(data.num_batches))
        return LabelledBatches(_in_parts(elements, data, batch_size), data.num_batches)
    return _from_arrays(data, batch_size or DEFAULT_BATCH_SIZE)


def labelled_arrays(data: Any) -> tuple[Any, Any]:
    """Labelled images that are at hand as a whole.

    Args:
        data: a pair (x, y) of arrays or tensors, or (x, y, sample_weight).

    Returns:
        A pair (x, y) of arrays or tensors of equal lengths.

    Raises:
        ValueError: there are no labels, or images and labels are not equally many.

    Example:
    >>> x, y = keras_amm.measuring.batches.labelled_arrays((np.zeros((5, 2)), [0, 1, 2, 0, 1]))
    >>> y
    array([0, 1, 2, 0, 1])
    """
    return _arrays(*_labelled(data, data))


def _from_dataset(data: Any, model: keras.Model, batch_size: int | None) -> LabelledBatches:
    x, y = _labelled(data.element_spec, data)
    inputs = getattr(model, "inputs", None)
    rank, expected = getattr(x, "shape", tf.TensorShape(None)).rank, inputs and len(inputs[0].shape)
    # A subclassed model does not say its rank, but a single label has none.
    if getattr(y, "shape", tf.TensorShape(None)).rank == 0 or (rank and expected and rank == expected - 1):
        data = data.batch(batch_size or DEFAULT_BATCH_SIZE)
    number = int(data.cardinality())
    if number == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"Margins need a finite data set; take(n) makes one. Received: {_describe(data)}, which repeats for ever."
        )
    return LabelledBatches(_in_parts(data, data, batch_size), number if number >= 0 else None)


def _from_arrays(data: Any, batch_size: int) -> LabelledBatches:
    x, y = labelled_arrays(data)
    return LabelledBatches(([part] for part in _slices(x, y, batch_size)), -(-int(x.shape[0]) // batch_size))


def _in_parts(elements: Iterable[Any], data: Any, batch_size: int | None) -> Iterator[Iterator[tuple[Any, Any]]]:
    return (_slices(*_arrays(*_labelled(element, data)), batch_size) for element in elements)


def _arrays(x: Any, y: Any) -> tuple[Any, Any]:
    """Images and labels as arrays or tensors of equal lengths."""
    x = x if hasattr(x, "shape") else as_images(x)
    y = y if hasattr(y, "shape") else np.asarray(y)
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        raise ValueError(
            "Images and labels must be equally many. "
            f"Received: x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}."
        )
    return x, y


def _slices(x: Any, y: Any, size: int | None) -> Iterator[tuple[Any, Any]]:
    """A batch in parts of bounded size; nothing of an empty one."""
    number = int(y.shape[0])
    size = size or max(number, 1)
    for start in range(0, number, size):
        yield x[start : start + size], y[start : start + size]


def _labelled(element: Any, data: Any) -> tuple[Any, Any]:
    """Images and labels of (x, y) or (x, y, sample_weight)."""
    # Iterated, not measured: a named tuple may have a length of its own.
    parts = [*element] if isinstance(element, (tuple, list)) else [element]
    if len(parts) not in (2, 3) or parts[1] is None:
        raise ValueError(
            "Margins are signed by labels, and there are none. Expected: a pair (x, y) of arrays, or a tf.data.Dataset "
            f"or keras.utils.PyDataset of batches (x, y) or (x, y, sample_weight). Received: {_describe(data)}. "
            "keras_amm.DeepFool().perturb(model, x) measures images without labels."
        )
    return parts[0], parts[1]


def rebatched(parts: Iterable[tuple[Any, Any]], size: int) -> Iterator[tuple[Any, Any]]:
    """Parts (x, y) joined and cut into batches of `size` images; the last may be smaller.

    Example:
    >>> parts = [(np.zeros((3, 2)), np.arange(3)), (np.ones((4, 2)), np.arange(4))]
    >>> [y.tolist() for x, y in keras_amm.measuring.batches.rebatched(parts, 5)]
    [[0, 1, 2, 0, 1], [2, 3]]
    """
    held: list[tuple[Any, Any]] = []
    for part in parts:
        held.append(part)
        if sum(len(y) for _, y in held) >= size:
            *full, rest = _slices(*_joined(held), size)
            held = [rest] if len(rest[1]) < size else []
            yield from full if held else [*full, rest]
    if held:
        yield _joined(held)


def _joined(parts: list[tuple[Any, Any]]) -> tuple[Any, Any]:
    if len(parts) == 1:
        return parts[0]
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)


def no_images(data: Any) -> ValueError:
    """The error of data without images."""
    return ValueError(f"There are no images to measure. Received: empty data, {_describe(data)}.")


def _describe(data: Any) -> str:
    """What data look like, for a message."""
    if isinstance(data, tf.data.Dataset):
        return f"a data set of {data.element_spec}"
    if isinstance(data, (tuple, list)):
        inside = [*data]
        parts = ", ".join(_describe(part) for part in inside[:3]) + (", ..." if len(inside) > 3 else "")
        return f"a {type(data).__name__} of {len(inside)}: ({parts})"
    if data is None or isinstance(data, (int, float)):
        return repr(data)
    shape = getattr(data, "shape", None)
    return f"{type(data).__name__}" + ("" if shape is None else f" of shape {tuple(shape)}")


def hint_of_pair(value: Any) -> str:
    """What to add to a message where labels may have been given as an argument of their own.

    Args:
        value: what was given instead of what that argument takes.

    Returns:
        String, empty where it is no array.

    Example:
    >>> keras_amm.measuring.batches.hint_of_pair(np.zeros(5))
    ' Images and labels are one argument, a pair (x, y).'
    """
    return " Images and labels are one argument, a pair (x, y)." if hasattr(value, "shape") else ""
