"""What the scripts' command lines have in common."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags


def show_in_help(module: str) -> None:
    """Have `--help` of the script that runs show the flags that a module defined.

    Args:
        module: str, its `__name__`.
    """
    for flag in flags.FLAGS.get_flags_for_module(module):
        flags.FLAGS.register_key_flag_for_module(sys.argv[0], flag)


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
