"""Six forms of the margin penalty on a linear classifier in two dimensions (Section 3.3.3, Figure 1).

    python examples/toy2d.py --out=toy2d.png

Each class is uniform in a thin, upright rectangle, and the two are shifted against
each other. A linear classifier minimises the margin penalty alone, without any
classification loss, lambda = c = d = 1. AVG+LIN counts all samples alike, so its
boundary is orthogonal to the line that joins the classes' centres, at 45 degrees;
the widest margin, 1, belongs to the upright boundary at 0 degrees. A linear
classifier trained with cross-entropy is the reference.

Without a classification loss the start matters: from an initial boundary that
misclassifies most points (some values of `--seed`) MIN can end with the classes
exchanged, or lose the boundary beyond the distance from which the penalty is capped.
The default seed is one from which all six configurations find a boundary; with seed 0 MIN+EXP does not.
"""

import itertools
import json
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import app, flags
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import keras_amm
from coupled_sgd import CoupledDecaySGD
from keras_amm.plots.style import COLORS
from run_records import versions

# Corners (left, bottom) and (right, top), by class.
RECTANGLES = (((-1.01, -4.00), (-0.99, 2.00)), ((0.99, -2.00), (1.01, 4.00)))
LIMITS = ((-3.0, 3.0), (-4.6, 4.6))
NUM_PER_CLASS = 200
BATCH_SIZE = 20
INITIAL_LEARNING_RATE = 0.1
HALVED_EVERY = 250

AGGREGATIONS = ("avg", "min")
SHRINKAGES = ("lin", "inv", "exp")

flags.DEFINE_integer("epochs", 1000, "number of epochs", lower_bound=1)
flags.DEFINE_integer("seed", 1, "seed of the data, the initialisation and the order")
flags.DEFINE_string("out", "toy2d.png", "where to save the figure")
flags.DEFINE_string("json", None, "where to save the numbers")
FLAGS = flags.FLAGS


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

    @property
    def angle(self) -> float:
        """Degrees between the boundary and the upright."""
        return float(np.degrees(np.arctan2(self.w[1], self.w[0])))


def main(argv: list[str]) -> None:
    """Train seven classifiers, print their margins and draw their boundaries."""
    del argv
    rng = np.random.default_rng(FLAGS.seed)
    train, test = sample(rng), sample(rng)
    models, panels = {}, {}
    print(f"{'':12}{'train acc.':>11}{'test acc.':>11}{'margin':>9}{'angle':>8}{'seconds':>9}")
    for name, regularizer in configurations().items():
        start = time.perf_counter()
        models[name] = fit(train, regularizer)
        panels[name] = panel = measure(Line.of(models[name]), train, test, time.perf_counter() - start)
        print(
            f"{name:12}{panel['train_accuracy']:>11.2%}{panel['test_accuracy']:>11.2%}{panel['margin']:>9.4f}"
            f"{panel['angle']:>7.1f}°{panel['seconds']:>9.1f}"
        )
    centres = [np.mean(train.x[train.y == label], axis=0) for label in (0, 1)]
    angle = Line(centres[1] - centres[0], 0.0).angle
    print(
        "margin: the smallest signed distance of a training point; angle: between boundary and upright, "
        f"{angle:.1f}° for the boundary orthogonal to the line joining the centres"
    )
    if FLAGS.json:
        record = {
            "seed": FLAGS.seed,
            "epochs": FLAGS.epochs,
            "versions": versions(),
            "training_seconds": sum(panel["seconds"] for panel in panels.values()),
            "centres_angle": angle,
            "panels": panels,
        }
        pathlib.Path(FLAGS.json).write_text(json.dumps(record, indent=2) + "\n")
    draw(models, train, test).savefig(FLAGS.out, dpi=150)
    print(f"Saved {FLAGS.out}")


def measure(line: Line, train: Points, test: Points, seconds: float) -> dict[str, float]:
    """What a boundary is worth."""
    accuracies = [float(np.mean(line.distances(points) > 0)) for points in (train, test)]
    return {
        "train_accuracy": accuracies[0],
        "test_accuracy": accuracies[1],
        "margin": float(np.min(line.distances(train))),
        "angle": line.angle,
        "seconds": seconds,
    }


