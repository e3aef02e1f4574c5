"""Whether a callback's entries in the logs come too late for the callbacks before it."""

import inspect
import warnings
from collections.abc import Sequence

import keras

_READERS = (
    keras.callbacks.CSVLogger,
    keras.callbacks.EarlyStopping,
    keras.callbacks.History,
    keras.callbacks.ModelCheckpoint,
    keras.callbacks.ReduceLROnPlateau,
    keras.callbacks.TensorBoard,
)


def warn_of_earlier_readers(callback: keras.callbacks.Callback, entries: Sequence[str]) -> None:
    """Warn of callbacks that read entries of the logs, and are called before the one that adds them.

    Args:
        callback: the one that adds them, while one of its methods is called by `fit`.
        entries: what it adds.

    Example:
    >>> keras_amm.monitoring.callback_order.warn_of_earlier_readers(keras.callbacks.Callback(), ["val_margin"])
    """
    for earlier in _callbacks_before(callback):
        if isinstance(earlier, _READERS) and _reads(earlier, entries):
            warnings.warn(
                f"{type(earlier).__name__} stands before {type(callback).__name__} in the list of callbacks, so it "
                f"will not see {entries[0]} in the logs: put {type(callback).__name__} first.",
                stacklevel=3,
            )


def _reads(reader: keras.callbacks.Callback, entries: Sequence[str]) -> bool:
    monitored = getattr(reader, "monitor", None)
    # Without one it reads everything.
    return monitored in (None, *entries) or any(f"{{{entry}" in getattr(reader, "filepath", "") for entry in entries)


def _callbacks_before(callback: keras.callbacks.Callback) -> list[keras.callbacks.Callback]:
    """The callbacks that are called earlier; none where that cannot be found out."""
    # Keras tells a callback of the model and of the parameters of fit, and the model knows its History alone: nothing
    # leads to the list of callbacks, which is a local variable of fit. But it is the list that calls.
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, keras.callbacks.CallbackList) and callback in caller.callbacks:
            return list(caller.callbacks[: caller.callbacks.index(callback)])
        frame = frame.f_back
    return []
