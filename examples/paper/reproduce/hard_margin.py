"""MIN+LIN without a classification loss beside the hard-margin support vector machine (Section 3.3.4)."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.svm import SVC

import keras_amm
from keras_amm.plots.style import COLORS, MARKERS

from . import toy_boundaries
from .toy_boundaries import Line, Points

_PER_CLASS, _CENTRES, _DEVIATIONS = 40, ((3.0, 1.0), (7.0, 4.0)), (0.8, 1.2)
_RATE, _L2 = 0.1, 1e-4
_BELOW: Mapping[str, Any] = {
    "loc": "upper center", "bbox_to_anchor": (0.5, -0.12), "ncols": 2, "frameon": False, "fontsize": 8,
}  # fmt: skip
# The settings of `MarginRegularizer.from_paper` by the penalty's name; "one" stands for a single point of all.
PENALTIES: Mapping[str, tuple[str, bool]] = MappingProxyType(
    {
        "MIN+LIN": ("min-lin", False),
        "MIN+LIN, the nearest point of all": ("min-lin", True),
        "MIN+EXP": ("min-exp", False),
    }
)


def clouds(seed: int) -> Points:
    """Two normal clouds of points that a line separates, away from the origin.

    Raises:
        ValueError: no line separates those of this seed.
    """
    rng = np.random.default_rng(seed)
    x = np.concatenate([rng.normal(centre, _DEVIATIONS, (_PER_CLASS, 2)) for centre in _CENTRES])
    points = Points(x.astype("float32"), np.repeat([0, 1], _PER_CLASS).astype("int32"))
    toy_boundaries.widest(points)
    return points


def support_vector_machine(points: Points) -> Line:
    """The boundary of scikit-learn's linear `SVC`, its C so large that the margin is hard."""
    machine = SVC(kernel="linear", C=1e6, tol=1e-6).fit(points.x, points.y)
    return Line(machine.coef_[0], float(machine.intercept_[0]))


def penalty(name: str, num_points: int) -> keras_amm.MarginRegularizer:
    """One of `PENALTIES` with lambda = c = d = 1, for batches of all points."""
    of_paper, one = PENALTIES[name]
    # MIN counts the nearest of each class among the first of the batch: among one, the nearest of all.
    changes = {"top_fraction": 1.0 / num_points} if one else {}
    return keras_amm.MarginRegularizer.from_paper(of_paper, strength=1.0, c=1.0, d=1.0, **changes)


def start(points: Points, offset: float) -> Line:
    """The boundary at right angles to the line through the classes' centres, `offset` from the middle of the gap."""
    line = recentred(toy_boundaries.orthogonal_to_centres(points), points)
    return Line(line.w, line.b + offset * float(np.linalg.norm(line.w)))


def recentred(line: Line, points: Points) -> Line:
    """The parallel boundary in the middle between the nearest points of either class."""
    near, far = nearest(line, points)
    return Line(line.w, line.b + (near - far) / 2 * float(np.linalg.norm(line.w)))


def nearest(line: Line, points: Points) -> tuple[float, float]:
    """The smallest signed distance of class 0, and that of class 1."""
    distances = line.distances(points)
    low, high = (float(np.min(distances[points.y == label])) for label in (0, 1))
    return low, high


