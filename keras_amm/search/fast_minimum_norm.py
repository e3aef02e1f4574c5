"""The search of Fast Minimum-Norm: gradient steps within a ball that follows the boundary."""

import functools
import math
from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution.loops import as_round
from keras_amm.network.classifier import Classifier
from keras_amm.search.box import Box
from keras_amm.search.geometry import distance, expand_to
from keras_amm.search.linearisation import CleanPass
from keras_amm.search.norms import Norm, norm_for
from keras_amm.search.path import Path
from keras_amm.search.rivals import Aim, Best, aim, none_yet, path_to
from keras_amm.typing import Tensor

# How far an image may go while nothing is found, as a multiple of the first perturbation.
_FARTHEST = 4.0


class Schedule(NamedTuple):
    """How a quantity falls over the steps, along half a cosine, from `first` towards `last`."""

    first: float
    last: float

    def at(self, number: Tensor, steps: int, dtype: tf.DType) -> Tensor:
        """The value at a step, counted from 0."""
        angle = math.pi * tf.cast(number, dtype) / steps
        return self.last + 0.5 * (self.first - self.last) * (1.0 + tf.cos(angle))


# The first runs from the start and from the image are short, so their balls change fast.
_GAMMA_OF_SCOUTING = Schedule(0.3, 0.01)
_LEAST_TO_SCOUT, _MOST_SCOUTING = 20, 10


class _State(NamedTuple):
    """Where the search of each sample is: the point looked at, the ball that confines it, and the best one so far.

    Attributes:
        delta: float tensor [B, ...].
        radius: float tensor [B].
        best: the best perturbation so far.
    """

    delta: Tensor
    radius: Tensor
    best: Best


def search(
    classifier: Classifier,
    clean: CleanPass,
    labels: Tensor | None,
    start: Path | None,
    *,
    steps: int,
    step_size: Schedule,
    gamma: Schedule,
    box: Box | None = None,
) -> Path:
    """Look for the nearest point of another class, from the images or from where another search has ended.

    With a start and enough steps, two short runs come first, one from the start's points and one from the images. They
    may arrive at different classes, and neither sees the other's. The rest of the steps goes on from the nearer points.

    Args:
        classifier: the network.
        clean: its pass over the images.
        labels: int32 tensor [B], or None; as in `loop.search`.
        start: what another search of these images has found, or None.
        steps: int, the gradients of each image.
        step_size: the length of a step, in radii of the ball.
        gamma: by what fraction the radius changes.
        box: what the samples may not leave, or None.

    Returns:
        The `Path`, without steps.

    Reference: Algorithm 1 of Pintor et al. (2021); the two first runs are ours.
    """
    goal, norm = aim(clean, labels), norm_for(classifier)
    run = functools.partial(_run, classifier, clean.x, goal, box)
    first, scouting = _begin(norm, clean, goal, start), 0 if start is None else _scouting(steps)
    if scouting:
        from_start = run(first, scouting, step_size, _GAMMA_OF_SCOUTING)
        from_image = run(_begin(norm, clean, goal, None), scouting, step_size, _GAMMA_OF_SCOUTING)
        first = _better(norm, from_start, from_image.delta, from_image.is_found)
    best = run(first, steps - 2 * scouting, step_size, gamma)
    taken = tf.where(best.norm > 0.0, steps, 0) + (0 if start is None else start.iterations)
    return path_to(classifier, clean, goal, best.delta, taken, best.is_found)


def _scouting(steps: int) -> int:
    """How many steps go from the start's point and as many from the image, before the rest; too few tell nothing."""
    return min(steps // 4, _MOST_SCOUTING) if steps >= _LEAST_TO_SCOUT else 0


def _run(
    classifier: Classifier,
    x: Tensor,
    goal: Aim,
    box: Box | None,
    first: Best,
    steps: int,
    step_size: Schedule,
    gamma: Schedule,
) -> Best:
    """The best of so many steps from a first perturbation of the images x [B, ...], whose norm is the ball's radius."""
    norm = norm_for(classifier)

    def step(number: Tensor, state: _State) -> tuple[Tensor, _State]:
        of_size, of_radius = (schedule.at(number, steps, x.dtype) for schedule in (step_size, gamma))
        return number + 1, _step(classifier, x, goal, state, of_size, of_radius, box)

    begun = tf.constant(0), _State(first.delta, norm.of(first.delta), first)
    _, state = tf.while_loop(lambda number, _: number < steps, as_round(step), begun)
    return _better(norm, state.best, state.delta, goal.lead(classifier(x + state.delta)) > 0.0)


def _begin(norm: Norm, clean: CleanPass, goal: Aim, start: Path | None) -> Best:
    """What is known before the first step: the start's perturbation, or that the image is at a boundary already."""
    if start is None:
        return none_yet(clean.x).or_smaller(norm, tf.zeros_like(clean.x), goal.is_reached(clean.logits))
    return none_yet(clean.x).or_smaller(norm, start.delta, start.success)


def _step(
    classifier: Classifier,
    x: Tensor,
    goal: Aim,
    state: _State,
    step_size: Tensor,
    gamma: Tensor,
    box: Box | None,
) -> _State:
    """One gradient of each image: look where the point is, resize the ball, and move within it."""
    point, norm = x + state.delta, norm_for(classifier)
    g, w = goal.linearise(classifier, point)
    if box is not None:
        w = box.allowed(w, point)
    state = state._replace(best=_better(norm, state.best, state.delta, g > 0.0))
    radius = _radius(norm, state, g, norm.dual_squared(w), gamma)
    delta = norm.within(state.delta + expand_to(step_size * radius, w) * norm.unit(norm.dual_map(w)), radius)
    if box is not None:
        delta = box.clip(x + delta) - x
    return state._replace(delta=delta, radius=radius)


def _better(norm: Norm, best: Best, delta: Tensor, reached: Tensor) -> Best:
    """The better of the best and perturbations [B, ...]; as long as nothing is found, the first that left the image."""
    found = best.or_smaller(norm, delta, reached)
    # Later ones may be far away, and say no more.
    keeps_first = ~found.is_found & (norm.of(best.delta) > 0.0)
    return found._replace(delta=tf.where(expand_to(keeps_first, delta), best.delta, found.delta))


def _radius(norm: Norm, state: _State, g: Tensor, squared: Tensor, gamma: Tensor) -> Tensor:
    """The ball's next radius [B], by the target's lead g over the source, whose gradient has this squared dual norm."""
    # Until a point beyond the boundary is known, the ball reaches as far as the linear boundary. A little farther: just
    # there, rounding would decide on which side a point lies. And no more than twice as far as the point is, and
    # `_FARTHEST` times as far as the first one, for where the gradient vanishes, the linear boundary may be anywhere.
    to_boundary, so_far = distance(g, squared), norm.of(state.delta)
    reach = so_far + tf.where(to_boundary < g.dtype.max, to_boundary, 0.0)
    farthest = tf.minimum(2.0 * so_far, _FARTHEST * norm.of(state.best.delta))
    reach = tf.where(so_far > 0.0, tf.minimum(reach, farthest), reach)
    # Farther than the best point there is nothing to be found.
    radius = tf.minimum(state.radius, state.best.norm)
    grown = tf.minimum((1.0 + gamma) * tf.where(state.best.is_found, radius, reach), state.best.norm)
    return tf.where(g > 0.0, (1.0 - gamma) * radius, grown)
