"""The search of SuperDeepFool: DeepFool, a projection onto the normal of the boundary where it ended, and so on."""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution.loops import as_round
from keras_amm.execution.xla import Rows
from keras_amm.network.classifier import Classifier
from keras_amm.search import loop
from keras_amm.search.box import Box, shortest_step
from keras_amm.search.geometry import expand_to, inner
from keras_amm.search.linearisation import CleanPass, clean_pass
from keras_amm.search.norms import norm_for
from keras_amm.search.path import Path
from keras_amm.search.rivals import Aim, Best, aim, none_yet, path_to
from keras_amm.typing import Tensor


class _State(NamedTuple):
    """Where the search of each sample is.

    Attributes:
        delta: float tensor [B, ...], the perturbation.
        best: the best one so far.
        iterations: int32 tensor [B], the number of steps taken, projections included.
        active: boolean tensor [B], whether it goes on.
    """

    delta: Tensor
    best: Best
    iterations: Tensor
    active: Tensor


class _Samples(NamedTuple):
    """What does not change from round to round: the images x [B, ...], what is to be reached, and the box or ()."""

    x: Tensor
    goal: Aim
    box: Any


def search(
    classifier: Classifier,
    clean: CleanPass,
    labels: Tensor | None,
    *,
    rounds: int,
    max_iterations: int,
    num_candidates: int,
    overshoot: float,
    box: Box | None = None,
) -> Path:
    """Look for the nearest point of another class.

    Args:
        classifier: the network.
        clean: its pass over the images.
        labels: int32 tensor [B], or None; as in `loop.search`.
        rounds: int, the most projections of each image.
        max_iterations: int, the most steps from one projection to the next.
        num_candidates: int, as in `loop.search`.
        overshoot: float, as in `loop.search`.
        box: what the samples may not leave, or None.

    Returns:
        The `Path`, without steps.

    Reference: SDF(infinity, 1) of Abdollahpoorrostam et al. (2023).
    """
    settings = {"max_iterations": max_iterations, "num_candidates": num_candidates, "overshoot": overshoot}
    goal = aim(clean, labels)
    samples = _Samples(clean.x, goal, () if box is None else box)
    state = _State(tf.zeros_like(clean.x), none_yet(clean.x), tf.zeros_like(goal.label), tf.ones_like(goal.correct))
    # The first round needs no other pass over the images than the one that is there.
    state = _round(classifier, clean, samples, state, settings)

    def next_round(number: Tensor, state: _State) -> tuple[Tensor, _State]:
        rows = Rows(state.active)
        there, before = rows.take(samples), rows.take(state)
        after = _round(classifier, clean_pass(classifier, there.x + before.delta), there, before, settings)
        return number + 1, rows.put(state, after)

    _, state = tf.while_loop(
        lambda number, state: tf.logical_and(number < rounds, tf.reduce_any(state.active)),
        as_round(next_round),
        (tf.constant(1), state),
    )
    best = state.best
    return path_to(classifier, clean, goal, best.delta, state.iterations, best.is_found)


def _round(
    classifier: Classifier, here: CleanPass, samples: _Samples, state: _State, settings: dict[str, Any]
) -> _State:
    """DeepFool from where the samples are, and a projection where it has succeeded."""
    goal, box, norm = samples.goal, samples.box or None, norm_for(classifier)
    found = loop.search(classifier, here, goal.label, keep_path=False, box=box, **settings)
    delta = state.delta + found.delta
    best = state.best.or_smaller(norm, delta, found.success)
    # A sample whose image is at a boundary has nowhere to go.
    goes_on = found.success & (best.norm > 0.0)
    projected = _projected(classifier, samples.x, goal, delta, box)
    reached = goes_on & goal.is_reached(classifier(samples.x + projected))
    best = best.or_smaller(norm, projected, reached)
    return _State(
        delta=tf.where(expand_to(goes_on, delta), projected, delta),
        best=best,
        iterations=state.iterations + found.iterations + tf.cast(goes_on, tf.int32),
        # Where DeepFool has not succeeded, it goes on without a projection.
        active=~reached & (best.norm > 0.0),
    )


def _projected(classifier: Classifier, x: Tensor, goal: Aim, delta: Tensor, box: Box | None) -> Tensor:
    """The shortest perturbations [b, ...] to the hyperplane that runs along the boundary through x + delta."""
    point = x + delta
    _, w = goal.linearise(classifier, point)
    rise = inner(w, delta)
    # If the target's lead falls along the way, the normal leads back.
    return tf.where(expand_to(rise > 0.0, delta), shortest_step(norm_for(classifier), w, rise, x, box), delta)
