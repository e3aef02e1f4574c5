"""Max pooling whose second derivative is exact under XLA.

When XLA differentiates a max pooling twice, it finds the maxima again, in a lower precision. Where two
values of a window nearly agree it may then take the other one. A chain of elementwise maxima leaves no
such choice to be repeated.
"""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from keras_amm.typing import Tensor, TensorLike

_max_pool = tf.nn.max_pool


def elementwise_max_pool(
    input: TensorLike,  # noqa: A002
    ksize: Any,
    strides: Any,
    padding: Any,
    data_format: str | None = None,
    name: str | None = None,
) -> Tensor:
    """`tf.nn.max_pool` as elementwise maxima, where channels come last."""
    x = tf.convert_to_tensor(input)
    if not isinstance(padding, str) or (data_format is not None and not data_format.endswith("C")):
        return _max_pool(x, ksize, strides, padding, data_format, name)
    rank = x.shape.rank - 2
    sizes, steps = _spatial(ksize, rank), _spatial(strides, rank)
    # Last axis first: then the first of equal values is the one TensorFlow takes, in row-major order.
    for axis in reversed(range(rank)):
        x = _max_along(x, axis + 1, sizes[axis], steps[axis], padding.upper())
    return x


def _max_along(x: Tensor, axis: int, size: int, stride: int, padding: str) -> Tensor:
    """Pooling along one axis; of equal values the first counts, as in TensorFlow's kernel."""
    length = x.shape[axis] or tf.shape(x)[axis]
    if padding == "SAME":
        number = -(-length // stride)
        missing = tf.maximum((number - 1) * stride + size - length, 0)
        before = missing // 2
        widths = [[0, 0]] * axis + [[before, missing - before]] + [[0, 0]] * (x.shape.rank - axis - 1)
        x = tf.pad(x, widths, constant_values=x.dtype.min)
    else:
        number = (length - size) // stride + 1
    result = None
    for offset in range(size):
        part = [slice(None)] * axis + [slice(offset, offset + (number - 1) * stride + 1, stride)]
        result = x[tuple(part)] if result is None else tf.maximum(result, x[tuple(part)])
    return result


def _spatial(value: Any, rank: int) -> Sequence[int]:
    """A size or stride, given in any of TensorFlow's forms, for each of the spatial axes."""
    if isinstance(value, int):
        return (value,) * rank
    value = tuple(value)
    if len(value) == 1:
        return value * rank
    return value if len(value) == rank else value[1:-1]
