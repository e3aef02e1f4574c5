"""Layers as all these networks have them: He initialisation, PyTorch's padding of strided convolutions."""

from typing import Any

import keras


def dense(units: int, **kwargs: Any) -> keras.layers.Dense:
    """A dense layer with the "MSRA" initialisation of Section 4.2 (He et al., 2015)."""
    return keras.layers.Dense(units, kernel_initializer="he_normal", **kwargs)


def conv(filters: int, kernel_size: int, **kwargs: Any) -> keras.layers.Conv2D:
    """A convolution with the "MSRA" initialisation of Section 4.2 (He et al., 2015)."""
    return keras.layers.Conv2D(filters, kernel_size, kernel_initializer="he_normal", **kwargs)


def centred_conv(x: Any, filters: int, kernel_size: int, strides: int = 1) -> Any:
    """A convolution without bias, padded alike on both sides.

    At stride 2 Keras's `padding="same"` pads an even side on the right only, and so
    samples other positions than Caffe and PyTorch, for which ResNets were published.
    """
    if kernel_size > 1:
        x = keras.layers.ZeroPadding2D(kernel_size // 2)(x)
    return conv(filters, kernel_size, strides=strides, use_bias=False)(x)
