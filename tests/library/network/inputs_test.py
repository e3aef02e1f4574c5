"""What is accepted: the classifier that is meant, and images in any numeric dtype and in Keras's two shapes."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from keras_amm.network.inputs import as_images, images_for, unwrapped


def _classifier(*shape):
    return keras.Sequential([keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(3)])


def test_only_a_wrapper_is_unwrapped():
    classifier = _classifier(4)
    assert unwrapped(keras_amm.wrap(classifier)) is classifier
    classifier.base_model = _classifier(4)
    assert unwrapped(classifier) is classifier


@pytest.mark.parametrize(("dtype", "wanted"), [("uint8", "float32"), ("float16", "float32"), ("float64", "float64")])
def test_images_become_floats(dtype, wanted):
    x = np.ones((1, 2, 2), dtype)
    assert as_images(x).dtype == wanted
    assert as_images({"image": x}, "float32").dtype == "float32"


def test_the_channel_axis_of_grayscale_images_may_come_or_go():
    x = np.arange(8.0).reshape(2, 2, 2)
    for model, images in ((_classifier(2, 2, 1), x), (_classifier(2, 2), x[..., None])):
        fitted = images_for(model, images, "float32")
        assert fitted.shape[1:] == model.input_shape[1:]
        np.testing.assert_array_equal(tf.reshape(fitted, x.shape), x)
    with pytest.raises(ValueError, match=r"Expected: shape \(None, 2, 2, 1\).* Received: shape \(2, 2, 2, 3\)"):
        images_for(_classifier(2, 2, 1), np.ones((2, 2, 2, 3)), "float32")
