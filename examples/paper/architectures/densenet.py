"""DenseNet for small images (Huang et al., 2017)."""

import keras

from .batch_normalization import batch_normalization
from .layers import conv, dense

# Filters of each layer.
GROWTH_RATE = 12


def densenet(num_classes: int = 10, input_shape: tuple[int, ...] = (32, 32, 3), depth: int = 40) -> keras.Model:
    """The basic DenseNet of [45]: no bottleneck and no compression; 40 layers and growth 12 in Section 4.1.2.

    Three dense blocks, of normalisation, ReLU and a 3x3 convolution each layer, behind a
    convolution of 16 filters; between them a 1x1 convolution of as many filters as
    channels and 2x2 average pooling. No dropout: [45] uses it without augmentation only.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        depth: int, 3 n + 4 weight layers.

    Returns:
        `keras.Model`.
    """
    layers, remainder = divmod(depth - 4, 3)
    if remainder or layers < 1:
        raise ValueError(f"Expected a depth of 3 n + 4. Received: depth={depth!r}.")
    inputs = keras.Input(input_shape)
    x = conv(16, 3, padding="same", use_bias=False)(inputs)
    for block in range(3):
        if block:
            x = _normalized_conv(x, x.shape[-1], 1)
            x = keras.layers.AveragePooling2D(2)(x)
        for _ in range(layers):
            x = keras.layers.Concatenate()([x, _normalized_conv(x, GROWTH_RATE, 3)])
    x = keras.layers.ReLU()(batch_normalization()(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, dense(num_classes)(x), name=f"densenet_{depth}")


def _normalized_conv(x: keras.KerasTensor, filters: int, kernel_size: int) -> keras.KerasTensor:
    x = keras.layers.ReLU()(batch_normalization()(x))
    return conv(filters, kernel_size, padding="same", use_bias=False)(x)
