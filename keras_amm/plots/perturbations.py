"""Pictures of what an attack does to images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from keras_amm.plots.style import class_name, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROWS = ("image", "perturbation", "perturbed")


def perturbation_grid(
    images: Any,
    perturbations: Any,
    before: Any,
    after: Any,
    *,
    labels: Any = None,
    class_names: Sequence[str] | None = None,
    value_range: tuple[float, float] | None = None,
    columns: int = 8,
) -> "Figure":
    """Draw images, their perturbations and the perturbed images, with the classes.

    Perturbations share one scale, in which no change is white (grey in colour
    images). The margin, the norm of the perturbation, stands above each.

    Args:
        images: float array or tensor [n, height, width], or [n, height, width, c] with 1 or 3 channels.
        perturbations: float array or tensor of that shape.
        before: integer array or tensor [n], the classes predicted for the images.
        after: integer array or tensor [n], the classes predicted for the perturbed images.
        labels: integer array or tensor [n], the ground truth, shown where the prediction is wrong; None for none.
        class_names: sequence of strings, by class; None for indices.
        value_range: the values that are black and white; None for the range of the images.
        columns: int, how many images stand side by side.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: these are no images, or the arrays do not fit one another.

    Example:
    >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> x = np.random.rand(2, 4, 4, 1).astype("float32")
    >>> delta = keras_amm.DeepFool().perturb(model, x).delta
    >>> before, after = (np.argmax(model(images), axis=1) for images in (x, x + delta))
    >>> figure = keras_amm.plots.perturbation_grid(x, delta, before, after)
    >>> len(figure.axes)  # three of each, and the scale
    7
    """
    images, perturbations = _as_pictures(images), _as_pictures(perturbations)
    before, after = np.asarray(before), np.asarray(after)
    labels = before if labels is None else np.asarray(labels)
    if images.shape != perturbations.shape or not before.shape == after.shape == labels.shape == (len(images),):
        raise ValueError(
            "Each image needs a perturbation of its shape, and classes before and after. Received: images "
            f"{images.shape}, perturbations {perturbations.shape}, before {before.shape}, after {after.shape}, "
            f"labels {labels.shape}."
        )
    low, high = value_range or (float(np.min(images)), float(np.max(images)))
    largest = max(float(np.max(np.abs(perturbations))), 1e-12)
    columns = min(columns, len(images))
    blocks = -(-len(images) // columns)
    figure = new_figure(1.15 * columns + 1.4, 3.9 * blocks)
    grid = figure.subplots(3 * blocks, columns, squeeze=False)
    for panel in grid.flat:
        panel.set_axis_off()
    for i in range(len(images)):
        block, column = divmod(i, columns)
        image, delta = images[i], perturbations[i]
        panels = grid[3 * block : 3 * block + 3, column]
        truth = "" if labels[i] == before[i] else f"\n(label {class_name(labels[i], class_names)})"
        _show(panels[0], image, low, high, class_name(before[i], class_names) + truth)
        _show_change(panels[1], delta, largest, f"l2 {np.linalg.norm(delta):#.3g}")
        _show(panels[2], image + delta, low, high, class_name(after[i], class_names))
        if column == 0:
            for panel, name in zip(panels, _ROWS, strict=True):
                panel.text(-0.1, 0.5, name, transform=panel.transAxes, rotation=90, ha="right", va="center")
    _draw_scale(figure, grid, images.shape[-1] == 3, largest)
    return figure


def _as_pictures(x: Any) -> np.ndarray:
    """Float array [n, height, width, 1 or 3]."""
    x = np.asarray(x, dtype="float32")
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or not len(x) or x.shape[-1] not in (1, 3):
        raise ValueError(
            "Expected images [n, height, width], or [n, height, width, c] with 1 or 3 channels. "
            f"Received: shape {x.shape}."
        )
    return x


def _show(panel: "Axes", image: np.ndarray, low: float, high: float, title: str) -> None:
    scaled = np.clip((image - low) / max(high - low, 1e-12), 0.0, 1.0)
    panel.imshow(scaled if image.shape[-1] == 3 else scaled[..., 0], cmap="gray", vmin=0.0, vmax=1.0)
    panel.set_title(title, fontsize=10)


def _show_change(panel: "Axes", delta: np.ndarray, largest: float, title: str) -> None:
    if delta.shape[-1] == 3:
        panel.imshow(0.5 + 0.5 * delta / largest)
    else:
        panel.imshow(delta[..., 0], cmap="RdBu_r", vmin=-largest, vmax=largest)
    panel.set_title(title, fontsize=10)


def _draw_scale(figure: "Figure", grid: Any, in_colour: bool, largest: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-largest, largest), cmap="gray" if in_colour else "RdBu_r")
    figure.colorbar(
        scale, ax=grid, shrink=0.6, aspect=30, label="perturbation of a " + ("channel" if in_colour else "pixel")
    )
