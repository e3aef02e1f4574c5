"""Pixels as a model expects them: scaled, less the mean, in its shape."""

import dataclasses
from fractions import Fraction
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_amm.cli.models import input_shape
from keras_amm.cli.refusal import Refusal

_COLOUR_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What is done to pixels before a model sees them: `scale * pixels - mean`.

    Attributes:
        scale: float.
        mean: tuple of floats, one, or one per channel.
    """

    scale: float
    mean: tuple[float, ...]

    def __str__(self) -> str:
        scale = "pixels" if self.scale == 1.0 else f"{Fraction(self.scale).limit_denominator(10**6)} * pixels"
        mean = "" if not any(self.mean) else f" - {self.mean[0] if len(self.mean) == 1 else list(self.mean)}"
        return scale + mean

    def __call__(self, x: Any, model: keras.Model) -> np.ndarray:
        """Images [B, ...] as the model takes them.

        Args:
            x: array of any numeric dtype, [B, height, width, channels] or, of one channel, [B, height, width].
            model: the classifier.

        Returns:
            Float32 array.

        Raises:
            Refusal: their shape is not the model's, or the mean does not fit the channels.
        """
        x, expected = np.asarray(x), input_shape(model)
        if expected and len(expected) == x.ndim and expected[-1] == 1:
            x = x[..., None]
        if expected and not tf.TensorShape(expected).is_compatible_with(x.shape[1:]):
            raise Refusal(f"The images do not fit the model: it takes {expected}, and they are {x.shape[1:]}.")
        if len(self.mean) not in (1, x.shape[-1]):
            raise Refusal(
                f"--mean must be one number, or one per channel: {len(self.mean)} for {x.shape[-1]} channels."
            )
        return x.astype("float32") * np.float32(self.scale) - np.array(self.mean, "float32")


def pixels_for(model: keras.Model, are_integers: bool, scale: float | None, mean: tuple[float, ...]) -> Pixels:
    """The preprocessing of a model, with the default scale where none is given.

    Args:
        model: the classifier.
        are_integers: bool, whether pixels are integers, 0..255.
        scale: float; None for 1/255 of integers, unless the model rescales its input itself.
        mean: tuple of floats, one, or one per channel.

    Returns:
        A `Pixels`.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> print(keras_amm.cli.pixels.pixels_for(model, True, None, (0.5,)))
    1/255 * pixels - 0.5
    """
    if scale is None:
        scale = 1.0 / 255.0 if are_integers and not _rescales(model) else 1.0
    return Pixels(scale, mean)


def file_format(model: keras.Model, image_size: tuple[int, int] | None) -> tuple[tuple[int, int], str]:
    """How image files are to be read for a model.

    Args:
        model: the classifier.
        image_size: (height, width) the user has asked for; None for the model's.

    Returns:
        A pair: (height, width), and "grayscale", "rgb" or "rgba".

    Raises:
        Refusal: the model does not take images, or does not say of what size.

    Example:
    >>> model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> keras_amm.cli.pixels.file_format(model, None)
    ((28, 28), 'grayscale')
    """
    expected = input_shape(model) or (None, None, 3)
    if len(expected) != 3 or expected[2] not in _COLOUR_MODES:
        raise Refusal(
            f"The model takes inputs of shape {expected}, and image files have (height, width, channels), 1, 3 or 4 "
            "of them. Give the data as an .npz file."
        )
    size = image_size or expected[:2]
    if None in size:
        raise Refusal("The model takes images of any size: say by --image_size=HEIGHT,WIDTH to which to resize them.")
    return (size[0], size[1]), _COLOUR_MODES[expected[2]]  # type: ignore[return-value]


def _rescales(model: keras.Model) -> bool:
    return any(
        isinstance(layer, (keras.layers.Rescaling, keras.layers.Normalization)) for layer in model._flatten_layers()
    )
