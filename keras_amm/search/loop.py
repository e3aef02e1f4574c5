"""DeepFool's search, over a whole batch and without gradients to the weights.

Which class each step aims at, and when a sample stops, are discrete and carry
no gradient. So the search only records its path, from which `adjoint` later
differentiates the few samples that the aggregation selects.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.execution.checks import Check, in_xla
from keras_amm.network.classifier import Classifier
from keras_amm.network.inputs import finite_images
from keras_amm.search.geometry import distance, divide_by_squared_norm, expand_to, squared_norm
from keras_amm.search.linearisation import (
    CleanPass,
    NearestBoundary,
    clean_pass,
    linearise_towards_all,
    linearise_towards_few,
)


class Path(NamedTuple):
    """What a search found, and the way it went. S steps, batch size B.

    Attributes:
        x: float tensor [B, ...], where the search started.
        delta: float tensor [B, ...], the perturbation.
        norm: float tensor [B], its l2 norm.
        prediction: int32 tensor [B], the class predicted at `x`.
        correct: boolean tensor [B], whether that is the label; all True in a
            search without labels.
        source: int32 tensor [B], the class the last step led away from.
        target: int32 tensor [B], the class the last step aimed at.
        iterations: int32 tensor [B], the number of steps taken.
        success: boolean tensor [B], whether the goal was reached.
        searched: boolean tensor [B], False for samples that were screened out;
            their norm is the first-order estimate and their path is empty.
        w: None if the path was not kept, or float tensor [S, B, ...], per step
            the gradient of g with respect to the point.
        g: None, or float tensor [S, B], per step the logit of the target less the one of the source.
        targets: None, or int32 tensor [S, B].
        sources: None, or int32 tensor [S, B].
        checks: what the values must satisfy for all this to be meaningful.
    """

    x: Any
    delta: Any
    norm: Any
    prediction: Any
    correct: Any
    source: Any
    target: Any
    iterations: Any
    success: Any
    searched: Any
    w: Any
    g: Any
    targets: Any
    sources: Any
    checks: list[Check]


class _Start(NamedTuple):
    """What the search knows before its first step."""

    x: Any
    logits: Any
    labels: Any
    prediction: Any
    correct: Any
    candidates: Any
    allowed: Any


class _State(NamedTuple):
    """What changes from step to step, for the whole batch."""

    i: Any
    point: Any
    logits: Any
    squared: Any
    prediction: Any
    source: Any
    target: Any
    iterations: Any
    active: Any
    record: tuple[Any, ...]


def search(
    classifier: Classifier,
    clean: CleanPass,
    labels: Any | None,
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
        keep_path: bool, whether to record the steps for `adjoint`.

    Returns:
        The `Path`.
    """
    start = _start(clean, labels, num_candidates)
    state = _initial(start, max_iterations if keep_path else None)

    def step(state: _State) -> _State:
        if in_xla():
            # Its shapes are static: samples that stopped are carried along, and classes that are far away.
            here = start._replace(x=state.point)
            nearest = linearise_towards_all(
                classifier, clean_pass(classifier, here.x), state.prediction, here.candidates
            )
            return _advance(classifier, state, here, state.prediction, nearest, overshoot, _put_masked(state.active))
        index = tf.where(state.active)[:, 0]
        here = _Start(*(tf.gather(field, index) for field in start))
        x, logits, source, squared = (
            tf.gather(field, index) for field in (state.point, state.logits, state.prediction, state.squared)
        )
        # No more pairs of image and class at a time than there are images, for the memory of a large network.
        size = tf.shape(start.prediction)[0]
        nearest = linearise_towards_few(
            classifier, x, logits, source, here.candidates, here.allowed, squared, at_a_time=size
        )
        return _advance(classifier, state, here._replace(x=x), source, nearest, overshoot, _put_at(index))

    if screening is None:
        # The first step is everyone's, and its forward pass has been made.
        nearest = linearise_towards_all(classifier, clean, start.prediction, start.candidates)
        estimate = tf.zeros_like(nearest.g)
        state = _advance(classifier, state, start, start.prediction, nearest, overshoot, _put_everywhere)
        searched = tf.ones_like(start.correct)
    else:
        estimate, squared, searched = _screen(classifier, clean, start, overshoot, screening)
        state = state._replace(active=searched, squared=squared * tf.ones_like(state.squared))
    (state,) = tf.while_loop(
        lambda state: tf.logical_and(state.i < max_iterations, tf.reduce_any(state.active)),
        lambda state: (step(state),),
        (state,),
        shape_invariants=(_shapes(start, state),),
    )
    return _finish(start, state, estimate, searched, clean.checks)


def _start(clean: CleanPass, labels: Any | None, num_candidates: int) -> _Start:
    _, candidates = tf.math.top_k(clean.logits, min(num_candidates, clean.logits.shape[1]))
    prediction = candidates[:, 0]
    correct = tf.ones_like(prediction, tf.bool) if labels is None else tf.equal(prediction, labels)
    labels = prediction if labels is None else labels
    # A misclassified sample has one candidate, its label.
    others = tf.where(correct[:, None], candidates[:, 1:], labels[:, None])
    allowed = correct[:, None] | (tf.range(others.shape[1]) == 0)
    return _Start(clean.x, clean.logits, labels, prediction, correct, others, allowed)


