"""Arguments that the public classes take: checked, found by their name, turned into what can be saved."""

import math
import numbers
from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar

import keras

_InstanceT = TypeVar("_InstanceT")


def require_whole(name: str, value: Any, least: int) -> None:
    """Refuse what is not a whole number, or is less than `least`. NumPy's integers are whole numbers, a bool is not.

    Example:
    >>> keras_amm.arguments.require_whole("batch_size", 0, least=1)
    Traceback (most recent call last):
    ValueError: `batch_size` must be a whole number of at least 1. Received: batch_size=0.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"`{name}` must be a whole number of at least {least}. Received: {name}={value!r}.")


def require_real(name: str, value: Any, holds: Callable[[Any], bool], expected: str) -> None:
    """Refuse a bool, what is not a finite number, and what is outside the range that `holds` tests, `expected` words.

    Example:
    >>> keras_amm.arguments.require_real("overshoot", -0.1, lambda v: v >= 0, "at least 0")
    Traceback (most recent call last):
    ValueError: `overshoot` must be finite and at least 0. Received: overshoot=-0.1.
    """
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not holds(value):
        raise ValueError(f"`{name}` must be finite and {expected}. Received: {name}={value!r}.")


def instance_or_default(name: str, value: _InstanceT | None, kind: type[_InstanceT]) -> _InstanceT:
    """The value, or a new `kind()` for None.

    Raises:
        TypeError: it is of another type.
    """
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise TypeError(f"`{name}` must be a keras_amm.{kind.__name__} or None. Received: {name}={value!r}.")
    return value


class _Entry(Protocol):
    """One of several functions that an argument may name."""

    @property
    def identifier(self) -> Any:
        """The name of a built-in function, or a user's callable itself."""

    @property
    def function(self) -> Callable[..., Any]:
        """The function."""


_EntryT = TypeVar("_EntryT", bound=_Entry)


def find_entry(
    argument: str,
    identifier: Any,
    built_in: Iterable[_EntryT],
    of_callable: Callable[[Callable[..., Any]], _EntryT],
    signature: str,
) -> _EntryT:
    """The built-in entry of a name or of its function, or what `of_callable` makes of a user's callable.

    Raises:
        ValueError: it is neither callable nor one of the names; says the `argument` and its `signature`.
    """
    for entry in built_in:
        if identifier is entry.function or (isinstance(identifier, str) and identifier == entry.identifier):
            return entry
    if callable(identifier):
        return of_callable(identifier)
    raise ValueError(
        f"`{argument}` must be one of {sorted(entry.identifier for entry in built_in)} or a callable of {signature}. "
        f"Received: {argument}={identifier!r}."
    )


def serialize_function(argument: str, identifier: str | Callable[..., Any]) -> Any:
    """A name as it is, a registered callable as Keras saves it.

    Raises:
        ValueError: the callable is not registered with Keras, so that a saved model could not be loaded.
    """
    if isinstance(identifier, str):
        return identifier
    if not hasattr(identifier, "__name__") or not _is_registered(identifier):
        raise ValueError(
            f"A custom {argument} can be saved only if it is registered: decorate it with "
            f"@keras.saving.register_keras_serializable(package=...). Received: {argument}={identifier!r}."
        )
    return keras.saving.serialize_keras_object(identifier)


def serialize_schedule(argument: str, schedule: keras.optimizers.schedules.LearningRateSchedule) -> Any:
    """A schedule as Keras saves it.

    Raises:
        ValueError: its class is neither Keras's nor registered with it.
    """
    kind = type(schedule)
    if kind.__module__.partition(".")[0] != "keras" and not _is_registered(kind):
        raise ValueError(
            "A custom schedule can be saved only if its class is registered: decorate it with "
            f"@keras.saving.register_keras_serializable(package=...). Received: {argument}={schedule!r}."
        )
    return keras.saving.serialize_keras_object(schedule)


def _is_registered(part: Any) -> bool:
    """Whether Keras finds a function or class by its registered name."""
    return keras.saving.get_registered_object(keras.saving.get_registered_name(part)) is part
