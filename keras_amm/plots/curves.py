"""Pictures of training: a metric over the epochs, with the spread over seeds."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_amm.plots.style import COLORS, LINE_STYLES, figure_of, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training_curves(
    runs: Mapping[str, Any], metric: str = "val_accuracy", axes: "Axes | None" = None, *, label: str | None = None
) -> "Figure":
    """Draw a metric over the epochs, for runs that may have been repeated over seeds.

    Of several seeds the line is the mean and the band goes from the smallest to
    the largest value. They are drawn as far as the shortest of them goes.

    Args:
        runs: a mapping from names to histories, one or, for several seeds, a
            sequence. A history is what `fit` returns, its `history`, or the
            rows of a `CSVLogger`, one mapping per epoch.
        metric: string, the entry of the histories to draw.
        axes: matplotlib axes; None for a new figure.
        label: what the metric is called in the picture; None for its name.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: there are no runs, or a history lacks the metric or is empty.

    Example:
    >>> runs = {"reference": [{"loss": [0.9, 0.5]}, {"loss": [0.7, 0.3]}], "AMM": {"loss": [0.8, 0.4]}}
    >>> figure = keras_amm.plots.training_curves(runs, "loss")
    >>> [f"{value:.1f}" for value in figure.axes[0].lines[0].get_ydata()]
    ['0.8', '0.4']

    Reference: Figures 2 and 3 of the paper.
    """
    if not runs:
        raise ValueError("Expected the history of one run or more. Received: none.")
    (panel,) = panels(axes, 1, 5.0, 3.8)
    from matplotlib.ticker import MaxNLocator

    for i, (name, histories) in enumerate(runs.items()):
        values = _values(histories, metric, name)
        epochs = np.arange(1, values.shape[1] + 1)
        color, seeds = COLORS[i % len(COLORS)], len(values)
        panel.plot(
            epochs,
            np.mean(values, axis=0),
            color=color,
            linestyle=LINE_STYLES[i % len(LINE_STYLES)],
            linewidth=1.8,
            marker="o" if values.shape[1] == 1 else None,
            label=name if seeds == 1 else f"{name}, {seeds} seeds",
        )
        if seeds > 1:
            panel.fill_between(
                epochs, np.min(values, axis=0), np.max(values, axis=0), color=color, alpha=0.25, linewidth=0.0
            )
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylabel(label or metric)
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    return figure_of(panel)


def _values(histories: Any, metric: str, name: str) -> np.ndarray:
    """The metric [seeds, epochs] of the seeds of a run."""
    curves = [_curve(history, metric, name) for history in _seeds(histories)]
    length = min((len(curve) for curve in curves), default=0)
    if not length:
        raise ValueError(f"There is nothing to draw of run {name!r}. Received: an empty history.")
    return np.array([curve[:length] for curve in curves], dtype="float64")


def _seeds(histories: Any) -> list[Any]:
    if isinstance(histories, Mapping) or hasattr(histories, "history"):
        return [histories]
    # Rows of one run are mappings from names to single values.
    if histories and all(_is_row(part) for part in histories):
        return [histories]
    return list(histories)


def _is_row(part: Any) -> bool:
    return isinstance(part, Mapping) and all(np.ndim(value) == 0 for value in part.values())


def _curve(history: Any, metric: str, name: str) -> Sequence[float]:
    history = getattr(history, "history", history)
    known = history if isinstance(history, Mapping) else (history[0] if history else {metric: None})
    if metric not in known:
        raise ValueError(f"Run {name!r} has no metric {metric!r}. Received: a history of {sorted(known)}.")
    return history[metric] if isinstance(history, Mapping) else [float(row[metric]) for row in history]
