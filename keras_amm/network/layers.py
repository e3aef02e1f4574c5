"""What the layers of a model are: rescaling of the input, piecewise linear."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras

from keras_amm.network.inputs import unwrapped

_RESCALING = (keras.layers.Rescaling, keras.layers.Normalization)
_PIECEWISE_LINEAR = (
    "Dense Conv1D Conv2D Conv3D DepthwiseConv1D DepthwiseConv2D SeparableConv1D SeparableConv2D Conv2DTranspose "
    "MaxPooling1D MaxPooling2D MaxPooling3D AveragePooling1D AveragePooling2D AveragePooling3D "
    "GlobalAveragePooling1D GlobalAveragePooling2D GlobalMaxPooling1D GlobalMaxPooling2D "
    "BatchNormalization Flatten Reshape Permute Activation ReLU LeakyReLU PReLU Dropout SpatialDropout2D "
    "ZeroPadding2D Cropping2D UpSampling2D Rescaling Normalization Add Subtract Average Concatenate Maximum "
    "InputLayer Identity"
).split()
_CONTAINERS = ("Sequential", "Functional")
_LINEAR_ACTIVATIONS = [keras.activations.get(name) for name in ("linear", "relu", "relu6", "leaky_relu", "hard_tanh")]


def input_rescaling(model: keras.Model) -> list[keras.Layer]:
    """The `Rescaling` and `Normalization` layers that images meet before any weights; none if pixels enter as they are.

    Cropping, augmentation and the like may come before them; a temperature that divides the logits is not
    among them. Nested models are looked into. A subclassed model's layers count in the order in which they
    were assigned to it.
    """
    first = itertools.takewhile(
        lambda layer: isinstance(layer, _RESCALING) or not layer.weights, _layers(unwrapped(model))
    )
    return [layer for layer in first if isinstance(layer, _RESCALING)]


def _layers(model: keras.Model) -> Iterator[Any]:
    """The layers in the order in which images meet them, with those of nested models in their places."""
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if isinstance(layer, _RESCALING) or not layer._layers:
            yield layer
        else:
            yield from _layers(layer)


def is_piecewise_linear(model: keras.Model) -> bool:
    """Whether the Hessian of the logits in inference mode is known to be zero."""
    return all(_is_piecewise_linear(layer) for layer in model._flatten_layers())


def _is_piecewise_linear(layer: keras.Layer) -> bool:
    name = type(layer).__name__
    if type(layer).__module__.split(".")[0] != "keras":
        return False
    if name in _CONTAINERS:
        # A Functional model also holds bare operations, such as x * x.
        return all(isinstance(part, keras.Layer) for part in getattr(layer, "operations", ()))
    activation = getattr(layer, "activation", None)
    return name in _PIECEWISE_LINEAR and (activation is None or activation in _LINEAR_ACTIVATIONS)
