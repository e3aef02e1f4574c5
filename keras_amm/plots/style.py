"""What the pictures share: panels to draw into, colours, and names."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Distinct to the colour-blind and in print: Petroff, "Accessible color sequences
# for data visualization" (2021), matplotlib's "petroff10".
COLORS = (
    "#3f90da",
    "#ffa90e",
    "#bd1f01",
    "#94a4a2",
    "#832db6",
    "#a96b59",
    "#e76300",
    "#b9ac70",
    "#717581",
    "#92dadd",
)
MARKERS = "osD^vPX*<>"
LINE_STYLES = ("-", "--", "-.", ":")


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, laid out so that nothing is clipped.

    Args:
        width: float, in inches.
        height: float, in inches.

    Returns:
        The matplotlib figure, unknown to pyplot, which would keep it and pick a window system.

    Raises:
        ImportError: matplotlib is not installed.

    Example:
    >>> keras_amm.plots.style.new_figure(4.0, 3.0).axes
    []
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed: pip install keras-amm[plots]. "
            "All else of keras_amm works without it."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def panels(axes: Any, number: int, width: float, height: float, *, share: bool = False) -> "list[Axes]":
    """The axes to draw into: those given, or a row of new ones.

    Args:
        axes: matplotlib axes, or a sequence or array of them; None for a new figure.
        number: int, how many are needed.
        width: float, the width of a new panel in inches.
        height: float, its height in inches.
        share: bool, whether new panels have the same scales.

    Returns:
        A list of `number` axes.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: the given axes are not as many as needed.

    Example:
    >>> len(keras_amm.plots.style.panels(None, 2, 4.0, 3.0))
    2
    """
    if axes is None:
        figure = new_figure(width * number, height)
        return list(figure.subplots(1, number, squeeze=False, sharex=share, sharey=share)[0])
    given = list(np.ravel(axes))
    if len(given) != number:
        raise ValueError(f"Expected {number} axes to draw into. Received: axes={axes!r}.")
    return given


def figure_of(axes: "Axes") -> "Figure":
    """The figure that holds the axes.

    Args:
        axes: matplotlib axes.

    Returns:
        The outermost matplotlib figure.

    Example:
    >>> figure = keras_amm.plots.style.new_figure(4.0, 3.0)
    >>> keras_amm.plots.style.figure_of(figure.subplots()) is figure
    True
    """
    # Axes of a subfigure know only that; its `figure` is the outermost one.
    figure: Figure = axes.figure.figure
    return figure


def class_name(index: Any, class_names: Sequence[str] | None) -> str:
    """What to call a class: its name, or its index where there are no names.

    Args:
        index: int, the class.
        class_names: sequence of strings, by class; None for none.

    Returns:
        A string.

    Raises:
        ValueError: the class has no name.

    Example:
    >>> keras_amm.plots.style.class_name(1, ["cat", "dog"])
    'dog'
    """
    if class_names is None:
        return str(int(index))
    if not 0 <= index < len(class_names):
        raise ValueError(
            f"Every class needs a name. Received: {len(class_names)} class_names, and class {int(index)} to be named."
        )
    return str(class_names[index])


def literal(name: Any) -> str:
    r"""A name as a text that matplotlib shows as it is, in titles, labels and legends.

    Args:
        name: anything, such as a model's name.

    Returns:
        A string.

    Example:
    >>> keras_amm.plots.style.literal("_lr$1$")
    ' _lr\\$1\\$'
    """
    # Between dollars it would be a formula, and legends leave out what begins with an underscore.
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
