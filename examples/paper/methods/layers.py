"""Networks with some of their layers replaced."""

from collections.abc import Callable

import keras


def replaced(network: keras.Model, replace: Callable[[keras.layers.Layer], keras.layers.Layer]) -> keras.Model:
    """A network with other layers, which takes over the weights that both have.

    Args:
        network: Functional `keras.Model`.
        replace: function of a layer that returns another one, or the layer itself to have a copy of it.

    Returns:
        `keras.Model`.
    """

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        other = replace(layer)
        return layer.__class__.from_config(layer.get_config()) if other is layer else other

    other = keras.models.clone_model(network, clone_function=clone)
    for old, new in zip(network.layers, other.layers, strict=True):
        theirs = {weight.name: weight for weight in old.weights}
        for weight in new.weights:
            if weight.name in theirs and weight.shape == theirs[weight.name].shape:
                weight.assign(theirs[weight.name])
    return other


def head(network: keras.Model) -> keras.layers.Dense:
    """The dense layer that gives the logits.

    Raises:
        ValueError: another layer does.
    """
    last = network.layers[-1]
    if not isinstance(last, keras.layers.Dense):
        raise ValueError(f"Expected a network that ends with a dense layer. Received: {type(last).__name__}.")
    return last


def features_of(network: keras.Model) -> keras.Model:
    """The part of a network that goes before its head."""
    return keras.Model(network.input, head(network).input)


def hidden_dense(network: keras.Model) -> list[keras.layers.Dense]:
    """The dense layers before the head."""
    last = head(network)
    return [layer for layer in network.layers if isinstance(layer, keras.layers.Dense) and layer is not last]
