"""Batches of labelled images, of whatever form they come in."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import keras
import numpy as np
import tensorflow as tf

from keras_amm.network.inputs import as_images
from keras_amm.network.structures import only_entry
from keras_amm.typing import TensorLike

DEFAULT_BATCH_SIZE = 128
# Images x [n, ...] and their labels y [n, ...].
LabelledImages: TypeAlias = tuple[TensorLike, TensorLike]


class LabelledBatches(NamedTuple):
    """Labelled images, batch by batch.

    Attributes:
        batches: iterable of batches. Each is an iterable of parts (x, y), because a batch may be too large to be
            measured at once.
        number: int, the number of batches; None if unknown.
    """

    batches: Iterable[Iterable[LabelledImages]]
    number: int | None


def labelled_batches(data: Any, model: keras.Model, batch_size: int | None = None) -> LabelledBatches:
    """Labelled images of any form that `evaluate_margins` takes, to be iterated once; a ValueError if they are unfit.

    Args:
        data: a pair (x, y) of arrays or tensors, or a `tf.data.Dataset` or `keras.utils.PyDataset`.
        model: `keras.Model`; the shape of its input tells whether a data set holds single images or batches.
        batch_size: int, the most images of a part; None for 128 of arrays and single
            images, and for a dataset's batches as they come.

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


def labelled_arrays(data: Any) -> LabelledImages:
    """Images x [n, ...] and labels y [n, ...] of a pair (x, y) or (x, y, sample_weight), as arrays or tensors."""
    return _arrays(*_images_and_labels(data, data))


def _from_dataset(data: Any, model: keras.Model, batch_size: int | None) -> LabelledBatches:
    x, y = _images_and_labels(data.element_spec, data)
    if _has_single_images(x, y, model):
        is_one_shape = getattr(x, "shape", tf.TensorShape(None)).is_fully_defined()
        data = (data.batch if is_one_shape else data.ragged_batch)(batch_size or DEFAULT_BATCH_SIZE)
    number = int(data.cardinality())
    if number == tf.data.INFINITE_CARDINALITY:
        raise ValueError(
            f"Margins need a finite data set; take(n) makes one. Received: {_describe(data)}, which repeats for ever."
        )
    return LabelledBatches(_in_parts(data, data, batch_size), number if number >= 0 else None)


def _has_single_images(x: Any, y: Any, model: keras.Model) -> bool:
    """Whether the elements of a data set, of the specs x and y, are single images rather than batches."""
    rank_of_x, rank_of_y = (getattr(spec, "shape", tf.TensorShape(None)).rank for spec in (x, y))
    # The class index of a single image has no axis. Class probabilities have one in any case: then the rank of the
    # images decides, if the model (unless it is subclassed) tells which rank a batch has.
    inputs = getattr(model, "inputs", None)
    if rank_of_y == 0:
        return True
    if not (rank_of_x and inputs and rank_of_x == len(inputs[0].shape) - 1):
        return False
    # A batch of gray images without a channel has the rank of a single image that has one, but not its last axis.
    return inputs[0].shape[-1] != 1 or x.shape[-1] in (1, None)


