"""Functions that may be given by their name, as Keras gives losses and activations."""

from collections.abc import Callable, Mapping
from typing import Any


def find(identifier: Any, built_in: Mapping[str, Callable[..., Any]], argument: str, signature: str) -> Any:
    """The function of a name, or a callable as it is.

    Args:
        identifier: a name or a callable.
        built_in: mapping of names to functions.
        argument: string, what the argument is called, for the message.
        signature: string, what a callable is to take, for the message.

    Returns:
        The function.

    Raises:
        ValueError: it is neither callable nor one of the names.

    Example:
    >>> keras_amm.identifiers.find("max", {"max": max, "min": min}, "order", "numbers") is max
    True
    """
    if callable(identifier):
        return identifier
    if isinstance(identifier, str) and identifier in built_in:
        return built_in[identifier]
    raise ValueError(
        f"`{argument}` must be one of {sorted(built_in)} or a callable of {signature}. "
        f"Received: {argument}={identifier!r}."
    )


def name_of(identifier: Any, built_in: Mapping[str, Callable[..., Any]]) -> Any:
    """The name of a built-in function; all else as it is.

    Args:
        identifier: a name or a callable.
        built_in: mapping of names to functions.

    Returns:
        The name, or `identifier` itself.

    Example:
    >>> keras_amm.identifiers.name_of(max, {"max": max})
    'max'
    """
    return next((name for name, function in built_in.items() if function is identifier), identifier)
