"""The layers of a model that bring pixels to the scale it works on."""

import itertools
from collections.abc import Iterator
from typing import Any

import keras

from keras_amm.network.classifier import unwrapped

_RESCALING = (keras.layers.Rescaling, keras.layers.Normalization)


def input_rescaling(model: keras.Model) -> list[Any]:
    """The rescaling layers that images meet before any weights.

    Cropping, augmentation and the like may come before them; a temperature on the
    logits is none of them. Of a subclassed model, its layers count in the order in
    which it has been given them.

    Args:
        model: `keras.Model` or `AMMModel`; models in it are looked into.

    Returns:
        List of `Rescaling` and `Normalization` layers; empty if the model takes pixels as they come.

    Example:
    >>> layers = [keras.layers.Rescaling(1 / 255), keras.layers.Dense(3), keras.layers.Rescaling(0.5)]
    >>> model = keras.Sequential([keras.Input((4,)), *layers])
    >>> keras_amm.network.layers.input_rescaling(model) == layers[:1]
    True
    """
    first = itertools.takewhile(
        lambda layer: isinstance(layer, _RESCALING) or not layer.weights, _layers(unwrapped(model))
    )
    return [layer for layer in first if isinstance(layer, _RESCALING)]


def _layers(model: Any) -> Iterator[Any]:
    """The layers in the order in which images meet them, with those of nested models in their places."""
    for layer in model._flatten_layers(include_self=False, recursive=False):
        if isinstance(layer, _RESCALING) or not layer._layers:
            yield layer
        else:
            yield from _layers(layer)
