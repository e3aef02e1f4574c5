"""Network in Network (Lin et al., 2014)."""

import keras

from .layers import conv


def nin(num_classes: int = 10, input_shape: tuple[int, ...] = (32, 32, 3)) -> keras.Model:
    """NIN for CIFAR and SVHN (Section 4.1.2).

    Sizes and pooling are those of the authors' earlier work, Deep Defense, from which
    Section 4.4.2 says that it is copied: the filters are the published ones, while 2x2
    windows replace the 3x3 ones. The published network drops half of the activations after
    each pooling. Here none are dropped: the paper does not mention it, and the authors' code does not by default.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.

    Returns:
        `keras.Model`.
    """
    inputs = keras.Input(input_shape)
    x = _mlpconv(inputs, 5, 192, 160, 96)
    x = keras.layers.MaxPooling2D(2)(x)
    x = _mlpconv(x, 5, 192, 192, 192)
    x = keras.layers.AveragePooling2D(2)(x)
    x = _mlpconv(x, 3, 192, 192)
    x = conv(num_classes, 1)(x)
    return keras.Model(inputs, keras.layers.GlobalAveragePooling2D()(x), name="nin")


def _mlpconv(x: keras.KerasTensor, kernel_size: int, filters: int, *pointwise: int) -> keras.KerasTensor:
    x = conv(filters, kernel_size, padding="same", activation="relu")(x)
    for width in pointwise:
        x = conv(width, 1, activation="relu")(x)
    return x
