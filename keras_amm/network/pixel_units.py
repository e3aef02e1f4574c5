"""Pixel units: images that were divided by a deviation, multiplied by it again.

The mean that was subtracted before does not matter: it changes no difference of two images.
"""

import math
import numbers
from collections.abc import Iterable
from typing import Any, TypeAlias

import tensorflow as tf

from keras_amm.typing import Tensor

# One number, or one per channel in a list, as JSON has it.
Deviation: TypeAlias = float | list[float]


def as_deviation(value: Any) -> Deviation | None:
    """A deviation as `get_config` returns it; a ValueError for what is no positive number, and no sequence of such.

    Example:
    >>> keras_amm.network.pixel_units.as_deviation((0.247, 0.243, 0.262))
    [0.247, 0.243, 0.262]
    """
    if value is None or _is_positive(value):
        return None if value is None else float(value)
    per_channel = [*value] if isinstance(value, Iterable) else []
    if not per_channel or not all(map(_is_positive, per_channel)):
        raise ValueError(
            "`deviation` must be a positive number, or a sequence of one per channel, by which the images were "
            f"divided, or None. Received: deviation={value!r}."
        )
    return [float(each) for each in per_channel] if len(per_channel) > 1 else float(per_channel[0])


def _is_positive(value: Any) -> bool:
    return isinstance(value, numbers.Real) and math.isfinite(value) and float(value) > 0.0


def to_pixel_units(x: Tensor, deviation: Deviation | None) -> Tensor:
    """Images [..., channels] or their differences, times the deviation; a ValueError if it is not one per channel."""
    if deviation is None:
        return x
    if isinstance(deviation, list) and x.shape[-1] not in (None, len(deviation)):
        raise ValueError(
            "`deviation` must be one number, or one per channel, which is the last axis of the images. "
            f"Received: {len(deviation)} numbers, and images of shape {tuple(x.shape)}."
        )
    return x * tf.constant(deviation, x.dtype)


def from_pixel_units(x: Tensor, deviation: Deviation | None) -> Tensor:
    """Images [..., channels] or their differences, divided by the deviation."""
    return x if deviation is None else x / tf.constant(deviation, x.dtype)
