"""Layers of half precision that compute in float32: a margin is a ratio of small differences."""

from collections.abc import Callable
from typing import Any

import keras

HALF_PRECISION = ("float16", "bfloat16")

_float32 = keras.DTypePolicy("float32")
_original = {
    name: getattr(keras.Layer, name).fget
    for name in ("dtype_policy", "compute_dtype", "variable_dtype", "quantization_mode")
}


def _in_float32(name: str) -> Callable[[keras.Layer], Any]:
    """The property of a layer as the policy "float32" has it, for a layer of half precision."""
    instead = _float32 if name == "dtype_policy" else getattr(_float32, name)
    return lambda layer: instead if _original["compute_dtype"](layer) in HALF_PRECISION else _original[name](layer)


# By name, the properties of `keras.Layer` that say in what precision it computes.
float32_properties = {name: _in_float32(name) for name in _original}
