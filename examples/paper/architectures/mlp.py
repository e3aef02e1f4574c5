"""The multilayer perceptron of the MNIST experiments."""

import keras

from .layers import dense


def mlp(num_classes: int = 10, input_shape: tuple[int, ...] = (28, 28, 1), units: int = 800) -> keras.Model:
    """MLP (n): two hidden layers of n ReLUs (Sections 4.1.1 and 4.4.1).

    Args:
        num_classes: int, the number of logits.
        input_shape: tuple, the shape of an image.
        units: int, the width of both hidden layers.

    Returns:
        `keras.Model`.
    """
    inputs = keras.Input(input_shape)
    x = keras.layers.Flatten()(inputs)
    x = dense(units, activation="relu")(x)
    x = dense(units, activation="relu")(x)
    return keras.Model(inputs, dense(num_classes)(x), name=f"mlp_{units}")
