"""Linear boundaries in the plane: the widest, and as classifiers."""

import numpy as np
import pytest

from paper.reproduce import toy_boundaries


def test_widest_margin():
    """Of three points: the upright between x = 0 and x = 3."""
    points = toy_boundaries.Points(np.array([[0.0, -1.0], [0.0, 1.0], [3.0, 0.0]]), np.array([0, 0, 1]))
    line = toy_boundaries.widest(points)
    np.testing.assert_allclose(line.distances(points), 1.5, rtol=1e-5)
    np.testing.assert_allclose(line.angle, 0.0, atol=1e-4)
    with pytest.raises(ValueError, match="No boundary separates the points"):
        toy_boundaries.widest(toy_boundaries.Points(np.zeros((2, 2)), np.array([0, 1])))


def test_a_boundary_as_a_classifier():
    line = toy_boundaries.Line(np.array([3.0, 4.0]), -5.0)
    again = toy_boundaries.Line.of(line.classifier())
    np.testing.assert_allclose([*again.w, again.b], [3.0, 4.0, -5.0])
    # |3 * 3 + 4 * 4 - 5| / 5, on the side of class 1.
    np.testing.assert_allclose(line.distances(toy_boundaries.Points(np.array([[3.0, 4.0]]), np.array([1]))), [4.0])
