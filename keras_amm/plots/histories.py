"""Histories of trainings in any of their forms, as the values of a metric by epoch."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# What `CSVLogger` writes for an epoch without a value, and what spreadsheets leave there.
_MISSING = ("NA", "")


def values_by_epoch(
    histories: Any, metric: str, name: str, validation_freq: int | None = None
) -> list[dict[int, float]]:
    """The values of a metric, of one training or of several: for each, a dictionary from epochs, counted from 1.

    Args:
        histories: a history, or an iterable of them. A history is what `fit`
            returns, its `history`, or an iterable of the rows of a `CSVLogger`,
            one mapping per epoch. Of two rows for one epoch the later one counts.
        metric: string, the entry of the histories.
        name: string, what the run is called in messages.
        validation_freq: int, how many epochs lie between two values; None infers it if there are fewer values
            than epochs.

    Example:
    >>> rows = [{"epoch": "0", "val_loss": "NA"}, {"epoch": "1", "val_loss": "0.5"}]
    >>> keras_amm.plots.histories.values_by_epoch(rows, "val_loss", "AMM")
    [{2: 0.5}]
    """
    return [_values(history, metric, name, validation_freq) for history in _seeds(histories, name)]


def _seeds(histories: Any, name: str) -> list[Any]:
    if isinstance(histories, Mapping) or hasattr(histories, "history"):
        return [histories]
    parts = _listed(histories, name)
    # The rows of one run are mappings from names to single values, those of `history` to lists.
    return [parts] if all(_is_row(part) for part in parts) else parts


def _values(history: Any, metric: str, name: str, validation_freq: int | None) -> dict[int, float]:
    table = getattr(history, "history", history)
    if isinstance(table, Mapping) and not _is_row(table):
        values = _of_columns(table, getattr(history, "epoch", []), metric, name, validation_freq)
    else:
        values = _of_rows([table] if isinstance(table, Mapping) else _listed(table, name), metric, name)
    if not values:
        raise ValueError(f"There is nothing to draw of run {name!r}. Received: an empty history.")
    return values


def _is_row(part: Any) -> bool:
    return isinstance(part, Mapping) and all(np.ndim(value) == 0 for value in part.values())


def _listed(parts: Any, name: str) -> list[Any]:
    if isinstance(parts, (str, bytes)) or not isinstance(parts, Iterable):
        raise _no_history(parts, name)
    return [*parts]


def _no_history(part: Any, name: str) -> TypeError:
    return TypeError(
        f"Run {name!r} needs a history, or an iterable of them, one per seed: what fit returns, its `history`, or the "
        f"rows of a CSVLogger as mappings. Received: {part!r} of type {type(part).__name__}."
    )


def _of_columns(
    table: Mapping[str, Any], trained: list[int], metric: str, name: str, validation_freq: int | None
) -> dict[int, float]:
    _require_metric(metric, table, name)
    columns = {key: np.atleast_1d(values) for key, values in table.items()}
    values, number = columns[metric].tolist(), max(map(len, columns.values()))
    # If `fit` was called several times, `History` holds the values of all calls, but the epochs of the last only.
    epochs = [epoch + 1 for epoch in trained] if len(trained) == number else [*range(1, number + 1)]
    if 0 < len(values) < number:
        epochs = _logged_epochs(epochs, len(values), metric, name, validation_freq)
    return dict(zip(epochs, values, strict=False))


def _of_rows(rows: list[Any], metric: str, name: str) -> dict[int, float]:
    for row in rows:
        if not isinstance(row, Mapping):
            raise _no_history(row, name)
    if rows:
        _require_metric(metric, {key for row in rows for key in row}, name)
    cells = [(row.get("epoch", position), row.get(metric)) for position, row in enumerate(rows)]
    return {
        int(float(epoch)) + 1: float(cell) for epoch, cell in cells if cell is not None and str(cell) not in _MISSING
    }


def _require_metric(metric: str, known: Iterable[str], name: str) -> None:
    if metric not in known:
        raise ValueError(f"Run {name!r} has no metric {metric!r}. Received: a history of {sorted(known)}.")


def _logged_epochs(epochs: list[int], number: int, metric: str, name: str, validation_freq: int | None) -> list[int]:
    """The epochs of a series of fewer values than epochs, which Keras does not record."""
    freqs = range(1, epochs[-1] + 1) if validation_freq is None else [validation_freq]
    fitting = {found for freq in freqs if len(found := tuple(e for e in epochs if e % freq == 0)) == number}
    if len(fitting) > 1:
        # Whoever chooses a frequency is likely to choose one by which the final network is validated.
        fitting = {found for found in fitting if epochs[-1] in found}
    if len(fitting) != 1:
        raise ValueError(
            f"Run {name!r} has {number} values of {metric!r} in {len(epochs)} epochs, and it cannot be told which "
            "epochs they are of. Pass `validation_freq` as it was given to fit, or the rows of a CSVLogger, which "
            f"hold the epochs. Received: validation_freq={validation_freq}."
        )
    return [*fitting.pop()]
