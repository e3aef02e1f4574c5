"""DeepFool's search, over a whole batch and without gradients to the weights.

Which class each step aims at, and when a sample stops, are discrete and carry no gradient. So the
search only records its path. `keras_amm.gradient` later differentiates the few samples that the
aggregation selects.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution.xla import Rows
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import finite_images
from keras_amm.search.geometry import divide_by_squared_norm, expand_to, squared_norm
from keras_amm.search.linearisation import CleanPass, NearestBoundary, linearise_again, linearise_towards_all
from keras_amm.search.path import Path, Step, empty_record, with_step
from keras_amm.search.screening import screen
from keras_amm.typing import Tensor


class _Goal(NamedTuple):
    """What each sample is to reach, fixed from the start: k candidate classes, of which those allowed count."""

    prediction: Tensor
    label: Tensor
    correct: Tensor
    candidates: Tensor
    allowed: Tensor


class _State(NamedTuple):
    """Where each sample is, which changes from step to step.

    `squared` [B, k] are the last known squared norms of the gradients towards the candidates, `current` is the
    class to be left by the next step, `source` and `target` are those of the last step.
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
) -> Path:
    """Walk each sample to the nearest decision boundary (Equations 2-4).

    Args:
        classifier: the network.
        clean: its pass over the images.
        labels: int32 tensor [B], or None. A correctly classified sample is
            attacked untargeted, a misclassified one towards its label;
            without labels every sample is attacked untargeted.
        max_iterations: int, steps after which a sample is given up.
        num_candidates: int, the classes considered, those of the largest logits at `x`.
        overshoot: float, by what fraction each step goes beyond the linear boundary.
        screening: float in (0, 1], so many of the correctly classified samples as a fraction of
            the batch are searched, those nearest by a first-order estimate; None for all.
        keep_path: bool, whether to record the steps.

    Returns:
        The `Path`.
    """
    x = clean.x
    goal, state = _begin(clean, labels, num_candidates)
    record: Any = empty_record(x, max_iterations) if keep_path else ()

    def move(number: Tensor, state: _State, record: Any, rows: Rows, nearest: NearestBoundary) -> tuple[Any, ...]:
        here = rows.take(state)
        moved = _move(classifier, rows.take(goal), here, nearest, overshoot)
        if record:
            record = with_step(record, number, Step(nearest.w, nearest.g, nearest.target, here.current), rows, x)
        return number + 1, rows.put(state, moved), record

    def step(number: Tensor, state: _State, record: Any) -> tuple[Any, ...]:
        rows = Rows(state.active)
        # No more pairs of image and class at a time than there are images, for the memory of a large network.
        nearest = _nearest(classifier, rows.take(goal), rows.take(state), at_a_time=tf.shape(x)[0])
        return move(number, state, record, rows, nearest)

    number, searched = tf.constant(0), state.active
    if screening is None:
        estimate = tf.zeros(tf.shape(x)[:1], x.dtype)
        # The first step is everyone's, and the pass that it needs has been made.
        nearest = linearise_towards_all(classifier, clean, state.current, goal.candidates)
        number, state, record = move(number, state, record, Rows(), nearest)
    else:
        estimate, squared, searched = screen(
            classifier, clean, goal.correct, state.current, goal.candidates, overshoot=overshoot, fraction=screening
        )
        state = state._replace(active=searched, squared=squared * tf.ones_like(state.squared))
    _, state, record = tf.while_loop(
        lambda number, state, _: tf.logical_and(number < max_iterations, tf.reduce_any(state.active)),
        step,
        (number, state, record),
    )
    return _path(clean, goal, state, record, estimate, searched)


def _begin(clean: CleanPass, labels: Tensor | None, num_candidates: int) -> tuple[_Goal, _State]:
    """The goal of each sample, and its state before the first step."""
    _, ranked = tf.math.top_k(clean.logits, min(num_candidates, clean.logits.shape[1]))
    prediction = ranked[:, 0]
    correct = tf.ones_like(prediction, tf.bool) if labels is None else tf.equal(prediction, labels)
    label = prediction if labels is None else labels
    # A misclassified sample has one candidate, its label.
    candidates = tf.where(correct[:, None], ranked[:, 1:], label[:, None])
    allowed = correct[:, None] | (tf.range(candidates.shape[1]) == 0)
    state = _State(
        point=clean.x,
        logits=clean.logits,
        squared=tf.zeros_like(candidates, clean.x.dtype),
        current=prediction,
        source=prediction,
        target=candidates[:, 0],
        iterations=tf.zeros_like(prediction),
        active=tf.ones_like(correct),
    )
    return _Goal(prediction, label, correct, candidates, allowed), state


def _nearest(classifier: Classifier, goal: _Goal, state: _State, at_a_time: Tensor) -> NearestBoundary:
    return linearise_again(
        classifier,
        state.point,
        state.logits,
        state.current,
        goal.candidates,
        goal.allowed,
        state.squared,
        at_a_time=at_a_time,
    )


def _move(classifier: Classifier, goal: _Goal, state: _State, nearest: NearestBoundary, overshoot: float) -> _State:
    """The state after a step beyond the nearest linear boundary."""
    w, g, target, squared = nearest
    point = state.point - (1.0 + overshoot) * expand_to(divide_by_squared_norm(g, squared_norm(w)), w) * w
    logits = classifier(point)
    prediction = tf.argmax(logits, axis=1, output_type=tf.int32)
    return _State(
        point=point,
        logits=logits,
        squared=squared,
        current=tf.where(goal.correct, state.current, prediction),
        source=state.current,
        target=target,
        # From a boundary to itself is no step.
        iterations=state.iterations + tf.cast(g != 0.0, tf.int32),
        active=tf.logical_not(_has_reached(logits, goal, state.current)),
    )


def _has_reached(logits: Tensor, goal: _Goal, current: Tensor) -> Tensor:
    """Whether samples are at the boundary of their class, or misclassified ones of their label, or beyond; bool [B]."""
    top = tf.reduce_max(logits, axis=1)
    # At a boundary two logits are the largest, whichever of the two classes is called the prediction.
    is_shared = tf.reduce_sum(tf.cast(logits == top[:, None], tf.int32), axis=1) > 1
    own, wanted = (tf.gather(logits, classes, batch_dims=1) for classes in (current, goal.label))
    return tf.where(goal.correct, (own < top) | is_shared, wanted == top)


def _path(clean: CleanPass, goal: _Goal, state: _State, record: Any, estimate: Tensor, searched: Tensor) -> Path:
    delta = state.point - clean.x
    w, g, targets, sources = [array.stack() for array in record] or [None] * 4
    return Path(
        x=clean.x,
        delta=delta,
        norm=tf.where(searched, tf.sqrt(squared_norm(delta)), estimate),
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
        checks=[finite_images(clean.x), *clean.checks],
    )