def _initial(start: _Start, max_recorded: int | None) -> _State:
    per_sample = start.prediction.shape
    parts = (
        (start.x.dtype, start.x.shape),
        (start.x.dtype, per_sample),
        (tf.int32, per_sample),
        (tf.int32, per_sample),
    )
    record = [_array(dtype, shape, max_recorded) for dtype, shape in parts] if max_recorded else []
    return _State(
        i=tf.constant(0),
        point=start.x,
        logits=start.logits,
        squared=tf.zeros_like(start.candidates, start.x.dtype),
        prediction=start.prediction,
        source=start.prediction,
        target=start.candidates[:, 0],
        iterations=tf.zeros_like(start.prediction),
        active=tf.ones_like(start.correct),
        record=tuple(record),
    )


def _array(dtype: Any, shape: Any, size: int) -> Any:
    static = in_xla()
    return tf.TensorArray(dtype, size=size if static else 0, dynamic_size=not static, element_shape=shape)


def _shapes(start: _Start, state: _State) -> _State:
    per_sample = start.prediction.shape
    record = tuple(tf.TensorShape(None) for _ in state.record)
    return _State(
        i=tf.TensorShape([]),
        point=start.x.shape,
        logits=start.logits.shape,
        squared=start.candidates.shape,
        prediction=per_sample,
        source=per_sample,
        target=per_sample,
        iterations=per_sample,
        active=per_sample,
        record=record,
    )


def _screen(
    classifier: Classifier, clean: CleanPass, start: _Start, overshoot: float, fraction: float
) -> tuple[Any, Any, Any]:
    """Norms estimated by one gradient, towards the runner-up or the label, its length, and who is to be searched."""
    runner_up = linearise_towards_all(classifier, clean, start.prediction, start.candidates[:, :1])
    estimate = (1.0 + overshoot) * distance(runner_up.g, runner_up.squared[:, 0])
    correct = replicas.gather(start.correct)
    rank = tf.argsort(tf.argsort(tf.where(correct, replicas.gather(estimate), estimate.dtype.max)))
    # Of the batch, as the aggregation counts too: of few correct samples all may matter.
    is_near = tf.cast(rank, tf.float32) < tf.math.ceil(fraction * tf.cast(tf.size(correct), tf.float32))
    is_near = replicas.own_part(is_near, tf.size(estimate))
    return estimate, runner_up.squared, tf.logical_or(tf.logical_not(start.correct), is_near)


def _advance(
    classifier: Classifier,
    state: _State,
    here: _Start,
    source: Any,
    nearest: NearestBoundary,
    overshoot: float,
    put: Callable[[Any, Any], Any],
) -> _State:
    """Take the step towards the nearest boundary, for the samples that `put` puts into the batch."""
    w, g, target, squared = nearest
    point = here.x - (1.0 + overshoot) * expand_to(divide_by_squared_norm(g, squared_norm(w)), w) * w
    logits = classifier(point)
    prediction = tf.argmax(logits, axis=1, output_type=tf.int32)
    stopped = tf.where(here.correct, prediction != source, prediction == here.labels)
    steps = tf.fill(tf.shape(source), state.i + 1)
    return _State(
        i=state.i + 1,
        point=tf.ensure_shape(put(state.point, point), state.point.shape),
        logits=tf.ensure_shape(put(state.logits, logits), state.logits.shape),
        squared=put(state.squared, squared),
        prediction=put(state.prediction, tf.where(here.correct, source, prediction)),
        source=put(state.source, source),
        target=put(state.target, target),
        iterations=put(state.iterations, steps),
        active=put(state.active, tf.logical_not(stopped)),
        record=_written(state, put, (w, g, target, source)),
    )


def _written(state: _State, put: Callable[[Any, Any], Any], step: tuple[Any, ...]) -> tuple[Any, ...]:
    """The record with one more step, in which samples that stopped have zeros."""
    whole = (state.point, tf.cast(state.source, state.point.dtype), state.target, state.source)
    return tuple(
        array.write(state.i, put(tf.zeros_like(like_this), part))
        for array, like_this, part in zip(state.record, whole, step, strict=False)
    )


def _finish(start: _Start, state: _State, estimate: Any, searched: Any, checks: list[Check]) -> Path:
    delta = state.point - start.x
    w, g, targets, sources = [array.stack() for array in state.record] or [None] * 4
    return Path(
        x=start.x,
        delta=delta,
        norm=tf.where(searched, tf.sqrt(squared_norm(delta)), estimate),
        prediction=start.prediction,
        correct=start.correct,
        source=state.source,
        target=state.target,
        iterations=state.iterations,
        success=tf.logical_and(searched, tf.logical_not(state.active)),
        searched=searched,
        w=w,
        g=g,
        targets=targets,
        sources=sources,
        checks=[finite_images(start.x), *checks],
    )


def _put_everywhere(old: Any, new: Any) -> Any:
    del old
    return new


def _put_at(index: Any) -> Callable[[Any, Any], Any]:
    return lambda old, new: tf.tensor_scatter_nd_update(old, index[:, None], new)


def _put_masked(mask: Any) -> Callable[[Any, Any], Any]:
    return lambda old, new: tf.where(expand_to(mask, new), new, old)
