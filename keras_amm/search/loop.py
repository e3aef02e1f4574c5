"""DeepFool's search, over a whole batch and without gradients to the weights.

Two things in it are discrete and have no gradient: which class a step aims at, and when a sample
stops. So the search only records its path. Later, `keras_amm.gradient` differentiates along the paths
of the few samples that the aggregation selects.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution.xla import Rows
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import finite_images
from keras_amm.search.box import Box, shortest_step
from keras_amm.search.linearisation import (
    CleanPass,
    Goal,
    NearestBoundary,
    goal_of,
    linearise_again,
    linearise_towards_all,
)
from keras_amm.search.norms import norm_for
from keras_amm.search.path import Path, Step, empty_record, with_step
from keras_amm.search.screening import screen
from keras_amm.typing import Tensor


class _State(NamedTuple):
    """Where the search of each sample is, which changes from step to step.

    Attributes:
        point: float tensor [B, ...], where the sample is.
        logits: float tensor [B, C], the network's there.
        squared: float tensor [B, k], the last known squared dual norms of the gradients towards the candidates.
        current: int32 tensor [B], the class that the next step leads away from.
        source: int32 tensor [B], the class that the last step led away from.
        target: int32 tensor [B], the class that the last step aimed at.
        iterations: int32 tensor [B], the number of steps taken.
        active: boolean tensor [B], whether the goal is still to be reached.
    """

    point: Tensor
    logits: Tensor
    squared: Tensor
    current: Tensor
    source: Tensor
    target: Tensor
    iterations: Tensor
    active: Tensor


def search(
    classifier: Classifier,
    clean: CleanPass,
    labels: Tensor | None,
    *,
    max_iterations: int,
    num_candidates: int,
    overshoot: float,
    screening: float | None = None,
    keep_path: bool = True,
    box: Box | None = None,
) -> Path:
    """Walk each sample to the nearest decision boundary (Equations 2-4).

    Args:
        classifier: the network.
        clean: its pass over the images.
        labels: int32 tensor [B], or None. A correctly classified sample is
            attacked untargeted, a misclassified one towards its label;
            without labels every sample is attacked untargeted.
        max_iterations: int, steps after which a sample is given up.
        num_candidates: int, how many classes are considered, those of the largest logits at `x`.
        overshoot: float, by what fraction each step goes beyond the linear boundary.
        screening: float in (0, 1]. Search only the nearest `screening * batch size` of the correctly
            classified samples, by a first-order estimate; None searches all.
        keep_path: bool, whether to record the steps.
        box: what the samples may not leave, or None.

    Returns:
        The `Path`.
    """
    goal = goal_of(clean.logits, labels, num_candidates)
    state = _begin(clean, goal)
    # The variables of tf.while_loop cannot be None, so an empty tuple stands for no record.
    record: Any = empty_record(clean.x, max_iterations) if keep_path else ()
    walk = _Walk(classifier, goal, overshoot, box)
    number, searched = tf.constant(0), state.active
    estimate = tf.zeros_like(state.target, clean.x.dtype)
    if screening is None:
        # All samples take the first step, and its linearisation needs no other pass than the one that is there.
        nearest = linearise_towards_all(classifier, clean, state.current, goal.candidates)
        number, state, record = walk.step(number, state, record, Rows(), nearest)
    else:
        estimate, squared, searched = screen(
            classifier, clean, goal.correct, state.current, goal.candidates, overshoot=overshoot, fraction=screening
        )
        # Only the gradient towards the first candidate is known; the others are taken to be as long.
        state = state._replace(active=searched, squared=tf.broadcast_to(squared, tf.shape(state.squared)))
    _, state, record = tf.while_loop(
        lambda number, state, _: tf.logical_and(number < max_iterations, tf.reduce_any(state.active)),
        walk.next_step,
        (number, state, record),
    )
    return _path(classifier, clean, goal, state, record, estimate, searched)


def _begin(clean: CleanPass, goal: Goal) -> _State:
    """The state of each sample before the first step."""
    return _State(
        point=clean.x,
        logits=clean.logits,
        squared=tf.zeros_like(goal.candidates, clean.x.dtype),
        current=goal.prediction,
        source=goal.prediction,
        target=goal.candidates[:, 0],
        iterations=tf.zeros_like(goal.prediction),
        active=tf.ones_like(goal.correct),
    )


class _Walk(NamedTuple):
    """The steps of a search. Its methods take and return the loop's variables: step number, state and record."""

    classifier: Classifier
    goal: Goal
    overshoot: float
    box: Box | None

    def next_step(self, number: Tensor, state: _State, record: Any) -> tuple[Any, ...]:
        """Linearise anew where the samples are, and step."""
        rows = Rows(state.active)
        goal, here = rows.take(self.goal), rows.take(state)
        nearest = linearise_again(
            self.classifier,
            here.point,
            here.logits,
            here.current,
            goal.candidates,
            goal.allowed,
            here.squared,
            # To bound memory, linearise at most B pairs of image and class at once.
            at_a_time=tf.shape(state.point)[0],
        )
        return self.step(number, state, record, rows, nearest)

    def step(self, number: Tensor, state: _State, record: Any, rows: Rows, nearest: NearestBoundary) -> tuple[Any, ...]:
        """Move the samples of some rows beyond their nearest linear boundary, and record the step if steps are kept."""
        before = rows.take(state)
        box = None if self.box is None else rows.take(self.box)
        after = _beyond(nearest, self.classifier, rows.take(self.goal), before, self.overshoot, box)
        if record:
            step = Step(nearest.w, nearest.g, nearest.target, before.current)
            record = with_step(record, number, step, rows, state.point)
        return number + 1, rows.put(state, after), record


