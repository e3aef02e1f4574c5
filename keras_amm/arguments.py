"""Checks of arguments that are plain numbers, where they are given."""

import math
import numbers
from collections.abc import Callable
from typing import Any


def require_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is not a whole number, or too small a one.

    Args:
        name: string, what the argument is called.
        value: what was given: an int, also of NumPy, but not a bool.
        least: int, the smallest that is allowed.

    Raises:
        ValueError: the value is none of these.

    Example:
    >>> keras_amm.arguments.require_whole("batch_size", 0, least=1)
    Traceback (most recent call last):
    ValueError: `batch_size` must be a whole number of at least 1. Received: batch_size=0.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}.")


def require_real(name: str, value: Any, holds: Callable[[Any], bool], expected: str) -> None:
    """Refuse what is not a finite number, or one outside of its range.

    Args:
        name: string, what the argument is called.
        value: what was given.
        holds: whether a number is in the range.
        expected: string, the range in words.

    Raises:
        ValueError: the value is none of these.

    Example:
    >>> keras_amm.arguments.require_real("overshoot", -0.1, lambda v: v >= 0, "at least 0")
    Traceback (most recent call last):
    ValueError: `overshoot` must be finite and at least 0. Received: overshoot=-0.1.
    """
    if not isinstance(value, numbers.Real) or not math.isfinite(value) or not holds(value):
        raise ValueError(f"`{name}` must be finite and {expected}. Received: {name}={value!r}.")