def train(points: Points, regularizer: keras_amm.MarginRegularizer, first: Line, steps: int) -> Line:
    """The boundary after so many steps of gradient descent on the penalty of all points and the weight decay.

    Args:
        points: `Points`.
        regularizer: the penalty.
        first: the boundary to start from.
        steps: int, over which the learning rate falls to 0.

    Returns:
        `Line`.
    """
    model = first.classifier()
    # One step of DeepFool reaches the boundary of a linear classifier.
    wrapped = keras_amm.wrap(model, regularizer=regularizer, attack=keras_amm.DeepFool(1))
    variables = model.trainable_variables
    # The penalty is divided by the number of points, of which one or two pull.
    rate = keras.optimizers.schedules.CosineDecay(_RATE * len(points.y), steps)
    optimizer = keras.optimizers.SGD(rate)
    optimizer.build(variables)
    x, y = tf.constant(points.x), tf.constant(points.y)

    @tf.function(autograph=False)
    def step() -> None:
        with tf.GradientTape() as tape:
            decay = _L2 / 2 * sum(tf.reduce_sum(tf.square(variable)) for variable in variables)
            value = wrapped.margin_penalty(x, y) + decay
        optimizer.apply(tape.gradient(value, variables), variables)

    for _ in range(steps):
        step()
    return Line.of(model)


def compare(points: Points, offset: float, steps: int) -> dict[str, Line]:
    """The boundaries of the machine, of the start, of each penalty, and of MIN+LIN recentred, by name."""
    lines = {"SVC": support_vector_machine(points), "start": start(points, offset)}
    for name in PENALTIES:
        lines[name] = train(points, penalty(name, len(points.y)), lines["start"], steps)
        if name == "MIN+LIN":
            lines["MIN+LIN, recentred"] = recentred(lines[name], points)
    return lines


def penalties_over_offsets(points: Points, line: Line, offsets: np.ndarray) -> dict[str, np.ndarray]:
    """What each penalty costs where the boundary is moved by each of the offsets, times the number of points."""
    found: dict[str, Any] = {name: [] for name in PENALTIES}
    for offset in offsets:
        distances = Line(line.w, line.b + offset * float(np.linalg.norm(line.w))).distances(points)
        norm, correct, success = np.abs(distances), distances > 0, np.ones(len(distances), bool)
        for name, values in found.items():
            value = penalty(name, len(distances))(norm, points.y, correct, success)
            values.append(len(distances) * float(value))
    return {name: np.array(values) for name, values in found.items()}


def draw(points: Points, lines: Mapping[str, Line], offsets: np.ndarray) -> Figure:
    """The boundaries among the points, and beside them the penalties of boundaries parallel to the machine's."""
    figure = Figure(figsize=(10.0, 5.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    for label in (0, 1):
        chosen = points.x[points.y == label]
        left.scatter(*chosen.T, color=COLORS[label], marker=MARKERS[label], s=18, label=f"class {label}")
    _draw_lines(left, points, lines)
    half = sum(nearest(lines["SVC"], points)) / 2
    curves = penalties_over_offsets(points, lines["SVC"], offsets * half)
    for (name, values), color in zip(curves.items(), (COLORS[2], COLORS[4], COLORS[5]), strict=True):
        # From the value in the middle, where the margin is the largest.
        right.plot(offsets * half, values - values[len(values) // 2], color=color, label=name)
    right.axvspan(-half, half, color="0.88", zorder=0, label="all points right")
    right.set(xlabel="offset of the boundary from the machine's", ylabel="penalty, less that of the machine's boundary")
    right.grid(alpha=0.3)
    right.legend(**_BELOW)
    return figure


def _draw_lines(axes: Axes, points: Points, lines: Mapping[str, Line]) -> None:
    low, high = points.x.min(axis=0) - 0.8, points.x.max(axis=0) + 0.8
    styles = {"SVC": ("black", "-", 3.5), "MIN+LIN": (COLORS[2], "-", 1.6), "start": ("0.6", ":", 1.6)}
    styles["MIN+LIN, the nearest point of all"] = (COLORS[4], "--", 1.6)
    for name, (color, style, width) in styles.items():
        line = lines[name]
        y = np.array([low[1], high[1]])
        x = -(line.w[1] * y + line.b) / line.w[0]
        margin = min(nearest(line, points))
        axes.plot(x, y, color=color, linestyle=style, linewidth=width, label=f"{name}: margin {margin:.2f}")
    axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), aspect="equal")
    axes.legend(**_BELOW)