def sample(rng: np.random.Generator) -> Points:
    """Points uniform in the rectangles."""
    x = np.concatenate([rng.uniform(*corners, size=(NUM_PER_CLASS, 2)) for corners in RECTANGLES])
    return Points(x.astype("float32"), np.repeat([0, 1], NUM_PER_CLASS).astype("int32"))


def configurations() -> dict[str, keras_amm.MarginRegularizer | None]:
    """The reference, which has no penalty, and the six forms of the penalty."""
    forms = {
        f"{aggregation.upper()}+{shrinkage.upper()}": keras_amm.MarginRegularizer(
            strength=1.0, aggregation=aggregation, shrinkage=shrinkage, c=1.0, d=1.0
        )
        for aggregation, shrinkage in itertools.product(AGGREGATIONS, SHRINKAGES)
    }
    return {"reference": None, **forms}


def fit(train: Points, regularizer: keras_amm.MarginRegularizer | None) -> keras.Model:
    """A linear classifier that minimises the penalty, or the cross-entropy where there is none."""
    keras.utils.set_random_seed(FLAGS.seed)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    steps = len(train.y) // BATCH_SIZE
    halvings = range(1 + max(1, FLAGS.epochs // HALVED_EVERY))
    # Keras keeps a value up to and including its boundary.
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [k * HALVED_EVERY * steps - 1 for k in halvings[1:]], [INITIAL_LEARNING_RATE * 0.5**k for k in halvings]
    )
    optimizer = CoupledDecaySGD(schedule, momentum=0.9, l2=1e-4)
    optimizer.build(model.trainable_variables)
    if regularizer is None:
        cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        run_epoch = compile_epoch(lambda x, y: cross_entropy(y, model(x)), model.trainable_variables, optimizer)
    else:
        run_epoch = compile_epoch(
            keras_amm.wrap(model, regularizer=regularizer).margin_penalty, model.trainable_variables, optimizer
        )
    rng = np.random.default_rng(FLAGS.seed)
    for _ in range(FLAGS.epochs):
        order = rng.permutation(len(train.y)).reshape(steps, BATCH_SIZE)
        run_epoch(train.x[order], train.y[order])
    return model


def compile_epoch(
    loss: Callable[[Any, Any], Any], variables: list[Any], optimizer: keras.optimizers.Optimizer
) -> Callable[[Any, Any], None]:
    """A function of one epoch's batches [steps, batch size, ...]: one call into the graph per epoch."""

    # XLA fuses the many small operations of so small a problem, which takes some ten times longer without.
    @tf.function(autograph=False, jit_compile=True)
    def run_epoch(xs: Any, ys: Any) -> None:
        def step(i: Any) -> tuple[Any]:
            with tf.GradientTape() as tape:
                value = loss(xs[i], ys[i])
            optimizer.apply(tape.gradient(value, variables), variables)
            return (i + 1,)

        tf.while_loop(lambda i: i < xs.shape[0], step, (0,))

    return run_epoch


def draw(models: dict[str, keras.Model], train: Points, test: Points) -> Figure:
    """One panel per classifier, with the test points; the first column holds reference and legend."""
    figure = Figure(figsize=(10.5, 8.2), layout="constrained")
    axes = figure.subplots(2, 4, sharex=True, sharey=True)
    places = dict(zip(models, [axes[0, 0], *axes[0, 1:], *axes[1, 1:]], strict=True))
    for name, model in models.items():
        draw_panel(places[name], name, model, train, test)
    axes[1, 0].axis("off")
    axes[0, 0].tick_params(labelbottom=True)
    axes[1, 1].tick_params(labelleft=True)
    axes[1, 1].set_ylabel(axes[0, 0].get_ylabel())
    axes[0, 0].set_xlabel(axes[1, 1].get_xlabel())
    handles, _ = places["MIN+EXP"].get_legend_handles_labels()
    classes = [Patch(facecolor=COLORS[label], alpha=0.45, label=f"class {label}") for label in (0, 1)]
    axes[1, 0].legend(handles=[*classes, *handles], loc="center", frameon=False)
    return figure


def draw_panel(axis: Axes, name: str, model: keras.Model, train: Points, test: Points) -> None:
    """The decision regions, the test points, and the band that is free of training points."""
    keras_amm.plots.decision_regions(model, test.x, test.y, limits=LIMITS, axes=axis, legend=False)
    line = Line.of(model)
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


if __name__ == "__main__":
    app.run(main)
