"""DeepFool's search, over a whole batch and without gradients to the weights.

Which class each step aims at, and when a sample stops, are discrete and carry
no gradient. So the search only records its path, from which `adjoint` later
differentiates the few samples that the aggregation selects.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm import replicas
from keras_amm.checks import Check, in_xla
from keras_amm.classifier import Classifier, finite_images
from keras_amm.norms import distance, like, over, squared_norm


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


class CleanPass(NamedTuple):
    """The network's pass over unperturbed images, recorded so that it can be differentiated.

    Attributes:
        x: float tensor [B, ...], watched by the tape.
        logits: float tensor [B, C].
        checks: what `x` and the logits must satisfy.
        tape: persistent `tf.GradientTape` that recorded the pass.
    """

    x: Any
    logits: Any
    checks: list[Check]
    tape: tf.GradientTape


class _Start(NamedTuple):
    """What the search knows before its first step."""

    x: Any
    labels: Any
    prediction: Any
    correct: Any
    candidates: Any


class _State(NamedTuple):
    """What changes from step to step, for the whole batch."""

    i: Any
    point: Any
    prediction: Any
    source: Any
    target: Any
    iterations: Any
    active: Any
    record: tuple[Any, ...]


def clean_pass(classifier: Classifier, x: Any) -> CleanPass:
    """Run the network over images and record it.

    Args:
        classifier: the network.
        x: float tensor [B, ...].

    Returns:
        A `CleanPass`.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> keras_amm.search.clean_pass(keras_amm.classifier.Classifier(model), tf.zeros((4, 2))).logits.shape
    TensorShape([4, 3])
    """
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        logits, checks = classifier.logits(x)
    return CleanPass(x, logits, checks, tape)


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
        screening: float in (0, 1], the fraction of the correctly classified
            samples, nearest by a first-order estimate, that is searched; None for all.
        keep_path: bool, whether to record the steps for `adjoint`.

    Returns:
        The `Path`.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> classifier = keras_amm.classifier.Classifier(model)
    >>> path = keras_amm.search.search(classifier, keras_amm.search.clean_pass(classifier, tf.zeros((4, 2))),
    ...     None, max_iterations=6, num_candidates=3, overshoot=0.02)
    >>> path.norm.shape
    TensorShape([4])
    """
    start = _start(clean, labels, num_candidates)
    state = _initial(start, max_iterations if keep_path else None)

    def step(state: _State) -> _State:
        parts = _parts(start, state, with_labels=labels is not None)
        moves = [_move(classifier, start, state, index, number) for index, number in parts]
        index, here, source, nearest = tf.nest.map_structure(lambda *each: tf.concat(each, axis=0), *moves)
        return _advance(classifier, state, here, index, source, nearest, overshoot)

    if screening is None:
        # The first step is everyone's, and its forward pass has been made.
        nearest = _nearest(classifier, clean, start.prediction, start.candidates)
        estimate = tf.zeros_like(nearest[1])
        state = _advance(classifier, state, start, None, start.prediction, nearest, overshoot)
        searched = tf.ones_like(start.correct)
    else:
        estimate, searched = _screen(classifier, clean, start, overshoot, screening)
        state = state._replace(active=searched)
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
    others = tf.where(correct[:, None], candidates[:, 1:], labels[:, None])
    return _Start(clean.x, labels, prediction, correct, others)


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
    per_sample = tf.TensorShape([None])
    record = tuple(tf.TensorShape(None) for _ in state.record)
    return _State(
        i=tf.TensorShape([]),
        point=start.x.shape,
        prediction=per_sample,
        source=per_sample,
        target=per_sample,
        iterations=per_sample,
        active=per_sample,
        record=record,
    )


def _gather(start: _Start, index: Any) -> _Start:
    return _Start(*(tf.gather(field, index) for field in start))


def _parts(start: _Start, state: _State, *, with_labels: bool) -> list[tuple[Any, int | None]]:
    """The samples that still move, as indices, with the number of candidates they need (None: all)."""
    # Samples that stopped drop out, except under XLA, whose shapes are static.
    if in_xla():
        return [(tf.range(tf.shape(start.prediction)[0]), None)]
    if not with_labels:
        return [(_where(state.active), None)]
    # A misclassified sample has one candidate, its label, and takes the most steps.
    wrong = tf.logical_not(start.correct)
    return [(_where(state.active & start.correct), None), (_where(state.active & wrong), 1)]


def _where(mask: Any) -> Any:
    return tf.cast(tf.where(mask)[:, 0], tf.int32)