def _from_arrays(data: Any, batch_size: int) -> LabelledBatches:
    x, y = labelled_arrays(data)
    number = -(-int(x.shape[0]) // batch_size)
    batches = (
        _slices(x[start : start + batch_size], y[start : start + batch_size], batch_size)
        for start in range(0, number * batch_size, batch_size)
    )
    return LabelledBatches(batches, number)


def _in_parts(elements: Iterable[Any], data: Any, batch_size: int | None) -> Iterator[Iterator[LabelledImages]]:
    """Each element (x, y) of a data set as an iterator of parts of at most `batch_size` images."""
    return (_slices(*_arrays(*_images_and_labels(element, data)), batch_size) for element in elements)


def _arrays(x: TensorLike, y: TensorLike) -> LabelledImages:
    """Images and labels as arrays or tensors of equal lengths."""
    x = _one_by_one(x) if _differ_in_shape(x) else x if hasattr(x, "shape") else as_images(x)
    y = only_entry(y)
    y = y if hasattr(y, "shape") else np.asarray(y)
    if not x.shape or not y.shape or x.shape[0] != y.shape[0]:
        raise ValueError(
            "Images and labels must be equally many. "
            f"Received: x of shape {tuple(x.shape)} and y of shape {tuple(y.shape)}."
        )
    return x, y


def _differ_in_shape(x: TensorLike) -> bool:
    """Whether images may be of several shapes: a ragged tensor, an array of objects, or a list of arrays."""
    if isinstance(x, (list, tuple)):
        return len({np.shape(image) for image in x if hasattr(image, "shape")}) > 1
    return isinstance(x, tf.RaggedTensor) or getattr(x, "dtype", None) == np.dtype(object)


def _one_by_one(x: TensorLike) -> np.ndarray:
    """Images of several shapes as an array [n] of arrays."""
    images = np.empty(len(x) if isinstance(x, (list, tuple)) else int(x.shape[0]), dtype=object)
    for i in range(len(images)):
        image = x[i]
        images[i] = np.asarray(image.to_tensor() if isinstance(image, tf.RaggedTensor) else image)
    return images


def _of_one_shape(x: TensorLike, y: TensorLike) -> Iterator[LabelledImages]:
    """Images with their labels, in pieces of one shape, in their order."""
    if getattr(x, "dtype", None) != np.dtype(object):
        yield x, y
        return
    shapes = [np.shape(image) for image in x]
    starts = [i for i in range(len(x)) if i == 0 or shapes[i] != shapes[i - 1]]
    for start, stop in zip(starts, [*starts[1:], len(x)], strict=True):
        yield np.stack(x[start:stop]), y[start:stop]


def _slices(x: TensorLike, y: TensorLike, size: int | None) -> Iterator[LabelledImages]:
    """A batch in parts of at most `size` images, whole if that is None; no part if the batch is empty."""
    number = int(y.shape[0])
    size = size or max(number, 1)
    for start in range(0, number, size):
        yield from _of_one_shape(x[start : start + size], y[start : start + size])


def _images_and_labels(element: Any, data: Any) -> LabelledImages:
    """The images and labels of an element (x, y) or (x, y, sample_weight); `data` is named if there are no labels."""
    # Unpacked, not counted with len(): a subclass of tuple may define a length of its own.
    parts = [*element] if isinstance(element, (tuple, list)) else [element]
    if len(parts) not in (2, 3) or parts[1] is None:
        raise ValueError(
            "Margins are signed by labels, and there are none. Expected: a pair (x, y) of arrays, or a tf.data.Dataset "
            f"or keras.utils.PyDataset of batches (x, y) or (x, y, sample_weight). Received: {_describe(data)}. "
            "keras_amm.DeepFool().perturb(model, x) measures images without labels."
        )
    return parts[0], parts[1]


def rebatched(parts: Iterable[LabelledImages], size: int) -> Iterator[LabelledImages]:
    """Parts (x, y) joined and cut into batches of `size` images; the last of one shape may be smaller.

    Example:
    >>> parts = [(np.zeros((3, 2)), np.arange(3)), (np.ones((4, 2)), np.arange(4))]
    >>> [y.tolist() for x, y in keras_amm.measuring.batches.rebatched(parts, 5)]
    [[0, 1, 2, 0, 1], [2, 3]]
    """
    held: list[LabelledImages] = []
    for part in parts:
        if held and np.shape(held[0][0])[1:] != np.shape(part[0])[1:]:
            yield _joined(held)
            held = []
        held.append(part)
        if sum(len(y) for _, y in held) >= size:
            *full, last = _slices(*_joined(held), size)
            is_full = len(last[1]) == size
            held = [] if is_full else [last]
            yield from [*full, last] if is_full else full
    if held:
        yield _joined(held)


def _joined(parts: list[LabelledImages]) -> LabelledImages:
    if len(parts) == 1:
        return parts[0]
    x, y = zip(*parts, strict=True)
    return np.concatenate(x), np.concatenate(y)


def no_images(data: Any) -> ValueError:
    """The error of data without images."""
    return ValueError(f"There are no images to measure. Received: empty data, {_describe(data)}.")


def _describe(data: Any) -> str:
    """A short description of data, for an error message."""
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
    """A hint to add to an error if the labels may have been passed as a separate argument; otherwise empty."""
    return " Images and labels are one argument, a pair (x, y)." if hasattr(value, "shape") else ""
