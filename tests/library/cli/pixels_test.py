"""Pixels as a model takes them: scale, mean, shape and colours."""

import keras
import numpy as np
import pytest

from keras_amm.cli.errors import CommandError
from keras_amm.cli.pixels import file_format, pixels_for
from tests.library.cli.linear_models import SHAPE, Subclassed, linear


class TestPixels:
    @pytest.mark.parametrize(
        ("first", "are_integers", "scale", "expected"),
        [
            ((), True, None, 1 / 255),
            ((), False, None, 1.0),
            ((keras.layers.Rescaling(1 / 255),), True, None, 1.0),
            ((keras.layers.Normalization(mean=0.0, variance=1.0),), True, None, 1.0),
            ((keras.layers.Rescaling(1 / 255),), True, 0.5, 0.5),
            ((keras.layers.RandomFlip(), keras.Sequential([keras.layers.Rescaling(1 / 255)])), True, None, 1.0),
            ((keras.layers.Conv2D(1, 1), keras.layers.Rescaling(0.5)), True, None, 1 / 255),
        ],
    )
    def test_scale(self, first, are_integers, scale, expected):
        pixels = pixels_for(linear(0, first=first), are_integers, scale, (0.5,))
        x = np.full((2, *SHAPE), 51, "uint8")
        np.testing.assert_allclose(pixels(x, linear(0)), 51 * expected - 0.5, rtol=1e-6)

    def test_a_temperature_is_no_rescaling_of_pixels(self):
        model = linear(0)
        model.add(keras.layers.Rescaling(0.5))
        assert pixels_for(model, True, None, (0.0,)).scale == 1 / 255

    def test_files_for_models_that_do_not_say_what_they_take(self):
        assert file_format(Subclassed(), (8, 8)) == ((8, 8), "rgb")
        assert file_format(Subclassed(), (8, 8, 1)) == ((8, 8), "grayscale")
        assert file_format(linear(0, (8, 8)), None) == ((8, 8), "grayscale")
        with pytest.raises(CommandError, match="of 1 channels"):
            file_format(linear(0), (8, 8, 3))

    def test_mean_by_channel_and_missing_channel_axis(self):
        colour = pixels_for(linear(0, (2, 2, 3)), False, None, (0.1, 0.2, 0.3))
        np.testing.assert_allclose(
            colour(np.ones((1, 2, 2, 3)), linear(0, (2, 2, 3)))[0, 0, 0], [0.9, 0.8, 0.7], rtol=1e-6
        )
        grey = pixels_for(linear(0), False, None, (0.0,))
        assert grey(np.ones((4, *SHAPE[:2])), linear(0)).shape == (4, *SHAPE)
        assert grey(np.ones((4, *SHAPE)), linear(0, SHAPE[:2])).shape == (4, *SHAPE[:2])

    def test_deviation_by_channel(self):
        model = linear(0, (2, 2, 3))
        pixels = pixels_for(model, False, None, (0.1, 0.2, 0.3), (0.5, 0.25, 0.1))
        assert str(pixels) == "(pixels - [0.1, 0.2, 0.3]) / [0.5, 0.25, 0.1]"
        np.testing.assert_allclose(pixels(np.ones((1, 2, 2, 3)), model)[0, 0, 0], [1.8, 3.2, 7.0], rtol=1e-6)
        with pytest.raises(CommandError, match="--deviation must be one number, or one per channel: 2 for 3 channels"):
            pixels_for(model, False, None, (0.0,), (0.5, 0.25))(np.ones((1, 2, 2, 3)), model)
