"""Telling which layer has no second derivative, where TensorFlow tells the name of an operation only."""

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

# What TensorFlow says of the operation that computes a first derivative.
_MISSING = re.compile(r"gradient registry has no entry for: (?P<operation>\w+)")


@contextlib.contextmanager
def naming_layers(model: keras.Model) -> Iterator[None]:
    """Turn TensorFlow's error about a missing second derivative into one that names layers of the model.

    Raises:
        ValueError: an operation of the model cannot be differentiated twice.
    """
    try:
        yield
    except LookupError as error:
        if (missing := _MISSING.search(str(error))) is None:
            raise
        raise ValueError(_message(model, missing["operation"].removesuffix("Grad"))) from error


def _message(model: keras.Model, operation: str) -> str:
    layers = [f"{layer.name!r} ({type(layer).__name__})" for layer in layers_with(model, operation)]
    where = f"layer {', '.join(layers)}" if layers else f"a layer of model {model.name!r}"
    return (
        "gradient='unrolled' differentiates the network twice, and TensorFlow has no second derivative of "
        f"{operation}, which {where} uses. Pass MarginRegularizer(gradient='boundary'), which needs first derivatives "
        "only, or replace the layer: bilinear resizing has a second derivative, for example."
    )


def layers_with(model: keras.Model, operation: str) -> list[Any]:
    """The innermost layers of the model that run a TensorFlow operation, as far as they know their input's shape."""
    innermost = [layer for layer in model._flatten_layers(include_self=False) if not layer._layers]
    return [layer for layer in innermost if operation in _operations(layer)]


def _operations(layer: keras.Layer) -> set[str]:
    """The types of the operations that a layer runs in inference mode; none if it cannot be traced by itself."""
    # A layer of a subclassed model knows no input, and one of several inputs is more than is needed here.
    with contextlib.suppress(Exception), tf.init_scope():
        spec = tf.TensorSpec(layer.input.shape, layer.input.dtype)
        graph = tf.function(lambda x: layer(x, training=False) if _takes_training(layer) else layer(x))
        definition = graph.get_concrete_function(spec).graph.as_graph_def()
        functions = (node for function in definition.library.function for node in function.node_def)
        return {node.op for node in (*definition.node, *functions)}
    return set()


def _takes_training(layer: keras.Layer) -> bool:
    return bool(layer._call_has_training_arg)