def _move(
    classifier: Classifier, start: _Start, state: _State, index: Any, number: int | None
) -> tuple[Any, _Start, Any, Any]:
    """Where the samples of `index` are, and the nearest boundary of each."""
    # Networks refuse empty batches: the first sample stands in, and is taken out again.
    size = tf.size(index)
    filled = index if in_xla() else tf.pad(index, [[0, tf.cast(tf.equal(size, 0), tf.int32)]])
    here = _gather(start, filled)._replace(x=tf.gather(state.point, filled))
    source = tf.gather(state.prediction, filled)
    nearest = _nearest(classifier, clean_pass(classifier, here.x), source, here.candidates[:, :number])
    if in_xla():
        return index, here, source, nearest
    return tf.nest.map_structure(lambda field: field[:size], (index, here, source, nearest))


def _screen(
    classifier: Classifier, clean: CleanPass, start: _Start, overshoot: float, fraction: float
) -> tuple[Any, Any]:
    """Norms estimated by one gradient, towards the runner-up or the label, and who is to be searched."""
    w, g, _ = _nearest(classifier, clean, start.prediction, start.candidates[:, :1])
    estimate = (1.0 + overshoot) * distance(g, squared_norm(w))
    correct = replicas.gather(start.correct)
    rank = tf.argsort(tf.argsort(tf.where(correct, replicas.gather(estimate), estimate.dtype.max)))
    num_correct = tf.reduce_sum(tf.cast(correct, tf.float32))
    is_near = tf.cast(rank, tf.float32) < tf.math.ceil(fraction * num_correct)
    is_near = replicas.own_part(is_near, tf.size(estimate))
    return estimate, tf.logical_or(tf.logical_not(start.correct), is_near)


def _advance(
    classifier: Classifier,
    state: _State,
    here: _Start,
    index: Any,
    source: Any,
    nearest: tuple[Any, Any, Any],
    overshoot: float,
) -> _State:
    """Take the step towards the nearest boundary; `index` None stands for the whole batch."""
    w, g, target = nearest
    point = here.x - (1.0 + overshoot) * like(over(g, squared_norm(w)), w) * w
    prediction = tf.argmax(classifier(point), axis=1, output_type=tf.int32)
    stopped = tf.where(here.correct, prediction != source, prediction == here.labels)
    put = _put_everywhere if index is None else _put_masked(state.active) if in_xla() else _put_at(index)
    steps = tf.fill(tf.shape(source), state.i + 1)
    return _State(
        i=state.i + 1,
        point=tf.ensure_shape(put(state.point, point), state.point.shape),
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


def _nearest(classifier: Classifier, clean: CleanPass, source: Any, candidates: Any) -> tuple[Any, Any, Any]:
    """Gradient, value and class of the logit difference whose linear boundary is nearest."""
    with clean.tape:
        values = differences(clean.logits, source, candidates)
        columns = tf.unstack(values, axis=1)
    gradients = _gradients(classifier, clean, values, columns)
    squared = tf.transpose(squared_norm(gradients, lead=2))
    nearest = tf.argmin(distance(values, squared), axis=1, output_type=tf.int32)
    at = tf.stack([nearest, tf.range(tf.shape(nearest)[0])], axis=1)
    w = tf.gather_nd(gradients, at)
    return w, tf.gather(values, nearest, batch_dims=1), tf.gather(candidates, nearest, batch_dims=1)


def _gradients(classifier: Classifier, clean: CleanPass, values: Any, columns: list[Any]) -> Any:
    """The gradients of k logit differences, [k, B, ...]."""
    number = len(columns)
    if number == 1 or not classifier.is_dense:
        # One pass per candidate: faster than a vectorised Jacobian where there
        # are convolutions, lighter in memory, and possible for any layer.
        found = [
            clean.tape.gradient(column, clean.x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            for column in columns
        ]
        return tf.stack(found)

    def gradient(k: Any) -> Any:
        seed = tf.repeat(tf.one_hot([k], number, dtype=values.dtype), tf.shape(values)[0], axis=0)
        return clean.tape.gradient(
            values, clean.x, output_gradients=seed, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )

    return tf.vectorized_map(gradient, tf.range(number))


def differences(logits: Any, source: Any, candidates: Any) -> Any:
    """Logits of the candidates less the one of the source class.

    Args:
        logits: float tensor [B, C].
        source: int32 tensor [B].
        candidates: int32 tensor [B, k].

    Returns:
        Float tensor [B, k].

    Example:
    >>> keras_amm.search.differences(tf.constant([[1.0, 4.0]]), tf.constant([1]), tf.constant([[0]])).numpy()
    array([[-3.]], dtype=float32)
    """
    return tf.gather(logits, candidates, batch_dims=1) - tf.gather(logits, source[:, None], batch_dims=1)


def _put_everywhere(old: Any, new: Any) -> Any:
    del old
    return new


def _put_at(index: Any) -> Callable[[Any, Any], Any]:
    return lambda old, new: tf.tensor_scatter_nd_update(old, index[:, None], new)


def _put_masked(mask: Any) -> Callable[[Any, Any], Any]:
    return lambda old, new: tf.where(like(mask, new), new, old)
