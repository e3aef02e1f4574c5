"""What the values of options are: each function turns a text into one, or refuses it in argparse's way."""

import argparse
from fractions import Fraction

import numpy as np

from keras_amm.cli.pixels import COLOUR_MODES


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def number(text: str) -> float:
    """A number, or a fraction such as 1/255, that float32 can hold."""
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise argparse.ArgumentTypeError(f"expected a number or a fraction such as 1/255, got {text!r}") from error
    if abs(value) > float(np.finfo("float32").max):
        raise argparse.ArgumentTypeError(f"expected a number that float32 can hold, got {text!r}")
    return value


def radius(text: str) -> float:
    """A number of at least 0."""
    value = number(text)
    if value < 0.0:
        raise argparse.ArgumentTypeError(f"expected a radius of at least 0, got {text!r}")
    return value


def numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(number(part) for part in text.split(","))


def size(text: str) -> tuple[int, ...]:
    """The size of images: height, width and perhaps the number of channels."""
    parts = tuple(positive(part) for part in text.split(","))
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] not in COLOUR_MODES):
        raise argparse.ArgumentTypeError(f"expected HEIGHT,WIDTH or HEIGHT,WIDTH,CHANNELS (1, 3 or 4), got {text!r}")
    return parts


def strings(text: str) -> list[str]:
    """Names with commas between them."""
    return [part.strip() for part in text.split(",")]
