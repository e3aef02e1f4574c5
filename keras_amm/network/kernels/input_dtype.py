"""Images that stay of the dtype they come in, where a model would cast them to that of its `Input`.

An attack moves images by fractions of a grey level. An `Input` of integers would round them away, and let no
gradient pass; one of half precision makes them coarse.
"""

from typing import Any

import tensorflow as tf
from keras.src.models.functional import Functional

from keras_amm.typing import Tensor

_convert_inputs_to_tensors = Functional._convert_inputs_to_tensors


def _without_cast(model: Functional, flat_inputs: list[Any]) -> list[Tensor]:
    """The inputs of a Functional model as it takes them, but tensors of floating point as they are."""
    converted = _convert_inputs_to_tensors(model, flat_inputs)
    return [
        given if isinstance(given, tf.Tensor) and given.dtype.is_floating else taken
        for given, taken in zip(flat_inputs, converted, strict=True)
    ]


# By name, what replaces methods of `Functional`, and properties of `keras.Sequential`.
uncast_functional = {"_convert_inputs_to_tensors": _without_cast}
uncast_sequential = {"input_dtype": lambda model: model.compute_dtype}
