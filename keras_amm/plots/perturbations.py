"""Pictures of what an attack does to images."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from keras_amm.arguments import require_whole
from keras_amm.plots.style import class_name, literal, new_figure
from keras_amm.search.norms import NORMS, require_norm
from keras_amm.typing import TensorLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROWS = ("image", "perturbation", "perturbed")
# The size in inches of one image with what stands above it.
_WIDTH, _HEIGHT = 1.15, 1.3
# The characters in a line above an image, and the size of the letters in points.
_LINE, _FONT_SIZE = 18, 10.0


def perturbation_grid(
    images: TensorLike,
    perturbations: TensorLike,
    before: TensorLike,
    after: TensorLike,
    *,
    labels: TensorLike | None = None,
    class_names: Sequence[str] | None = None,
    value_range: tuple[float, float] | None = None,
    columns: int = 8,
    norm: str = "l2",
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
        norm: `"l2"` or `"linf"`, the norm of the perturbations that is shown: that of their attack.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        ValueError: these are no images, the arrays do not fit one another, `columns` is not positive, or the norm
            is not known.

    Example:
    >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> x = np.random.rand(2, 4, 4, 1).astype("float32")
    >>> delta = keras_amm.DeepFool().perturb(model, x).delta
    >>> before, after = (np.argmax(model(images), axis=1) for images in (x, x + delta))
    >>> figure = keras_amm.plots.perturbation_grid(x, delta, before, after)
    >>> len(figure.axes)  # three of each, and the scale
    7
    """
    require_whole("columns", columns, 1)
    require_norm(norm)
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
    norms = [f"{norm} {size:#.3g}" for size in NORMS[norm].of(tf.constant(perturbations)).numpy()]
    titles = _titles(before, after, labels, norms, class_names)
    size, lines = _font_size(titles), max(title.count("\n") for title in np.ravel(titles)) + 1
    # Lines are 1.2 times as high as the letters, whose size is in points, 72 to an inch.
    figure = new_figure(_WIDTH * columns + 1.4, (3 * _HEIGHT + (lines - 1) * size / 60) * blocks)
    grid = figure.subplots(3 * blocks, columns, squeeze=False)
    for panel in grid.flat:
        panel.set_axis_off()
    for i, (image, delta) in enumerate(zip(images, perturbations, strict=True)):
        block, column = divmod(i, columns)
        panels = grid[3 * block : 3 * block + 3, column]
        _show(panels[0], image, low, high)
        _show_change(panels[1], delta, largest)
        _show(panels[2], image + delta, low, high)
        for panel, title in zip(panels, titles[i], strict=True):
            panel.set_title(title, fontsize=size)
        if column == 0:
            for panel, name in zip(panels, _ROWS, strict=True):
                panel.text(-0.1, 0.5, name, transform=panel.transAxes, rotation=90, ha="right", va="center")
    _draw_scale(figure, grid, images.shape[-1] == 3, largest)
    return figure


def _as_pictures(x: TensorLike) -> np.ndarray:
    """Float array [n, height, width, 1 or 3]."""
    x = np.asarray(x, dtype="float32")
    x = x[..., None] if x.ndim == 3 else x
    if x.ndim != 4 or not len(x) or x.shape[-1] not in (1, 3):
        raise ValueError(
            "Expected images [n, height, width], or [n, height, width, c] with 1 or 3 channels. "
            f"Received: shape {x.shape}."
        )
    return x


def _titles(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, norms: Sequence[str], names: Sequence[str] | None
) -> list[tuple[str, str, str]]:
    """What stands above each image, its perturbation and the perturbed image."""
    titles = []
    for start, end, label, norm in zip(before, after, labels, norms, strict=True):
        truth = [] if label == start else [f"(label {class_name(label, names)})"]
        titles.append(
            (
                _wrapped(class_name(start, names), *truth),
                norm,
                _wrapped(class_name(end, names)),
            )
        )
    return titles


def _wrapped(*parts: str) -> str:
    return "\n".join(literal(line) for part in parts for line in textwrap.wrap(part, _LINE))


def _font_size(titles: list[tuple[str, str, str]]) -> float:
    """The size in which the widest line fits above its image, with room for the next."""
    from matplotlib.textpath import TextPath

    lines = {line for parts in titles for part in parts for line in part.splitlines()}
    widest = max(TextPath((0.0, 0.0), line, size=_FONT_SIZE).get_extents().width for line in lines)
    return _FONT_SIZE * min(1.0, 0.85 * 72 * _WIDTH / widest)


def _show(panel: "Axes", image: np.ndarray, low: float, high: float) -> None:
    scaled = np.clip((image - low) / max(high - low, 1e-12), 0.0, 1.0)
    panel.imshow(scaled if image.shape[-1] == 3 else scaled[..., 0], cmap="gray", vmin=0.0, vmax=1.0)


def _show_change(panel: "Axes", delta: np.ndarray, largest: float) -> None:
    if delta.shape[-1] == 3:
        panel.imshow(0.5 + 0.5 * delta / largest)
    else:
        panel.imshow(delta[..., 0], cmap="RdBu_r", vmin=-largest, vmax=largest)


def _draw_scale(figure: "Figure", grid: Any, in_colour: bool, largest: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    scale = ScalarMappable(Normalize(-largest, largest), cmap="gray" if in_colour else "RdBu_r")
    figure.colorbar(
        scale, ax=grid, shrink=0.6, aspect=30, label="perturbation of a " + ("channel" if in_colour else "pixel")
    )
