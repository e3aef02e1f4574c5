"""The optimizers of the cells, with Keras's default learning rates."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras

OPTIMIZERS: Mapping[str, tuple[type[keras.Optimizer], Mapping[str, Any]]] = MappingProxyType(
    {
        "sgd": (keras.optimizers.SGD, MappingProxyType({"momentum": 0.9})),
        "adam": (keras.optimizers.Adam, MappingProxyType({})),
        "adamw": (keras.optimizers.AdamW, MappingProxyType({})),
    }
)


def build(name: str, **settings: Any) -> keras.Optimizer:
    """A new optimizer, `settings` in addition to its own."""
    kind, own = OPTIMIZERS[name]
    return kind(**{**own, **settings})
