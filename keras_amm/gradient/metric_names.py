"""What `fit` calls the metrics of the margin: never as the classifier's are called, nor by a wrong name."""

from collections.abc import Container, Sequence
from typing import Any

import keras

from keras_amm.network.structures import given_entries

_PREFIX = "amm_"
_CLASSES = (
    keras.losses.BinaryCrossentropy,
    keras.losses.CategoricalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
)
_FUNCTIONS = (
    keras.losses.binary_crossentropy,
    keras.losses.categorical_crossentropy,
    keras.losses.sparse_categorical_crossentropy,
)


def metric_names(loss: Any, taken: Container[str], optional: Sequence[str] = ()) -> list[str]:
    """The names of the `margin_metrics`, given the compiled loss and the names that the classifier's metrics have.

    The names of those that only some regularizers have come last.

    Example:
    >>> keras_amm.gradient.metric_names.metric_names("categorical_hinge", taken={"margin"})
    ['classification_loss', 'margin_penalty', 'amm_margin', 'attack_success']
    """
    names = ["cross_entropy" if is_cross_entropy(loss) else "classification_loss"]
    names += ["margin_penalty", "margin", "attack_success", *optional]
    return [_free(name, taken) for name in names]


def is_cross_entropy(loss: Any) -> bool:
    """Whether what `compile` takes as a loss is a cross-entropy: by name, class or function, alone or as one entry."""
    if isinstance(loss, (dict, list, tuple)):
        parts = given_entries(loss)
        return len(parts) == 1 and is_cross_entropy(parts[0])
    if isinstance(loss, str):
        # Keras chooses among its cross-entropies by these two.
        return loss.lower() in ("crossentropy", "ce") or is_cross_entropy(_of_name(loss))
    # Keras wraps functions that are compiled or loaded.
    return isinstance(loss, _CLASSES) or any(function in (loss, getattr(loss, "fn", None)) for function in _FUNCTIONS)


def _of_name(name: str) -> Any:
    try:
        return keras.losses.get(name)
    except ValueError:
        # It is refused when it is first needed.
        return None


def _free(name: str, taken: Container[str]) -> str:
    while name in taken:
        name = _PREFIX + name
    return name
