"""MIN+LIN beside the hard-margin support vector machine."""

import numpy as np
import pytest
import tensorflow as tf

import keras_amm
from paper.reproduce import hard_margin
from paper.reproduce.toy_boundaries import Line

ONE = "MIN+LIN, the nearest point of all"


@pytest.fixture(scope="module")
def points():
    return hard_margin.clouds(0)


@pytest.fixture(scope="module")
def machine(points):
    return hard_margin.support_vector_machine(points)


def test_the_nearest_point_of_all_finds_the_machine(points, machine):
    first = hard_margin.start(points, 0.03)
    assert min(hard_margin.nearest(first, points)) < 0.1
    line = hard_margin.train(points, hard_margin.penalty(ONE, len(points.y)), first, steps=60)
    assert abs(line.angle - machine.angle) < 0.05
    margins = hard_margin.nearest(machine, points)
    np.testing.assert_allclose(hard_margin.nearest(line, points), margins, atol=2e-3)
    np.testing.assert_allclose(margins, 0.60035, atol=1e-4)


def test_what_moves_the_bias(points, machine):
    """Of the machine's boundary moved by 0.2 to class 0: LIN leaves it where it is, the others pull it back."""
    moved = Line(machine.w, machine.b + 0.2 * float(np.linalg.norm(machine.w)))
    np.testing.assert_allclose(hard_margin.nearest(moved, points), (0.40035, 0.80035), atol=1e-4)
    num_points, length = len(points.y), float(np.linalg.norm(machine.w))
    pulls = {}
    for name in hard_margin.PENALTIES:
        model, regularizer = moved.classifier(), hard_margin.penalty(name, num_points)
        wrapped = keras_amm.wrap(model, regularizer=regularizer, attack=keras_amm.DeepFool(1))
        with tf.GradientTape() as tape:
            value = wrapped.margin_penalty(points.x, points.y)
        gradient = tape.gradient(value, model.trainable_variables)[1].numpy()
        # Of the distance to the boundary, which is overshot by 2%.
        pulls[name] = num_points * (gradient[1] - gradient[0]) / 2 * length / 1.02
    assert pulls["MIN+LIN"] == pytest.approx(0.0, abs=1e-4)
    assert pulls[ONE] == pytest.approx(1.0, rel=1e-3)
    # exp(-t) of either class's nearest point.
    assert pulls["MIN+EXP"] == pytest.approx(np.exp(-1.02 * 0.40035) - np.exp(-1.02 * 0.80035), rel=1e-3)


def test_penalties_of_parallel_boundaries(points, machine):
    found = hard_margin.penalties_over_offsets(points, machine, np.array([-0.3, 0.0, 0.3]))
    np.testing.assert_allclose(found["MIN+LIN"], -2 * 0.60035, atol=1e-4)
    np.testing.assert_allclose(found[ONE], [-0.30035, -0.60035, -0.30035], atol=1e-4)


def test_recentred(points, machine):
    moved = Line(machine.w, machine.b + 0.5)
    assert hard_margin.recentred(moved, points).b == pytest.approx(machine.b, abs=1e-4)
