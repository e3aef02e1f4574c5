"""What the layers of a model are found to be."""

import keras
import pytest

from keras_amm.network.layers import input_rescaling, is_piecewise_linear

layers = keras.layers


def _model(*stack):
    return keras.Sequential([keras.Input((4, 4, 1)), *stack])


def test_rescaling_counts_until_the_first_weights():
    first, nested, late = layers.Rescaling(1 / 255), layers.Rescaling(2.0), layers.Rescaling(0.5)
    inner = _model(nested, layers.Conv2D(2, 3), late)
    assert input_rescaling(_model(first, layers.RandomFlip(), inner, layers.Flatten())) == [first, nested]
    assert input_rescaling(_model(layers.Conv2D(2, 3), late)) == []


@pytest.mark.parametrize(
    ("stack", "linear"),
    [
        ([layers.Conv2D(2, 3, activation="relu"), layers.MaxPooling2D()], True),
        ([layers.Conv2D(2, 3), layers.BatchNormalization()], True),
        ([layers.Conv2D(2, 3, activation="tanh")], False),
        ([layers.Conv2D(2, 3, dtype="mixed_bfloat16")], True),
        ([layers.GroupNormalization(1)], False),
    ],
)
def test_piecewise_linear(stack, linear):
    assert is_piecewise_linear(_model(*stack)) is linear


def test_a_product_of_inputs_is_not_linear():
    x = keras.Input((4,))
    assert not is_piecewise_linear(keras.Model(x, x * x))
