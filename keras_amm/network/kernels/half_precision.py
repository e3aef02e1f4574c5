"""Layers of half precision that compute in float32: a margin is a ratio of small differences.

Their weights stay what they are, of half precision or quantised, and so does everything else of their policy.
"""

import copy
from typing import Any

import keras

HALF_PRECISION = ("float16", "bfloat16")

_dtype_policy = keras.Layer.dtype_policy.fget
_compute_dtype = keras.Layer.compute_dtype.fget


def _policy(layer: keras.Layer) -> Any:
    """The layer's policy, which computes in float32 where the layer's own computes in half precision."""
    policy = _dtype_policy(layer)
    if isinstance(policy, keras.dtype_policies.DTypePolicyMap) and layer.path:
        policy = policy[layer.path]
    return _in_float32(policy) if policy.compute_dtype in HALF_PRECISION else policy


def _in_float32(policy: Any) -> Any:
    """A copy of a policy that computes in float32, with the dtype of its variables and its quantisation."""
    policy = copy.copy(policy)
    policy._compute_dtype = "float32"
    return policy


def _compute_in_float32(layer: keras.Layer) -> str:
    dtype = _compute_dtype(layer)
    return "float32" if dtype in HALF_PRECISION else dtype


def require_usable_gradients(model: keras.Model) -> None:
    """Refuse, by a ValueError, a model that rounds its gradients: what comes back through float8 has two bits."""
    for layer in model._flatten_layers():
        if layer.quantization_mode == "float8":
            raise ValueError(
                "Layers quantised to float8 round their gradients to two bits, too coarse for an attack. Measure "
                "or train the model before it is quantised, or quantise it to int8 or int4. "
                f"Received: model {model.name!r} with layer {layer.name!r} of policy {layer.dtype_policy.name!r}."
            )


# By name, the properties of `keras.Layer` that say in what precision it computes. `variable_dtype` is not among them:
# where it differs from the dtype of the computation, Keras casts the variables to that.
float32_properties = {"dtype_policy": _policy, "compute_dtype": _compute_in_float32}
