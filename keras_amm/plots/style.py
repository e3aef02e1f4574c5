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
    """An empty figure of a size in inches, laid out so that nothing is clipped; an ImportError without matplotlib."""
    # Made without pyplot, which would keep the figure and choose a window system.
    try:
        import matplotlib.figure  # noqa: F401

        from keras_amm.plots.notebook_figure import NotebookFigure
    except ImportError as error:
        raise ImportError(
            "Plots need matplotlib, which is not installed: pip install matplotlib. "
            "All else of keras_amm works without it."
        ) from error
    return NotebookFigure(figsize=(width, height), layout="constrained")


def panels(axes: Any, number: int, width: float, height: float, *, share: bool = False) -> "list[Axes]":
    """`number` axes to draw into: those given, or, for None, a row of new ones of a size in inches each."""
    if axes is None:
        figure = new_figure(width * number, height)
        return list(figure.subplots(1, number, squeeze=False, sharex=share, sharey=share)[0])
    given = list(np.ravel(axes))
    if len(given) != number:
        raise ValueError(f"Expected {number} axes to draw into. Received: axes={axes!r}.")
    return given


def figure_of(axes: "Axes") -> "Figure":
    """The outermost figure that holds the axes."""
    # Axes of a subfigure know only the subfigure, whose own `figure` is the outermost one.
    figure: Figure = axes.figure.figure
    return figure


def class_name(index: Any, class_names: Sequence[str] | None) -> str:
    """The name of a class, or its index where there are no names; a ValueError where its name is missing."""
    if class_names is None:
        return str(int(index))
    if not 0 <= index < len(class_names):
        raise ValueError(
            f"Every class needs a name. Received: {len(class_names)} class_names, and class {int(index)} to be named."
        )
    return str(class_names[index])


def literal(name: Any) -> str:
    r"""A name as a text that matplotlib shows as it is, in titles, labels and legends.

    Example:
    >>> keras_amm.plots.style.literal("_lr$1$")
    ' _lr\\$1\\$'
    """
    # Matplotlib takes what stands between dollars for a formula, and leaves out of legends what begins with "_".
    text = str(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text
