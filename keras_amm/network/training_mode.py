"""Whether one pass of a model serves both the loss, in training mode, and the attack, in inference mode."""

from collections.abc import Callable
from typing import Any

import keras
from keras.src.models.functional import Functional

from keras_amm.network.kernels.half_precision import HALF_PRECISION

# Keras's own layers with a `training` argument, and when it changes nothing in a layer of exactly that class. Any other
# layer with such an argument may differ.
_ALIKE: dict[type, Callable[[Any], bool]] = {
    # Their argument serves to adapt the scales of float8.
    **dict.fromkeys((keras.layers.Dense, keras.layers.EinsumDense), lambda layer: layer.quantization_mode != "float8"),
    keras.layers.BatchNormalization: lambda layer: not layer.trainable,
    keras.layers.GaussianNoise: lambda layer: layer.stddev == 0,
    **dict.fromkeys(
        (
            keras.layers.AlphaDropout,
            keras.layers.Dropout,
            keras.layers.GaussianDropout,
            keras.layers.SpatialDropout1D,
            keras.layers.SpatialDropout2D,
            keras.layers.SpatialDropout3D,
        ),
        lambda layer: layer.rate == 0,
    ),
    **dict.fromkeys(
        (
            keras.layers.AdditiveAttention,
            keras.layers.Attention,
            keras.layers.GroupQueryAttention,
            keras.layers.MultiHeadAttention,
        ),
        lambda layer: layer.get_config()["dropout"] == 0,
    ),
    # They hand the argument on, to layers that are looked at themselves, or have it from a class of random layers.
    **dict.fromkeys((Functional, keras.Sequential, keras.layers.CenterCrop, keras.layers.Resizing), lambda layer: True),
}


def is_same_in_training(model: keras.Model) -> bool:
    """Whether training mode changes nothing in what the model computes."""
    return all(not layer._call_has_training_arg or _is_alike(layer) for layer in model._flatten_layers())


def computes_in(model: keras.Model, dtype: str) -> bool:
    """Whether no layer computes in half precision, and no input is cast away from the dtype."""
    return not any(
        layer.compute_dtype in HALF_PRECISION
        or (
            isinstance(layer, (Functional, keras.Sequential))
            and any(tensor.dtype != dtype for tensor in getattr(layer, "inputs", ()))
        )
        for layer in model._flatten_layers()
    )


def _is_alike(layer: keras.Layer) -> bool:
    if type(layer) is keras.layers.Lambda:
        # Keras calls its function without the argument unless the function has it too.
        return not layer._fn_expects_training_arg
    return _ALIKE.get(type(layer), lambda _: False)(layer)
