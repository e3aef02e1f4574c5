"""Squeeze-and-excitation networks (Hu et al., 2018)."""

import keras

from .layers import centred_conv, dense
from .resnet import Tensor, bottleneck, normalized_relu, projected_shortcut, stages


def senet_50(num_classes: int = 1000, input_shape: tuple[int, ...] = (224, 224, 3), reduction: int = 16) -> keras.Model:
    """SENet-50 of Section 4.1.3: SE-ResNet-50 of [48], ResNet-50 whose residuals are rescaled per channel.

    As the model the paper fine-tunes (footnote 5) has it: the stride in the first 1x1
    convolution of a bottleneck, and a max-pooling that pads on the right.

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        reduction: int, by how much the squeeze narrows the channels.

    Returns:
        `keras.Model`.
    """

    def block(x: Tensor, filters: int, strides: int) -> Tensor:
        residual = _squeeze_excite(bottleneck(x, filters, strides, stride_in_first=True), reduction)
        return keras.layers.ReLU()(keras.layers.Add()([residual, projected_shortcut(x, 4 * filters, strides)]))

    inputs = keras.Input(input_shape)
    x = normalized_relu(centred_conv(inputs, 64, 7, 2))
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = stages(x, (3, 4, 6, 3), block)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, dense(num_classes)(x), name="senet_50")


def _squeeze_excite(x: Tensor, reduction: int) -> Tensor:
    channels = x.shape[-1]
    scale = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    scale = dense(channels // reduction, activation="relu")(scale)
    scale = dense(channels, activation="sigmoid")(scale)
    return keras.layers.Multiply()([x, scale])
