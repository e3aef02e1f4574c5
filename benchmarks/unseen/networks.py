"""The networks of the problems, all with logits."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import layers

# From inputs to features.
Features = Callable[[Any], Any]


def build(features: Features, shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """A network with new weights: images [B, *shape] to logits [B, num_classes]."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, layers.Dense(num_classes)(features(inputs)))


def mlp(widths: Sequence[int] = (256, 256), activation: str = "relu") -> Features:
    """Dense layers."""
    return functools.partial(_mlp, widths=widths, activation=activation)


def cnn(before: Sequence[Callable[[], Any]] = (), normalization: Any = None, dropout: float = 0.0) -> Features:
    """Two convolutions and a dense layer.

    Args:
        before: what makes the layers before the first convolution.
        normalization: the class of the layer after each convolution; None for no such layer.
        dropout: the rate before and after the dense layer.
    """
    return functools.partial(_cnn, before=before, normalization=normalization, dropout=dropout)


def _mlp(x: Any, widths: Sequence[int], activation: str) -> Any:
    x = layers.Flatten()(x)
    for width in widths:
        x = layers.Dense(width, activation)(x)
    return x


def _cnn(x: Any, before: Sequence[Callable[[], Any]], normalization: Any, dropout: float) -> Any:
    for make in before:
        x = make()(x)
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, padding="same")(x)
        if normalization:
            x = normalization()(x)
        x = layers.MaxPooling2D()(layers.ReLU()(x))
    x = layers.Dropout(dropout)(layers.Flatten()(x))
    return layers.Dropout(dropout)(layers.Dense(128, "relu")(x))


def convnext(x: Any, dim: int = 48, depth: int = 3) -> Any:
    """Blocks as in ConvNeXt (Liu et al. 2022), with kernels of 5 in place of 7, on patches of 4x4 pixels."""
    x = layers.LayerNormalization()(layers.Conv2D(dim, 4, strides=4)(x))
    for _ in range(depth):
        y = layers.LayerNormalization()(layers.DepthwiseConv2D(5, padding="same")(x))
        y = layers.Dense(dim)(layers.Dense(4 * dim, "gelu")(y))
        x = layers.Add()([x, y])
    return layers.LayerNormalization()(layers.GlobalAveragePooling2D()(x))
