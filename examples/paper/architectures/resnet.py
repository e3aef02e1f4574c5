"""Residual networks (He et al., 2016): for small images, and ResNet-18 and ResNet-50 for ImageNet."""

import functools
from collections.abc import Callable, Sequence

import keras

from .batch_normalization import batch_normalization
from .layers import centred_conv, dense

Tensor = keras.KerasTensor


def resnet(num_classes: int = 10, input_shape: tuple[int, ...] = (32, 32, 3), depth: int = 20) -> keras.Model:
    """ResNet-20 and ResNet-56 of Section 4.1.2, as [44] has them for CIFAR-10.

    Three stages of 16, 32 and 64 filters behind a 3x3 convolution. Shortcuts have no
    parameters: where the shape changes they take every other pixel and pad the channels with
    zeros, option A of [44].

    The authors' published code differs: from depth 44 on its blocks are bottlenecks of three convolutions with four
    times the output channels, so that its "ResNet-56" has more layers and other blocks than this one; its shortcuts
    are 1x1 convolutions where the shape changes; and the last normalisation of each block begins with scale 0.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        depth: int, 6 n + 2 weight layers.

    Returns:
        `keras.Model`.
    """
    blocks, remainder = divmod(depth - 2, 6)
    if remainder or blocks < 1:
        raise ValueError(f"Expected a depth of 6 n + 2. Received: depth={depth!r}.")
    inputs = keras.Input(input_shape)
    x = normalized_relu(centred_conv(inputs, 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        for index in range(blocks):
            strides = 2 if stage and not index else 1
            residual = _two_convolutions(x, filters, strides)
            x = keras.layers.ReLU()(keras.layers.Add()([residual, _padded_shortcut(x, filters, strides)]))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, dense(num_classes)(x), name=f"resnet_{depth}")


def resnet_18(num_classes: int = 1000, input_shape: tuple[int, ...] = (224, 224, 3)) -> keras.Model:
    """ResNet-18 of Section 4.1.3: two blocks of two 3x3 convolutions in each of four stages ([44], Table 1).

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.

    Returns:
        `keras.Model`.
    """
    inputs = keras.Input(input_shape)
    x = _imagenet_stem(inputs)
    x = stages(x, (2, 2, 2, 2), _basic_block)
    return _headed("resnet_18", inputs, x, num_classes)


def resnet_50(
    num_classes: int = 1000, input_shape: tuple[int, ...] = (224, 224, 3), stride_in_first: bool = False
) -> keras.Model:
    """ResNet-50 of Section 4.1.3: bottleneck blocks, 3, 4, 6 and 3 in four stages ([44], Table 1).

    The paper fine-tunes a PyTorch model, whose bottleneck has its stride in the 3x3
    convolution; [44] and `keras.applications` have it in the first 1x1 one.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        stride_in_first: bool, whether the first convolution of a bottleneck is the strided one.

    Returns:
        `keras.Model`.
    """
    inputs = keras.Input(input_shape)
    x = _imagenet_stem(inputs)
    x = stages(x, (3, 4, 6, 3), functools.partial(_bottleneck_block, stride_in_first=stride_in_first))
    return _headed("resnet_50", inputs, x, num_classes)


def normalized_relu(x: Tensor) -> Tensor:
    """Batch normalisation and ReLU."""
    return keras.layers.ReLU()(batch_normalization()(x))


def stages(x: Tensor, blocks: Sequence[int], block: Callable[[Tensor, int, int], Tensor]) -> Tensor:
    """Four stages of 64, 128, 256 and 512 filters; all but the first halve height and width."""
    for stage, number in enumerate(blocks):
        for index in range(number):
            x = block(x, 64 * 2**stage, 2 if stage and not index else 1)
    return x


def bottleneck(x: Tensor, filters: int, strides: int, stride_in_first: bool) -> Tensor:
    """1x1, 3x3 and 1x1 convolutions, the last with four times as many filters."""
    first, second = (strides, 1) if stride_in_first else (1, strides)
    x = normalized_relu(centred_conv(x, filters, 1, first))
    x = normalized_relu(centred_conv(x, filters, 3, second))
    return batch_normalization()(centred_conv(x, 4 * filters, 1))


def projected_shortcut(x: Tensor, filters: int, strides: int) -> Tensor:
    """The input, or its 1x1 convolution where the shape changes: option B of [44]."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    return batch_normalization()(centred_conv(x, filters, 1, strides))


def _two_convolutions(x: Tensor, filters: int, strides: int) -> Tensor:
    x = normalized_relu(centred_conv(x, filters, 3, strides))
    return batch_normalization()(centred_conv(x, filters, 3))


def _padded_shortcut(x: Tensor, filters: int, strides: int) -> Tensor:
    missing = filters - x.shape[-1]
    if strides > 1:
        x = x[:, ::strides, ::strides, :]
    if missing:
        x = keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [missing // 2, missing - missing // 2]])
    return x


def _basic_block(x: Tensor, filters: int, strides: int) -> Tensor:
    residual = _two_convolutions(x, filters, strides)
    return keras.layers.ReLU()(keras.layers.Add()([residual, projected_shortcut(x, filters, strides)]))


def _bottleneck_block(x: Tensor, filters: int, strides: int, stride_in_first: bool) -> Tensor:
    residual = bottleneck(x, filters, strides, stride_in_first)
    return keras.layers.ReLU()(keras.layers.Add()([residual, projected_shortcut(x, 4 * filters, strides)]))


def _imagenet_stem(x: Tensor) -> Tensor:
    x = normalized_relu(centred_conv(x, 64, 7, 2))
    # After a ReLU, padding with zeros is padding with minus infinity.
    return keras.layers.MaxPooling2D(3, strides=2)(keras.layers.ZeroPadding2D(1)(x))


def _headed(name: str, inputs: Tensor, x: Tensor, num_classes: int) -> keras.Model:
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, dense(num_classes)(x), name=name)
