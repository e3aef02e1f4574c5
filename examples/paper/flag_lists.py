"""Lists on the command line."""

from collections.abc import Callable, Sequence
from typing import Any


def numbers(flag: str, texts: Sequence[Any], kind: Callable[[Any], Any]) -> list[Any]:
    """A flag's list as numbers.

    Args:
        flag: str, its name.
        texts: sequence of str, or of numbers already.
        kind: `int` or `float`.

    Returns:
        The numbers.

    Raises:
        ValueError: one is not a number of this kind.
    """
    try:
        return [kind(text) for text in texts]
    except ValueError as error:
        expected = "integers" if kind is int else "numbers"
        raise ValueError(f"Expected {expected} in --{flag}. Received: {','.join(map(str, texts))}.") from error
