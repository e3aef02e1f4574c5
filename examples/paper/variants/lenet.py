"""Variants of LeNet and its training on MNIST, without AMM."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

from ..data.arrays import MNIST_DEVIATION
from .protocol import INITIALISATIONS, Variant, rescaled_pixels


@dataclasses.dataclass(frozen=True)
class LeNetVariant(Variant):
    """LeNet and its training; the defaults are those of `lenet-mnist`.

    Attributes:
        filters: of the 5x5 convolutions, each of which is followed by pooling.
        units: of the hidden dense layers, which have ReLU.
        activation: after each convolution.
        padding: of the convolutions.
        pooling: "max" or "average".
        initialisation: of the convolutions' kernels, a key of `protocol.INITIALISATIONS`.
        dense_initialisation: of the dense layers' kernels.
    """

    filters: tuple[int, ...] = (20, 50)
    units: tuple[int, ...] = (500,)
    activation: str | None = None
    padding: str = "valid"
    pooling: str = "max"
    initialisation: str = "msra"
    dense_initialisation: str = "msra"


_LECUN: dict[str, Any] = {"filters": (6, 16), "units": (120, 84)}

LENET_VARIANTS: Mapping[str, LeNetVariant] = MappingProxyType(
    {
        "ours": LeNetVariant("nothing"),
        "relu": LeNetVariant("ReLU after the convolutions", activation="relu"),
        "average": LeNetVariant("average pooling", pooling="average"),
        "same": LeNetVariant("convolutions padded", padding="same"),
        "wide": LeNetVariant("32 and 64 filters, 1,024 units", filters=(32, 64), units=(1024,)),
        "lecun": LeNetVariant("6 and 16 filters, 120 and 84 units (LeCun et al.)", **_LECUN),
        "lecun-relu": LeNetVariant("the same, with ReLU after the convolutions", activation="relu", **_LECUN),
        "untruncated": LeNetVariant(
            "MSRA not truncated, as the authors' MLP and LeNet",
            initialisation="msra-untruncated",
            dense_initialisation="msra-untruncated",
        ),
        "fan-out": LeNetVariant("MSRA by fan-out", initialisation="msra-fan-out", dense_initialisation="msra-fan-out"),
        "fan-out-convolutions": LeNetVariant("MSRA by fan-out, convolutions only", initialisation="msra-fan-out"),
        "fan-out-dense": LeNetVariant("MSRA by fan-out, dense layers only", dense_initialisation="msra-fan-out"),
        "fan-out-pytorch": LeNetVariant(
            "MSRA by fan-out for convolutions, PyTorch's default for dense layers, as the authors' LiuNet",
            initialisation="msra-fan-out",
            dense_initialisation="pytorch",
        ),
        "pytorch-dense": LeNetVariant("dense layers by PyTorch's default", dense_initialisation="pytorch"),
        "pytorch": LeNetVariant(
            "convolutions and dense layers by PyTorch's default",
            initialisation="pytorch",
            dense_initialisation="pytorch",
        ),
        "xavier": LeNetVariant("Caffe's initialisation", initialisation="xavier", dense_initialisation="xavier"),
        "no-decay": LeNetVariant("no weight decay", l2=0.0),
        "more-decay": LeNetVariant("weight decay of 5e-4", l2=5e-4),
        "rate": LeNetVariant("learning rate of 1e-2", learning_rate=1e-2),
        "deviation": LeNetVariant("pixels divided by their deviation", scale=1 / MNIST_DEVIATION),
        "no-mean": LeNetVariant("no mean subtracted", mean=0.0),
        "fixed-batches": LeNetVariant("the same batches in every epoch", shuffle=False),
    }
)


def build_lenet(variant: LeNetVariant) -> keras.Model:
    """The network, with new weights.

    Args:
        variant: `LeNetVariant`.

    Returns:
        `keras.Model`: MNIST images [B, 28, 28, 1], less the data set's mean, to logits [B, 10].
    """
    # Each layer has an initializer of its own: one would draw the same numbers for all.
    of_convolutions = INITIALISATIONS[variant.initialisation]
    of_dense = INITIALISATIONS[variant.dense_initialisation]
    pooling = {"max": keras.layers.MaxPooling2D, "average": keras.layers.AveragePooling2D}[variant.pooling]
    inputs = keras.Input((28, 28, 1))
    x = rescaled_pixels(variant, inputs)
    for filters in variant.filters:
        x = keras.layers.Conv2D(
            filters, 5, padding=variant.padding, activation=variant.activation, kernel_initializer=of_convolutions()
        )(x)
        x = pooling(2)(x)
    x = keras.layers.Flatten()(x)
    for units in variant.units:
        x = keras.layers.Dense(units, "relu", kernel_initializer=of_dense())(x)
    return keras.Model(inputs, keras.layers.Dense(10, kernel_initializer=of_dense())(x))
