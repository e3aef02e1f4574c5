"""Two classes in the plane and linear boundaries between them (Section 3.3.3, Figure 1)."""

from collections.abc import Mapping
from typing import NamedTuple

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from scipy.optimize import minimize

import keras_amm
from keras_amm.plots.style import COLORS

# Corners (left, bottom) and (right, top), by class.
RECTANGLES = (((-1.01, -4.00), (-0.99, 2.00)), ((0.99, -2.00), (1.01, 4.00)))
LIMITS = ((-3.0, 3.0), (-4.6, 4.6))
NUM_PER_CLASS = 200


class Points(NamedTuple):
    """Points [n, 2] and their classes [n]."""

    x: np.ndarray
    y: np.ndarray


class Line(NamedTuple):
    """The boundary w.x + b = 0; class 1 is where it is positive."""

    w: np.ndarray
    b: float

    def distances(self, points: Points) -> np.ndarray:
        """Signed distances of the points, negative where they are misclassified."""
        return (2 * points.y - 1) * (points.x @ self.w + self.b) / np.linalg.norm(self.w)

    @classmethod
    def of(cls, model: keras.Model) -> "Line":
        """Where the two logits of a linear classifier are equal."""
        w, b = (variable.numpy() for variable in model.trainable_variables)
        return cls(w[:, 1] - w[:, 0], float(b[1] - b[0]))

    def classifier(self) -> keras.Model:
        """A linear classifier with this boundary."""
        model = linear_classifier()
        model.set_weights([np.stack([-self.w, self.w], axis=1) / 2, np.array([-self.b, self.b]) / 2])
        return model

    @property
    def angle(self) -> float:
        """Degrees between the boundary and the upright."""
        return float(np.degrees(np.arctan2(self.w[1], self.w[0])))


def linear_classifier() -> keras.Model:
    """Two logits of a point in the plane, with new weights."""
    return keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])


def sample(seed: int) -> tuple[Points, Points]:
    """Training and test points, uniform in the rectangles."""
    rng = np.random.default_rng(seed)
    return _points(rng), _points(rng)


def _points(rng: np.random.Generator) -> Points:
    x = np.concatenate([rng.uniform(*corners, size=(NUM_PER_CLASS, 2)) for corners in RECTANGLES])
    return Points(x.astype("float32"), np.repeat([0, 1], NUM_PER_CLASS).astype("int32"))


def orthogonal_to_centres(points: Points) -> Line:
    """The boundary that AVG+LIN is to find: orthogonal to the line that joins the classes' centres (Section 3.2)."""
    low, high = (np.mean(points.x[points.y == label], axis=0) for label in (0, 1))
    return Line(high - low, float(np.dot(low - high, low + high)) / 2)


def widest(points: Points) -> Line:
    """The boundary with the largest margin of these points, a hard-margin support vector machine."""
    signs = 2.0 * points.y - 1.0
    rows = signs[:, None] * np.column_stack([points.x, np.ones(len(signs))])
    constraint = {"type": "ineq", "fun": lambda v: rows @ v - 1.0, "jac": lambda v: rows}
    found = minimize(
        lambda v: v[:2] @ v[:2],
        [2.0, 0.0, 0.0],
        jac=lambda v: np.array([2 * v[0], 2 * v[1], 0.0]),
        constraints=constraint,
        method="SLSQP",
        options={"ftol": 1e-12},
    )
    if not found.success:
        raise ValueError(f"No boundary separates the points: {found.message}.")
    return Line(found.x[:2], float(found.x[2]))


def measure(line: Line, train: Points, test: Points) -> dict[str, float | list[float]]:
    """A boundary and what it is worth.

    Returns:
        `w` and `b`; the shares of points on their side, `train_accuracy` and `test_accuracy`; `margin`, the smallest
        signed distance of a training point; `angle`.
    """
    accuracies = [float(np.mean(line.distances(points) > 0)) for points in (train, test)]
    return {
        "w": [float(w) for w in line.w],
        "b": line.b,
        "train_accuracy": accuracies[0],
        "test_accuracy": accuracies[1],
        "margin": float(np.min(line.distances(train))),
        "angle": line.angle,
    }


def draw(lines: Mapping[str, Line], train: Points, test: Points) -> Figure:
    """One panel per classifier, with the test points; the first column holds reference and legend."""
    figure = Figure(figsize=(10.5, 8.2), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True, sharey=True)
    places = dict(zip(lines, [axes[0, 0], *axes[0, 1:], *axes[1, 1:]], strict=True))
    for name, line in lines.items():
        _draw_panel(places[name], name, line, train, test)
    axes[1, 0].axis("off")
    axes[0, 0].tick_params(labelbottom=True)
    axes[1, 1].tick_params(labelleft=True)
    axes[1, 1].set_ylabel(axes[0, 0].get_ylabel())
    axes[0, 0].set_xlabel(axes[1, 1].get_xlabel())
    handles, _ = places["MIN+EXP"].get_legend_handles_labels()
    classes = [Patch(facecolor=COLORS[label], alpha=0.45, label=f"class {label}") for label in (0, 1)]
    axes[1, 0].legend(handles=[*classes, *handles], loc="center", frameon=False)
    return figure


def _draw_panel(axis: Axes, name: str, line: Line, train: Points, test: Points) -> None:
    """The decision regions, the test points, and the band that is free of training points."""
    keras_amm.plots.decision_regions(line.classifier(), test.x, test.y, limits=LIMITS, axes=axis, legend=False)
    length = np.linalg.norm(line.w)
    normal, reach = line.w / length, np.array([-12.0, 12.0])
    along, foot = np.array([-normal[1], normal[0]]), -line.b / length * normal
    margin = np.min(line.distances(train))
    for offset in (-margin, margin) if margin > 0 else ():
        ends = (foot + offset * normal)[:, None] + along[:, None] * reach
        axis.plot(*ends, color="black", linewidth=1.0, linestyle=":", label="margin" if offset > 0 else None)
    axis.set(xlim=LIMITS[0], ylim=LIMITS[1], aspect="equal")
    axis.label_outer()
    axis.set_title(f"{name}\nmargin {margin:.3f}, accuracy {np.mean(line.distances(test) > 0):.1%}", fontsize=9)