def _beyond(
    nearest: NearestBoundary,
    classifier: Classifier,
    goal: Goal,
    state: _State,
    overshoot: float,
    box: Box | None,
) -> _State:
    """The state after a step to beyond the nearest linear boundary."""
    w, g, target, squared = nearest
    point = state.point + shortest_step(norm_for(classifier), w, -(1.0 + overshoot) * g, state.point, box)
    logits = classifier(point)
    prediction = tf.argmax(logits, axis=1, output_type=tf.int32)
    return _State(
        point=point,
        logits=logits,
        squared=squared,
        current=tf.where(goal.correct, state.current, prediction),
        source=state.current,
        target=target,
        # A sample that is at the boundary already, g = 0, takes no step.
        iterations=state.iterations + tf.cast(g != 0.0, tf.int32),
        active=tf.logical_not(has_reached(logits, goal.correct, goal.label, state.current)),
    )


def has_reached(logits: Tensor, correct: Tensor, label: Tensor, current: Tensor) -> Tensor:
    """Whether correct samples are at or beyond the boundary of their class, misclassified ones of their label, [B]."""
    top = tf.reduce_max(logits, axis=1)
    # At a boundary, the two largest logits are equal, and either class may be called the prediction.
    is_shared = tf.reduce_sum(tf.cast(logits == top[:, None], tf.int32), axis=1) > 1
    own, wanted = (tf.gather(logits, classes, batch_dims=1) for classes in (current, label))
    return tf.where(correct, (own < top) | is_shared, wanted == top)


def _path(
    classifier: Classifier,
    clean: CleanPass,
    goal: Goal,
    state: _State,
    record: Any,
    estimate: Tensor,
    searched: Tensor,
) -> Path:
    """The result of a search, from the loop's last variables."""
    delta = state.point - clean.x
    w, g, targets, sources = [array.stack() for array in record] or [None] * 4
    return Path(
        x=clean.x,
        delta=delta,
        norm=tf.where(searched, norm_for(classifier).of(delta), estimate),
        prediction=goal.prediction,
        correct=goal.correct,
        source=state.source,
        target=state.target,
        iterations=state.iterations,
        success=tf.logical_and(searched, tf.logical_not(state.active)),
        searched=searched,
        w=w,
        g=g,
        targets=targets,
        sources=sources,
        # Training has checked its images before; other callers have not.
        checks=[finite_images(clean.x), *clean.checks],
    )
