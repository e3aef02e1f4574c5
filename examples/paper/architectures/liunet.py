"""LiuNet, the networks of L-Softmax (Liu et al., 2016, Table 1), with group normalisation."""

from collections.abc import Sequence
from typing import Any

import keras

from .layers import conv, dense

# Filters of the four stages and units of the dense layer, by the width of the first.
_WIDTHS = {64: ((64, 64, 96, 128), 256), 96: ((96, 96, 192, 384), 512)}


def liunet_mnist(
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (28, 28, 1),
    group_size: int = 32,
    groups: int | None = None,
) -> keras.Model:
    """The MNIST network of L-Softmax: 1 + 3 + 3 + 3 convolutions of 64 filters, dense 256; 12 weight layers.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        group_size: int, channels that are normalised together: 32 in the paper (4.4.1).
        groups: int, the number of groups, in place of their size: 16 in the authors' code.

    Returns:
        `keras.Model`.
    """
    return _liunet("liunet_mnist", num_classes, input_shape, 3, (64, 64, 64, 64), 256, group_size, groups)


def liunet(
    num_classes: int = 10,
    input_shape: tuple[int, ...] = (32, 32, 3),
    width: int = 64,
    group_size: int = 32,
    groups: int | None = None,
) -> keras.Model:
    """The CIFAR networks of L-Softmax: 1 + 4 + 4 + 4 convolutions.

    CIFAR-10, which the paper applies to SVHN too (4.4.4): 64, 64, 96 and 128 filters, dense 256 (`width=64`);
    CIFAR-100: 96, 96, 192 and 384, dense 512 (`width=96`).

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        width: int, 64 or 96.
        group_size: int, channels that are normalised together: 32 in the paper (4.4.1).
        groups: int, the number of groups, in place of their size: 16 in the authors' code.

    Returns:
        `keras.Model`.
    """
    if width not in _WIDTHS:
        raise ValueError(f"Expected one of {sorted(_WIDTHS)}. Received: width={width!r}.")
    filters, units = _WIDTHS[width]
    return _liunet(f"liunet_{width}", num_classes, input_shape, 4, filters, units, group_size, groups)


def _liunet(
    name: str,
    num_classes: int,
    input_shape: tuple[int, ...],
    convolutions: int,
    filters: Sequence[int],
    units: int,
    group_size: int,
    groups: int | None,
) -> keras.Model:
    """3x3 convolutions with bias, normalisation and ReLU; 2x2 max-pooling after all stages but the first.

    L-Softmax has batch normalisation and PReLU; the paper replaces the normalisation
    (4.4.1), and the authors' code, which is followed, the activation as well.
    """
    inputs = keras.Input(input_shape)
    x = inputs
    for stage, width in enumerate(filters):
        for _ in range(convolutions if stage else 1):
            x = conv(width, 3, padding="same")(x)
            x = _normalization(width, group_size, groups)(x)
            x = keras.layers.ReLU()(x)
        if stage:
            x = keras.layers.MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = dense(units, activation="relu")(x)
    return keras.Model(inputs, dense(num_classes)(x), name=name)


def _normalization(width: int, group_size: int, groups: int | None) -> Any:
    if min(group_size, groups or 1) < 1 or width % (groups or group_size):
        given = f"group_size={group_size}" if groups is None else f"groups={groups}"
        raise ValueError(f"Expected a divisor of the stage's {width} channels. Received: {given}.")
    # PyTorch's epsilon; Keras's own default is 1e-3.
    return keras.layers.GroupNormalization(groups or width // group_size, epsilon=1e-5)
