"""The networks of the cells, all with logits."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import keras
from keras import layers

from examples.paper import architectures


def build(name: str, shape: tuple[int, ...], num_classes: int) -> keras.Model:
    """A network with new weights: images [B, *shape] to logits [B, num_classes]."""
    if name in OF_THE_PAPER:
        return architectures.build(OF_THE_PAPER[name], num_classes)
    inputs = keras.Input(shape)
    return keras.Model(inputs, layers.Dense(num_classes)(FEATURES[name](inputs)), name=name.replace("-", "_"))


def _mlp(x: Any) -> Any:
    x = layers.Flatten()(x)
    for _ in range(2):
        x = layers.Dense(256, "relu")(x)
    return x


def _cnn(x: Any) -> Any:
    for filters in (32, 64):
        x = layers.MaxPooling2D()(layers.Conv2D(filters, 3, activation="relu")(x))
    return layers.Dense(128, "relu")(layers.Flatten()(x))


def _cnn_with_batch_normalization(x: Any) -> Any:
    for filters in (32, 64):
        x = layers.MaxPooling2D()(_normalised(layers.Conv2D(filters, 3, use_bias=False)(x)))
    return layers.Dense(128, "relu")(layers.Flatten()(x))


def _residual(x: Any) -> Any:
    x = _normalised(layers.Conv2D(16, 3, strides=2, padding="same", use_bias=False)(x))
    for filters, strides in ((16, 1), (32, 2), (64, 2)):
        shortcut = x if strides == 1 else layers.Conv2D(filters, 1, strides=strides, use_bias=False)(x)
        x = _normalised(layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x))
        x = layers.BatchNormalization()(layers.Conv2D(filters, 3, padding="same", use_bias=False)(x))
        x = layers.ReLU()(layers.Add()([x, shortcut]))
    return layers.GlobalAveragePooling2D()(x)


def _normalised(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization()(x))


def _vision_transformer(x: Any, dim: int = 64, depth: int = 2, heads: int = 4) -> Any:
    x = layers.Conv2D(dim, 4, strides=4)(x)
    x = Positions()(layers.Reshape((-1, dim))(x))
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(heads, dim // heads)(y, y)])
        y = layers.Dense(2 * dim, "gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(dim)(y)])
    return layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x))


@keras.saving.register_keras_serializable(package="keras_amm_benchmarks")
class Positions(layers.Layer):
    """Adds a trained vector to each token of a sequence [B, tokens, dim]."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=shape[1:], initializer="random_uniform", name="table")

    def call(self, x: Any) -> Any:
        return x + self.table


OF_THE_PAPER: Mapping[str, str] = MappingProxyType({"mlp-800": "mlp-800", "lenet": "lenet-mnist"})
FEATURES: Mapping[str, Callable[[Any], Any]] = MappingProxyType(
    {
        "mlp": _mlp,
        "cnn": _cnn,
        "cnn-bn": _cnn_with_batch_normalization,
        "resnet": _residual,
        "vit": _vision_transformer,
    }
)
