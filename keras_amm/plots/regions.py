"""Pictures of decision regions: of a plane, or of a plane through an image."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from keras_amm.arguments import require_whole
from keras_amm.attack import Attack
from keras_amm.deepfool import DeepFool
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import images_for, own_attack
from keras_amm.network.pixel_units import to_pixel_units
from keras_amm.plots.style import COLORS, MARKERS, class_name, figure_of, literal, panels
from keras_amm.typing import TensorLike

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def decision_regions(
    model: keras.Model,
    x: TensorLike | None = None,
    y: TensorLike | None = None,
    *,
    limits: tuple[tuple[float, float], tuple[float, float]] | None = None,
    axes: "Axes | None" = None,
    class_names: Sequence[str] | None = None,
    resolution: int = 201,
    batch_size: int = 4096,
    legend: bool = True,
) -> "Figure":
    """Draw which class a classifier of points in the plane gives to each of them.

    Args:
        model: single-input `keras.Model` classifier, or `AMMModel`, of inputs [B, 2].
        x: float array or tensor [n, 2], points to draw; None for none.
        y: integer array or tensor [n], their classes; required with `x`.
        limits: ((left, right), (bottom, top)); None for the points with some room around them.
        axes: matplotlib axes; None for a new figure.
        class_names: sequence of strings, by class; None for indices.
        resolution: int, in how many places per axis the model is asked.
        batch_size: int, in how many at a time.
        legend: bool, whether to name the classes beside the picture.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the model is not a Keras model.
        ValueError: the model is no classifier of the plane, there are neither
            points nor limits or points without classes, or a number is out of its range.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> figure = keras_amm.plots.decision_regions(model, np.random.rand(9, 2), np.arange(9) % 3)
    >>> len(figure.axes)
    1

    Reference: Figure 1 of the paper.
    """
    require_whole("resolution", resolution, 2)
    require_whole("batch_size", batch_size, 1)
    classifier = Classifier(model)
    points, classes = _points(x, y)
    if limits is None:
        limits = _around(points)
    across, up = (np.linspace(*ends, resolution) for ends in limits)
    plane = np.stack(np.meshgrid(across, up), axis=-1).reshape(-1, 2)
    logits = _logits(classifier, plane, batch_size).reshape(resolution, resolution, -1)
    (panel,) = panels(axes, 1, 5.6, 4.0)
    colors = _colors(logits, classes)
    _paint(panel, across, up, logits, colors)
    for k in np.unique(classes):
        chosen = points[classes == k]
        panel.scatter(
            chosen[:, 0],
            chosen[:, 1],
            color=colors[k],
            marker=MARKERS[k % len(MARKERS)],
            s=14,
            edgecolors="black",
            linewidths=0.3,
        )
    panel.set(xlim=limits[0], ylim=limits[1], xlabel="$x_1$", ylabel="$x_2$")
    if legend:
        _add_legend(panel, colors, set(classes.tolist()), class_names, [])
    return figure_of(panel)


def boundary_cross_section(
    model: keras.Model,
    image: TensorLike,
    perturbation: TensorLike | None = None,
    *,
    axes: "Axes | None" = None,
    class_names: Sequence[str] | None = None,
    reach: float | None = None,
    resolution: int = 101,
    batch_size: int = 256,
    seed: int = 0,
    attack: Attack | None = None,
) -> "Figure":
    """Draw the decision regions around an image, in one plane through it.

    The plane holds the perturbation and a random direction orthogonal to it. The
    circle has the perturbation's l2 norm for its radius: where a boundary enters
    it, there is a nearer one in this norm than the perturbation has found.

    Args:
        model: single-input `keras.Model` classifier, or `AMMModel`.
        image: float array or tensor [...], one image as the model takes it.
        perturbation: float array or tensor of that shape; None for what `attack` finds.
        axes: matplotlib axes; None for a new figure.
        class_names: sequence of strings, by class; None for indices.
        reach: float, how far the plane is drawn to each side, in l2 distance;
            None for twice the perturbation's norm.
        resolution: int, in how many places per axis the model is asked.
        batch_size: int, in how many at a time.
        seed: int, of the random direction.
        attack: `keras_amm.Attack`, in whose units distances are drawn: with a `deviation`, those of the pixels.
            None for a DeepFool that refines, in the units of the model's own attack.

    Returns:
        The matplotlib figure.

    Raises:
        ImportError: matplotlib is not installed.
        TypeError: the model is not a Keras model.
        ValueError: the model is no classifier, the shapes do not fit, the
            perturbation is zero, or a number is out of its range.

    Example:
    >>> model = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten(), keras.layers.Dense(3)])
    >>> x = np.random.rand(1, 4, 4, 1).astype("float32")
    >>> figure = keras_amm.plots.boundary_cross_section(model, x[0], resolution=21)
    >>> figure.axes[0].get_xlabel()
    'along the perturbation (l2)'
    """
    require_whole("resolution", resolution, 2)
    require_whole("batch_size", batch_size, 1)
    if attack is None:
        own: dict[str, Any] = {name: getattr(own_attack(model), name, None) for name in ("from_logits", "deviation")}
        attack = DeepFool(refine_steps=10, **own)
    classifier = attack.classifier(model)
    if perturbation is None:
        perturbation = attack.perturb(model, np.asarray(image)[None]).delta[0]
    image, perturbation = (
        np.asarray(to_pixel_units(np.asarray(array, dtype="float32"), attack.deviation))
        for array in (image, perturbation)
    )
    norm = float(np.linalg.norm(perturbation))
    if image.shape != perturbation.shape or not 0.0 < norm < np.inf:
        raise ValueError(
            "A cross-section needs one image, and a perturbation of its shape that is not zero and is finite. "
            f"Received: image of shape {image.shape}, perturbation of shape {perturbation.shape} and norm {norm}."
        )
    along = perturbation / norm
    sideways = _orthogonal(along, seed)
    reach = 2.0 * norm if reach is None else reach
    steps = np.linspace(-reach, reach, resolution, dtype="float32")
    logits = np.stack([_logits(classifier, _row(image, along, sideways, steps, up), batch_size) for up in steps])
    (panel,) = panels(axes, 1, 7.2, 4.6)
    colors = _colors(logits, np.array([], int))
    _paint(panel, steps, steps, logits, colors)
    marks = _mark(panel, norm)
    panel.set(xlabel="along the perturbation (l2)", ylabel="along a random direction (l2)", aspect="equal")
    _add_legend(panel, colors, set(), class_names, marks)
    return figure_of(panel)


def _points(x: TensorLike | None, y: TensorLike | None) -> tuple[np.ndarray, np.ndarray]:
    if (x is None) != (y is None):
        given, missing = ("x", "y") if y is None else ("y", "x")
        raise ValueError(f"Points x [n, 2] and their classes y [n] go together. Received: {given} without {missing}.")
    points = np.zeros((0, 2)) if x is None else np.asarray(x)
    classes = np.zeros(0, int) if y is None else np.asarray(y)
    if points.ndim != 2 or points.shape[1] != 2 or classes.shape != points.shape[:1]:
        raise ValueError(
            "Expected points x [n, 2] with their classes y [n]. "
            f"Received: x of shape {points.shape} and y of shape {classes.shape}."
        )
    return points, classes.astype(int)


def _around(points: np.ndarray) -> tuple[tuple[float, float], tuple[float, float]]:
    if not len(points):
        raise ValueError("Decision regions need points or limits to know where to draw. Received: neither.")
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    room = 0.1 * np.where(high > low, high - low, 1.0)
    low, high = low - room, high + room
    return (float(low[0]), float(high[0])), (float(low[1]), float(high[1]))


def _logits(classifier: Classifier, x: np.ndarray, batch_size: int) -> np.ndarray:
    parts = [
        classifier(images_for(classifier.model, x[i : i + batch_size], classifier.dtype))
        for i in range(0, len(x), batch_size)
    ]
    return np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])


def _row(image: np.ndarray, along: np.ndarray, sideways: np.ndarray, steps: np.ndarray, up: float) -> np.ndarray:
    # One row of the plane at a time, since the images of the whole plane might not fit into memory.
    return image + steps.reshape(-1, *[1] * image.ndim) * along + up * sideways


def _orthogonal(along: np.ndarray, seed: int) -> np.ndarray:
    direction = np.random.default_rng(seed).normal(size=along.shape).astype("float32")
    direction -= np.sum(direction * along) * along
    return direction / np.linalg.norm(direction)


def _colors(logits: np.ndarray, classes: np.ndarray) -> dict[int, str]:
    """A colour for each class that is seen. Where classes are few, each has its own, the same in all pictures."""
    seen = np.union1d(np.unique(np.argmax(logits, axis=-1)), classes).astype(int)
    few = logits.shape[-1] <= len(COLORS)
    return {int(k): COLORS[(k if few else i) % len(COLORS)] for i, k in enumerate(seen)}


def _paint(panel: "Axes", across: np.ndarray, up: np.ndarray, logits: np.ndarray, colors: dict[int, str]) -> None:
    for k, color in colors.items():
        # Positive where this class wins. The boundary runs where it is zero, between the points of the grid.
        lead = logits[..., k] - np.max(np.delete(logits, k, axis=-1), axis=-1)
        if np.max(lead) > 0.0:
            panel.contourf(across, up, lead, levels=[0.0, float(np.max(lead))], colors=[color], alpha=0.45)
        if np.min(lead) < 0.0 < np.max(lead):
            panel.contour(across, up, lead, levels=[0.0], colors="black", linewidths=1.2)


def _mark(panel: "Axes", norm: float) -> list[Any]:
    from matplotlib.patches import Circle

    panel.add_patch(Circle((0.0, 0.0), norm, fill=False, linestyle="--", linewidth=0.9))
    panel.plot([0.0, norm], [0.0, 0.0], color="black", linewidth=0.9)
    style: dict[str, Any] = {"linestyle": "none", "color": "white", "markeredgecolor": "black", "markersize": 8}
    (start,) = panel.plot(0.0, 0.0, marker="o", label="image", **style)
    (end,) = panel.plot(norm, 0.0, marker="X", label=f"perturbed, l2 {norm:#.3g}", **style)
    return [start, end]


def _add_legend(
    panel: "Axes", colors: dict[int, str], with_points: set[int], class_names: Sequence[str] | None, marks: list[Any]
) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    classes: list[Any] = []
    for k, color in colors.items():
        name = literal(class_name(k, class_names)) if class_names else f"class {k}"
        if k in with_points:
            marker = MARKERS[k % len(MARKERS)]
            classes.append(
                Line2D([], [], color=color, marker=marker, markeredgecolor="black", linestyle="none", label=name)
            )
        else:
            classes.append(Patch(facecolor=color, alpha=0.45, label=name))
    # Beside the picture, since the whole of it shows data.
    panel.legend(handles=[*marks, *classes], loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False)
