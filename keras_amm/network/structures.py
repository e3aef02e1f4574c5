"""Dictionaries and lists, as Keras takes them for the inputs, outputs, labels or losses of a model."""

from typing import Any

import keras


def only_entry(value: Any) -> Any:
    """The entry of a dictionary of one, or of a list of one tensor; anything else itself.

    Example:
    >>> keras_amm.network.structures.only_entry({"logits": 3})
    3
    """
    if isinstance(value, dict) and len(value) == 1:
        return next(iter(value.values()))
    if isinstance(value, (list, tuple)) and len(value) == 1 and keras.ops.is_tensor(value[0]):
        return value[0]
    return value


def given_entries(value: Any) -> list[Any]:
    """What a structure of any depth, such as `compile` takes for its losses, holds besides None; one entry of itself.

    Example:
    >>> keras_amm.network.structures.given_entries({"digit": ["mse"], "colour": None})
    ['mse']
    """
    return [entry for entry in keras.tree.flatten(value) if entry is not None]


def input_key(model: keras.Model) -> Any:
    """Under which key of a dictionary a built model takes its images; None for no dictionary."""
    if getattr(model, "inputs", None):
        structure = getattr(model, "input", None)
    else:
        # Keras keeps what a subclassed model was built with, and saves it.
        structure = (model.get_build_config() or {}).get("input_shape")
    return next(iter(structure)) if isinstance(structure, dict) and len(structure) == 1 else None
