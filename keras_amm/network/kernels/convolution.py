"""Convolutions of images whose gradient with respect to the images is cheap on a CPU.

Plain training never takes that gradient of its first layer, but a search for margins takes it once per
candidate class. On a CPU, TensorFlow computes a whole vector of channels at a time, and since an image's
gradient has only one channel or three, most of the vector is wasted. So several neighbouring pixels are
computed as channels of one position (space to depth), which halves the time of the first layer's gradient.
"""

from typing import Any

import tensorflow as tf

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
    """`tf.nn.convolution` with that gradient where it applies.

    It applies to two-dimensional convolutions without strides, channels last, of at most four channels;
    every other one, and every one where there is a GPU, is TensorFlow's own.
    """
    x, kernel = tf.convert_to_tensor(input), tf.convert_to_tensor(filters)
    if not _applies(x, kernel, strides, padding, data_format, dilations):
        return _convolution(x, kernel, strides, padding, data_format, dilations, name)

    def convolve(x: Tensor, kernel: Tensor) -> Tensor:
        def gradients(seed: Tensor) -> tuple[Tensor, Tensor]:
            return (
                image_gradient(seed, kernel, x.shape[1:3], padding),
                tf.compat.v1.nn.conv2d_backprop_filter(x, kernel.shape, seed, [1, 1, 1, 1], padding),
            )

        return _convolution(x, kernel, padding=padding, name=name), gradients

    return tf.custom_gradient(convolve)(x, kernel)


def _applies(x: Tensor, kernel: Tensor, strides: Any, padding: Any, data_format: str | None, dilations: Any) -> bool:
    """Whether the gradient of this module is right for the convolution, and cheaper."""
    return (
        x.shape.rank == 4
        and not tf.config.list_physical_devices("GPU")
        and data_format in (None, "NHWC")
        and padding in ("SAME", "VALID")
        and all(tf.nest.map_structure(lambda s: s == 1, tf.nest.flatten([strides or 1, dilations or 1])))
        and x.shape[1:].is_fully_defined()
        and x.shape[3] == kernel.shape[2] <= _MOST_CHANNELS
        and min(kernel.shape[:2]) > 1
    )


def image_gradient(seed: Tensor, kernel: Tensor, size: Any, padding: str) -> Tensor:
    """The gradient of a convolution without strides with respect to its input, [B, height, width, in].

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
    paddings = [[0, 0]]
    for length, out, extent in zip(size, seed.shape[1:3], kernel.shape[:2], strict=True):
        before = extent - 1 - ((extent - 1) // 2 if padding == "SAME" else 0)
        paddings.append([before, -(-length // block) * block + extent - 1 - before - out])
    blocks = tf.nn.conv2d(tf.pad(seed, [*paddings, [0, 0]]), _kernel_of_blocks(kernel, block), block, "VALID")
    return tf.nn.depth_to_space(blocks, block)[:, : size[0], : size[1]] if block > 1 else blocks


def _block_size(channels: int) -> int:
    """The side of the squares of pixels that fill a vector."""
    return max(side for side in (1, 2, 4) if side * side * channels <= _VECTOR)


def _kernel_of_blocks(kernel: Tensor, block: int) -> Tensor:
    """The flipped kernel at each place of a block, [kh + block - 1, kw + block - 1, out, block * block * in]."""
    flipped = tf.transpose(kernel[::-1, ::-1], [0, 1, 3, 2])
    places = [
        tf.pad(flipped, [[row, block - 1 - row], [column, block - 1 - column], [0, 0], [0, 0]])
        for row in range(block)
        for column in range(block)
    ]
    return tf.concat(places, axis=3)
