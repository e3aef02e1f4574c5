"""Pictures of training: a metric over the epochs, with the spread over seeds."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_amm.arguments import require_whole
from keras_amm.plots.histories import values_by_epoch
from keras_amm.plots.style import COLORS, LINE_STYLES, figure_of, literal, panels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def training_curves(
    runs: Mapping[str, Any],
    metric: str = "val_accuracy",
    axes: "Axes | None" = None,
    *,
    label: str | None = None,
    validation_freq: int | None = None,
    colors: Mapping[str, Any] | None = None,
) -> "Figure":
    """Draw a metric over the epochs, for runs that may have been repeated over seeds.

    Of several seeds the line is the mean and the band goes from the smallest to
    the largest value. They are drawn where all of them have a value.

    Args:
        runs: a mapping from names to histories, one or, for several seeds, an
            iterable. A history is what `fit` returns, its `history`, or an
            iterable of the rows of a `CSVLogger`, one mapping per epoch;
            epochs without a value are left out.
        metric: string, the entry of the histories to draw.
        axes: matplotlib axes; None for a new figure.
        label: what the metric is called in the picture, also in mathtext; None for its name.
        validation_freq: int, as it was given to `fit`, for a metric that has
            fewer values than there were epochs. None infers it: of several that
            fit, the one by which the last epoch was validated. Rows need none, they hold the epochs.
        colors: a mapping from names to matplotlib colours, so that a run looks alike in several figures; None, or
            a name that is missing, for colours by the order of the runs.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: `runs` is no mapping from names to histories.
        ValueError: there are no runs, a history lacks the metric, is empty or
            does not tell which epochs its values are of, or seeds have no epoch in common.

    Example:
    >>> runs = {"reference": [{"loss": [0.9, 0.5]}, {"loss": [0.7, 0.3]}], "AMM": {"loss": [0.8, 0.4]}}
    >>> figure = keras_amm.plots.training_curves(runs, "loss")
    >>> [f"{value:.1f}" for value in figure.axes[0].lines[0].get_ydata()]
    ['0.8', '0.4']

    Reference: Figures 2 and 3 of the paper.
    """
    if not isinstance(runs, Mapping):
        raise TypeError(
            "Expected a mapping from names to histories, such as {'AMM': history}. "
            f"Received: runs of type {type(runs).__name__}."
        )
    if not runs:
        raise ValueError("Expected the history of one run or more. Received: none.")
    if validation_freq is not None:
        require_whole("validation_freq", validation_freq, 1)
    tables = {name: _table(values_by_epoch(runs[name], metric, name, validation_freq), name) for name in runs}
    (panel,) = panels(axes, 1, 5.0, 3.8)
    from matplotlib.ticker import MaxNLocator

    for i, (name, (epochs, values)) in enumerate(tables.items()):
        color, seeds = (colors or {}).get(name, COLORS[i % len(COLORS)]), len(values)
        panel.plot(
            epochs,
            np.mean(values, axis=0),
            color=color,
            linestyle=LINE_STYLES[i % len(LINE_STYLES)],
            linewidth=1.8,
            marker="o" if len(epochs) == 1 else None,
            label=literal(name if seeds == 1 else f"{name}, {seeds} seeds"),
        )
        if seeds > 1:
            panel.fill_between(
                epochs, np.min(values, axis=0), np.max(values, axis=0), color=color, alpha=0.25, linewidth=0.0
            )
    panel.set_xlabel("epoch")
    panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    panel.set_ylabel(label or literal(metric))
    panel.grid(alpha=0.3)
    panel.legend(frameon=False)
    return figure_of(panel)


def _table(seeds: list[dict[int, float]], name: str) -> tuple[list[int], np.ndarray]:
    """The epochs that all seeds have, and their values [seeds, epochs]."""
    epochs = sorted(set.intersection(*map(set, seeds)))
    if not epochs:
        raise ValueError(f"There is nothing to draw of run {name!r}. Received: seeds that have no epoch in common.")
    return epochs, np.array([[values[epoch] for epoch in epochs] for values in seeds], dtype="float64")
