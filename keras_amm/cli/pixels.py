"""Pixels as a model expects them: scaled, with the mean subtracted, divided by a deviation, in the model's shape."""

import dataclasses
from fractions import Fraction

import keras
import numpy as np

from keras_amm.cli.errors import CommandError
from keras_amm.cli.models import input_shape
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import takes_integers, unwrapped
from keras_amm.network.layers import input_rescaling
from keras_amm.search.box import ROUNDING
from keras_amm.typing import TensorLike

COLOUR_MODES = {1: "grayscale", 3: "rgb", 4: "rgba"}


@dataclasses.dataclass(frozen=True)
class Pixels:
    """What is done to pixels before a model sees them: `(scale * pixels - mean) / deviation`.

    The mean and the deviation are one number or one per channel; None is no deviation.
    """

    scale: float
    mean: tuple[float, ...]
    deviation: tuple[float, ...] | None = None

    def __str__(self) -> str:
        scale = "pixels" if self.scale == 1.0 else f"{Fraction(self.scale).limit_denominator(10**6)} * pixels"
        mean = "" if not any(self.mean) else f" - {self.mean[0] if len(self.mean) == 1 else list(self.mean)}"
        if self.deviation is None:
            return scale + mean
        deviation = self.deviation[0] if len(self.deviation) == 1 else list(self.deviation)
        return f"({scale + mean}) / {deviation}"

    def __call__(self, x: TensorLike, model: keras.Model) -> np.ndarray:
        """Images of any numeric dtype, [B, height, width, channels] or [B, height, width], as the model takes them."""
        try:
            x = keras.ops.convert_to_numpy(Classifier(model).inputs(np.asarray(x).astype("float32")))
        except ValueError as error:
            raise CommandError(str(error)) from error
        for name, values in (("mean", self.mean), ("deviation", self.deviation or (1.0,))):
            if len(values) not in (1, x.shape[-1]):
                raise CommandError(
                    f"--{name} must be one number, or one per channel: {len(values)} for {x.shape[-1]} channels."
                )
        x = x * x.dtype.type(self.scale) - np.array(self.mean, x.dtype)
        return x if self.deviation is None else x / np.array(self.deviation, x.dtype)


def require_within_bounds(x: TensorLike, bounds: tuple[float, ...] | None) -> None:
    """Refuse images, as they are in the data, that do not lie within `--bounds`.

    Example:
    >>> keras_amm.cli.pixels.require_within_bounds(np.array([[3, 254]]), (0.0, 255.0))
    """
    if bounds is None or not np.size(x):
        return
    low, high = (float(value) for value in (np.min(x), np.max(x)))
    rounding = ROUNDING * (bounds[1] - bounds[0])
    if low < bounds[0] - rounding or high > bounds[1] + rounding:
        raise CommandError(
            "All pixels must lie within --bounds, which is in the units of the data, before --scale and --mean: for "
            f"8-bit images --bounds=0,255. Received: --bounds={bounds[0]:g},{bounds[1]:g} and pixels from {low:g} to "
            f"{high:g}."
        )


def pixels_for(
    model: keras.Model,
    are_integers: bool,
    scale: float | None,
    mean: tuple[float, ...],
    deviation: tuple[float, ...] | None = None,
) -> Pixels:
    """The preprocessing of a model; without a scale, 1/255 for integers unless the model rescales or takes integers.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> print(keras_amm.cli.pixels.pixels_for(model, True, None, (0.5,)))
    1/255 * pixels - 0.5
    """
    if scale is None:
        takes_pixels = input_rescaling(model) or takes_integers(unwrapped(model))
        scale = 1.0 / 255.0 if are_integers and not takes_pixels else 1.0
    return Pixels(scale, mean, deviation)


def file_format(model: keras.Model, image_size: tuple[int, ...] | None) -> tuple[tuple[int, int], str]:
    """How to read image files for a model: (height, width), and "grayscale", "rgb" or "rgba".

    `image_size` is the (height, width) or (height, width, channels) that the user has asked for, None for the model's.
    Where neither the user nor the model says how many channels, there are 3.

    Example:
    >>> model = keras.Sequential([keras.Input((28, 28, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> keras_amm.cli.pixels.file_format(model, None)
    ((28, 28), 'grayscale')
    """
    shape = input_shape(model) or (None, None, None)
    # A model that takes images without an axis for channels takes grayscale ones.
    expected = shape if len(shape) == 3 else (*shape, 1)
    height, width, channels = (
        image_size if image_size and len(image_size) == 3 else (*(image_size or expected[:2]), None)
    )
    if len(expected) != 3 or expected[2] not in (*COLOUR_MODES, None):
        raise CommandError(
            f"The model takes inputs of shape {shape}, and image files have (height, width, channels), 1, 3 or 4 "
            "of them. Give the data as an .npz file."
        )
    if channels and expected[2] not in (channels, None):
        raise CommandError(f"The model takes images of {expected[2]} channels. Received: --image_size with {channels}.")
    if height is None or width is None:
        raise CommandError(
            "The model takes images of any size: say by --image_size=HEIGHT,WIDTH to which to resize them."
        )
    return (height, width), COLOUR_MODES[channels or expected[2] or 3]
