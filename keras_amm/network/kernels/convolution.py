"""Convolutions whose gradients are cheap on a CPU.

Plain training never needs the gradient of its first layer with respect to the images, but a search for margins needs it
once per candidate class. On a CPU, TensorFlow computes a whole vector of channels at a time, and since an image's
gradient has only one channel or three, most of the vector is wasted. So several neighbouring pixels are
computed as channels of one position (space to depth), which halves the time of the first layer's gradient.

XLA on a CPU has no fast code for the gradients of a convolution within a loop, such as a search, or within a branch,
such as that of a penalty whose strength may be 0. It has fast code for convolutions, so the gradients are written as
such. The gradient with respect to the input is a convolution of the seed with the flipped kernel. That with respect to
the kernel is a convolution of the input with the seed, in which batch and channels have changed places.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_amm.execution.xla import in_xla
from keras_amm.typing import Tensor, TensorLike

_MOST_CHANNELS = 4
# The number of channels computed at a time.
_VECTOR = 16

_convolution = tf.nn.convolution


def cheap_gradient_convolution(
    input: TensorLike,  # noqa: A002
    filters: TensorLike,
    strides: Any = None,
    padding: Any = "VALID",
    data_format: str | None = None,
    dilations: Any = None,
    name: str | None = None,
) -> Tensor:
    """`tf.nn.convolution`, with the gradients of this module where they apply.

    They apply to two-dimensional convolutions, channels last, without dilations or groups: under XLA to all of them,
    otherwise to those of at most four channels without strides. Every other one, and every one where there is a
    GPU, is TensorFlow's own.
    """
    x, kernel = tf.convert_to_tensor(input), tf.convert_to_tensor(filters)
    if not _applies(x, kernel, strides, padding, data_format, dilations):
        return _convolution(x, kernel, strides, padding, data_format, dilations, name)
    steps = _of_axes(strides)

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        def gradients(seed: Tensor) -> tuple[Tensor, Tensor]:
            return (
                image_gradient(seed, kernel, x.shape[1:3], padding, steps),
                kernel_gradient(x, seed, kernel.shape, padding, steps),
            )

        return _convolution(x, kernel, steps, padding, name=name), gradients

    return tf.custom_gradient(convolve)(x, kernel)


def _applies(x: Tensor, kernel: Tensor, strides: Any, padding: Any, data_format: str | None, dilations: Any) -> bool:
    """Whether the gradient of this module is right for the convolution, and cheaper."""
    return (
        x.shape.rank == 4
        and not tf.config.list_physical_devices("GPU")
        and data_format in (None, "NHWC")
        and padding in ("SAME", "VALID")
        and len(_of_axes(strides)) == 2
        and _of_axes(dilations) == (1, 1)
        and x.shape[1:].is_fully_defined()
        and x.shape[3] == kernel.shape[2]
        and (in_xla() or (_of_axes(strides) == (1, 1) and x.shape[3] <= _MOST_CHANNELS and min(kernel.shape[:2]) > 1))
    )


def _of_axes(steps: Any) -> tuple[int, ...]:
    """Strides or dilations of both axes, which may be given as one number, or not at all."""
    steps = tuple(int(step) for step in np.ravel(1 if steps is None else steps))
    return steps * 2 if len(steps) == 1 else steps


def image_gradient(seed: Tensor, kernel: Tensor, size: Any, padding: str, strides: Sequence[int] = (1, 1)) -> Tensor:
    """The gradient of a convolution with respect to its input, [B, height, width, in].

    `seed` [B, h, w, out] is the gradient with respect to its output, `kernel` is [kh, kw, in, out], and `size` the
    input's height and width.

    Example:
    >>> from keras_amm.network.kernels.convolution import image_gradient
    >>> found = image_gradient(tf.ones((1, 2, 2, 1)), tf.ones((2, 2, 1, 1)), (3, 3), "VALID")
    >>> found[0, ..., 0].numpy()
    array([[1., 2., 1.],
           [2., 4., 2.],
           [1., 2., 1.]], dtype=float32)
    """
    block = _block_size(kernel.shape[2])
    seed = _spread_out(seed, strides)
    before, after = [], []
    for length, number, extent in zip(size, seed.shape[1:3], kernel.shape[:2], strict=True):
        before.append(extent - 1 - _padded_before(length, number, extent, padding))
        after.append(-(-length // block) * block + extent - 1 - before[-1] - number)
    blocks = cheap_gradient_convolution(_padded(seed, before, after), _kernel_of_blocks(kernel, block), block)
    return tf.nn.depth_to_space(blocks, block)[:, : size[0], : size[1]] if block > 1 else blocks


def kernel_gradient(x: Tensor, seed: Tensor, shape: Any, padding: str, strides: Sequence[int] = (1, 1)) -> Tensor:
    """The gradient of a convolution with respect to its kernel, of the given shape [kh, kw, in, out].

    `x` is its input [B, height, width, in], and `seed` [B, h, w, out] the gradient with respect to its output.

    Example:
    >>> from keras_amm.network.kernels.convolution import kernel_gradient
    >>> x = tf.reshape(tf.range(9.0), (1, 3, 3, 1))
    >>> kernel_gradient(x, tf.ones((1, 2, 2, 1)), (2, 2, 1, 1), "VALID")[..., 0, 0].numpy()
    array([[ 8., 12.],
           [20., 24.]], dtype=float32)
    """
    if not in_xla():
        return tf.compat.v1.nn.conv2d_backprop_filter(x, shape, seed, [1, *strides, 1], padding)
    seed = _spread_out(seed, strides)
    before, after = [], []
    for length, number, extent in zip(x.shape[1:3], seed.shape[1:3], shape[:2], strict=True):
        before.append(_padded_before(length, number, extent, padding))
        after.append(number + extent - 1 - before[-1] - length)
    channels = tf.transpose(_padded(x, before, after), [3, 1, 2, 0])
    return tf.transpose(cheap_gradient_convolution(channels, tf.transpose(seed, [1, 2, 0, 3])), [1, 2, 0, 3])


def _padded_before(length: int, number: int, extent: int, padding: str) -> int:
    """How many zeros precede an axis of `length` pixels, by a kernel of `extent`.

    `number` counts its outputs as if there were no strides, up to the last that there is.
    """
    return max(number + extent - 1 - length, 0) // 2 if padding == "SAME" else 0


def _padded(x: Tensor, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """The images [B, height, width, channels] with zeros around them; without their last rows where `after` < 0."""
    ends = [length + min(added, 0) for length, added in zip(x.shape[1:3], after, strict=True)]
    widths = [[first, max(last, 0)] for first, last in zip(before, after, strict=True)]
    return tf.pad(x[:, : ends[0], : ends[1]], [[0, 0], *widths, [0, 0]])


def _spread_out(seed: Tensor, strides: Sequence[int]) -> Tensor:
    """The seed [B, h, w, out] with zeros between its rows and columns, for the places that strides leave out."""
    for axis, stride in enumerate(strides, 1):
        if stride > 1:
            shape = [*seed.shape[1:axis], seed.shape[axis] * stride, *seed.shape[axis + 1 :]]
            widths = [[0, 0]] * (axis + 1) + [[0, stride - 1]] + [[0, 0]] * (3 - axis)
            seed = tf.reshape(tf.pad(tf.expand_dims(seed, axis + 1), widths), [-1, *shape])
            # Nothing follows the last row or column.
            seed = seed[:, : shape[0] - stride + 1] if axis == 1 else seed[:, :, : shape[1] - stride + 1]
    return seed


def _block_size(channels: int) -> int:
    """The side of the squares of pixels that fill a vector."""
    return max((side for side in (2, 4) if side * side * channels <= _VECTOR), default=1)


def _kernel_of_blocks(kernel: Tensor, block: int) -> Tensor:
    """The flipped kernel at each place of a block, [kh + block - 1, kw + block - 1, out, block * block * in]."""
    flipped = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
    places = [
        tf.pad(flipped, [[row, block - 1 - row], [column, block - 1 - column], [0, 0], [0, 0]])
        for row in range(block)
        for column in range(block)
    ]
    return tf.concat(places, axis=3)
