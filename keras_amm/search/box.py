"""The range of pixels: a box that perturbed images do not leave."""

import numbers
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.search.geometry import divide_by_squared_norm, expand_to, inner
from keras_amm.search.norms import Norm
from keras_amm.typing import Tensor

# Images may lie outside of their bounds by this part of the range, by rounding.
ROUNDING = 1e-4
# Each repetition finds all pixels that their bounds stop at once, so few are needed.
_REPETITIONS = 12


class Box(NamedTuple):
    """The smallest and the largest value of each pixel, float tensors [B, ...]."""

    lower: Tensor
    upper: Tensor

    def clip(self, point: Tensor) -> Tensor:
        """The nearest point of the box, [B, ...]."""
        return tf.clip_by_value(point, self.lower, self.upper)

    def allowed(self, direction: Tensor, point: Tensor) -> Tensor:
        """A direction [B, ...] without what would leave the box at once from a point of it, [B, ...]."""
        leaves = ((point <= self.lower) & (direction < 0.0)) | ((point >= self.upper) & (direction > 0.0))
        return tf.where(leaves, tf.zeros_like(direction), direction)


def require_bounds(bounds: Any) -> tuple[Any, Any] | None:
    """Bounds as a pair of floats or lists of floats; None for None.

    Raises:
        ValueError: they are no such pair, or not in this order.

    Example:
    >>> keras_amm.search.box.require_bounds([0, (1, 2)])
    (0.0, [1.0, 2.0])
    """
    if bounds is None:
        return None
    try:
        is_fit = all(isinstance(value, numbers.Real) for bound in bounds for value in np.ravel(bound))
        lower, upper = (np.asarray(bound, "float64") for bound in bounds)
        is_fit = is_fit and max(lower.ndim, upper.ndim) <= 1 and bool(np.all(lower < upper))
        is_fit = is_fit and bool(np.all(np.isfinite(lower)) and np.all(np.isfinite(upper)))
    except (TypeError, ValueError):
        is_fit = False
    if not is_fit:
        raise ValueError(
            "`bounds` must be None, or the smallest and the largest value of a pixel, each a finite number or one for "
            f"each channel, such as (0, 1). Received: bounds={bounds!r}."
        )
    return lower.tolist(), upper.tolist()


def box_around(x: Tensor, bounds: tuple[Any, Any] | None, deviation: Any) -> tuple[Box | None, list[Check]]:
    """The box of images x [B, ...], whose channels are the last axis, and the check that they lie in it.

    Without bounds there is neither. The images are in pixel units, the bounds in those of the model's images, which
    were divided by the deviation.
    """
    if bounds is None:
        return None, []
    for bound in bounds:
        if np.size(bound) not in (1, x.shape[-1]) and x.shape[-1] is not None:
            raise ValueError(
                "`bounds` must be a number, or one per channel, which is the last axis of the images, for the smallest "
                f"and the largest value of a pixel. Received: {np.size(bound)} numbers, and images of shape "
                f"{tuple(x.shape)}."
            )
    unit = 1.0 if deviation is None else deviation
    low, high = (tf.constant(np.multiply(bound, unit), x.dtype) for bound in bounds)
    slack = ROUNDING * (high - low)
    fits = Check(
        tf.reduce_all((x >= low - slack) & (x <= high + slack)),
        "Images must lie within the attack's `bounds`, which are in the units of the images given. "
        f"Expected: pixels from {_in_words(bounds[0])} to {_in_words(bounds[1])}.",
        (tf.reduce_min(x / unit), tf.reduce_max(x / unit)),
        got="Got pixels between",
    )
    # What rounding has put outside stays where it is.
    return Box(tf.minimum(x, low), tf.maximum(x, high)), [fits]


def _in_words(bound: Any) -> str:
    """A bound as an error says it: numbers per channel without square brackets, which the texts of checks lack."""
    return f"({', '.join(f'{value:g}' for value in bound)})" if np.ndim(bound) else f"{bound:g}"


def shortest_step(norm: Norm, w: Tensor, rise: Tensor, point: Tensor, box: Box | None) -> Tensor:
    """The shortest step s [b, ...] from a point of the box with <w, s> = rise [b], that does not leave the box.

    Where there is none, the one that comes nearest to that.

    Example:
    >>> l2 = keras_amm.search.norms.NORMS["l2"]
    >>> w, at = tf.constant([[1.0, 1.0]]), tf.constant([[0.0, 0.9]])
    >>> box = keras_amm.search.box.Box(tf.zeros((1, 2)), tf.ones((1, 2)))
    >>> for limits in (None, box):
    ...     print(keras_amm.search.box.shortest_step(l2, w, tf.constant([0.5]), at, limits).numpy().round(3))
    [[0.25 0.25]]
    [[0.4 0.1]]
    """
    if box is None:
        return norm.step(w, rise)
    u = norm.dual_map(w)
    length = divide_by_squared_norm(rise, norm.dual_squared(w))
    least, most = box.lower - point, box.upper - point
    # The step is clip(length * u). Its rise grows ever more slowly with the length: Newton's method comes from below.
    for _ in range(_REPETITIONS):
        step = tf.clip_by_value(expand_to(length, u) * u, least, most)
        free = tf.where((step > least) & (step < most), w, tf.zeros_like(w))
        length += divide_by_squared_norm(rise - inner(w, step), inner(free, u))
    return tf.clip_by_value(expand_to(length, u) * u, least, most)
