"""DeepFool, best first: only what may change the aggregation's choice is computed.

MIN counts at most the nearest sample of each class, among the nearest of the batch, so most of what a full search finds
is thrown away. The logits of the clean pass tell roughly which samples are near. The search goes on in rounds: what is
needed (`work_list`), evaluate it in one call of the network, and update the walks. It ends when nothing is
needed. The cheap and the rough search do not look where the last, short step of a correct sample leads, and the rough
one makes no round for the last walks alone: these take their next step unseen. Samples that were not searched have
estimates for norms, which take part in the ranks, and are never selected.
"""

import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.execution.loops import as_round
from keras_amm.execution.xla import choose, in_xla
from keras_amm.network.classifier import Classifier
from keras_amm.network.evaluation import difference_seeds, evaluate
from keras_amm.network.inputs import finite_images
from keras_amm.search import gradient_norms
from keras_amm.search.bounds import Reach, bounds, is_early, joined, of_other_replicas
from keras_amm.search.geometry import distance, divide_by_squared_norm, expand_to
from keras_amm.search.linearisation import CleanPass, goal_of, logit_difference, logit_differences
from keras_amm.search.loop import has_reached
from keras_amm.search.norms import Norm, norm_for
from keras_amm.search.path import Path
from keras_amm.search.walks import (
    FAILED,
    GOES_ON,
    NEAR,
    REACHED,
    Boundary,
    Classes,
    Found,
    Progress,
    Stride,
    Task,
    Walks,
    begin,
)
from keras_amm.search.work_list import Standing, Wanted, limits, needed
from keras_amm.typing import Tensor

# By the names of `MarginRegularizer(search=...)`.
REACHES = {
    "ranks": Reach(3.0, 1.0, 2.0, short=0.0, few=0.0),
    "cheap": Reach(2.0, 1.0, 0.0, short=0.1, few=0.0),
    "rough": Reach(0.7, 1.0, 0.0, short=0.5, few=0.3, part=0.7),
}

# Under XLA a round takes as many items as this part of the batch, and at least so many.
_PART, _LEAST = 5, 8


def search(
    classifier: Classifier,
    clean: CleanPass,
    labels: Tensor,
    wanted: Wanted,
    reach: Reach,
    *,
    max_iterations: int,
    num_candidates: int,
    overshoot: float,
    keep_path: bool = True,
    table: Tensor | None = None,
) -> Path:
    """Walk to the nearest decision boundary, for those samples that an aggregation may select (Equations 2-4).

    Args:
        classifier: the network.
        clean: its pass over the images.
        labels: int32 tensor [B].
        wanted: what the aggregation may select.
        reach: how far results may lie from what the batch shows.
        max_iterations: int, steps after which a sample is given up.
        num_candidates: int, the classes considered, those of the largest logits at `x`.
        overshoot: float, by what fraction each step goes beyond the linear boundary.
        keep_path: bool, whether to record the steps.
        table: float32 [gradient_norms.SIZE], what earlier batches tell of gradients; None for nothing.

    Returns:
        The `Path`.
    """
    stride = Stride(1.0 + overshoot, max_iterations, reach.short)
    table = tf.zeros([gradient_norms.SIZE]) if table is None else table
    task = _task(clean, labels, num_candidates, table)
    walks = begin(task, clean.logits, depth=max_iterations + 1 if keep_path else 1)
    early = is_early(task, walks.classes, wanted)
    others: Standing | None = None

    def what_is_needed(walks: Walks) -> tuple[Tensor, Tensor, Tensor]:
        known = bounds(task, walks, wanted, reach, stride.scale, early)
        limit = limits(joined(known.standing, others), wanted, clean.logits.shape[1])[: tf.size(labels)]
        return *needed(known, limit, task.correct, wanted), known.estimate

    def one_round(walks: Walks, items: Tensor, order: Tensor, estimate: Tensor) -> tuple[Walks, Tensor, Tensor, Tensor]:
        # A round takes all that one returns. TensorFlow warns of arguments with the name `_`.
        del estimate
        walks = walks.updated(_evaluate(classifier, task, walks, items, order, stride))
        return walks, *what_is_needed(walks)

    if replicas.are_several():
        # Replicas can exchange bounds outside of a loop only: those of the clean logits, and those after a round.
        others = of_other_replicas(bounds(task, walks, wanted, reach, stride.scale, early).standing)
        items, *rest = what_is_needed(walks)
        walks, *_ = one_round(walks, _at_least_one(items), *rest)
        others = of_other_replicas(bounds(task, walks, wanted, reach, stride.scale, early).standing)
    few = tf.cast(reach.few * tf.cast(tf.size(labels), tf.float32), tf.int32)

    def goes_on(walks: Walks, items: Tensor, *rest: Tensor) -> Tensor:
        del rest
        if not reach.few:
            return tf.reduce_any(items)
        far = items & ~walks.progress.is_close[:, None]
        return tf.reduce_any(far) | (tf.math.count_nonzero(items, dtype=tf.int32) > few)

    walks, items, _, estimate = tf.while_loop(
        goes_on, as_round(one_round), (walks, *what_is_needed(walks)), parallel_iterations=1
    )
    walks = walks.ended(tf.reduce_any(items, axis=1)) if reach.few else walks
    path = _path(classifier, clean, task, walks, estimate, stride)
    # A misclassified sample may have been in other classes since.
    squared = tf.where(task.correct[:, None], walks.classes.squared, 0.0)
    seen = gradient_norms.change(table, task.prediction, task.candidates, squared)
    return path._replace(gradient_norms=seen)


def _task(clean: CleanPass, labels: Tensor, num_candidates: int, table: Tensor) -> Task:
    """What each sample is to reach."""
    goal = goal_of(clean.logits, labels, num_candidates)
    expected = tf.cast(gradient_norms.expected(table, goal.prediction, goal.candidates), clean.x.dtype)
    return Task(x=clean.x, expected=expected, **goal._asdict())


def _at_least_one(items: Tensor) -> Tensor:
    """The items [B, k + 1], or the first if there are none, because networks refuse empty batches."""
    first = tf.reshape(tf.range(tf.size(items)) == 0, tf.shape(items))
    return tf.where(tf.reduce_any(items), items, first)


def _evaluate(classifier: Classifier, task: Task, walks: Walks, items: Tensor, order: Tensor, stride: Stride) -> Found:
    """What the items [B, k + 1] find; as many as fit go through the network as one batch."""
    size, columns = tf.shape(items)[0], items.shape[1]
    at_most = tf.minimum(tf.maximum(size // _PART, _LEAST), size * columns) if in_xla() else size
    item, counts = choose(tf.reshape(items, [-1]), tf.reshape(order, [-1]), at_most)
    sample, column = item // columns, item % columns
    is_step, norm = column == columns - 1, norm_for(classifier)
    task, point, progress, classes = tf.nest.map_structure(
        lambda values: tf.gather(values, sample), (task, walks.point, walks.packed_progress, walks.packed_classes)
    )
    progress, classes = Progress(*tf.unstack(progress, axis=1)), Classes(*tf.unstack(classes, axis=2))
    w, boundary = walks.here(progress.steps, sample)
    # From a boundary to itself is no step.
    has_moved = boundary.g != 0.0

    point += _step(norm, _where(is_step, boundary.g), progress.squared, w, stride.scale)
    logits, input_gradients = evaluate(classifier, point)
    reached, source, candidate, gap = _aim(task, boundary, classes, logits, is_step)
    candidate = tf.where(is_step, candidate, column)
    target = tf.gather(task.candidates, candidate, batch_dims=1)
    w = input_gradients(difference_seeds(source, target, logits.shape[1], logits.dtype))
    boundary, squared = Boundary(logit_difference(logits, source, target), source, candidate), norm.dual_squared(w)

    steps = progress.steps + tf.cast(is_step & has_moved, progress.steps.dtype)
    outcome = tf.where(reached, REACHED, tf.where(steps >= stride.at_most, FAILED, GOES_ON))
    far = distance(boundary.g, squared)
    goes_on = outcome == GOES_ON
    way = point - task.x + _step(norm, _where(goes_on, boundary.g), squared, w, stride.scale)
    norms = tf.where(goes_on & (far >= far.dtype.max), far.dtype.max, norm.of(way))
    # Half of the step before, too: a walk that creeps on by equal steps is near nothing. Misclassified samples are
    # looked at to the end, because a penalty may grow fast with their norms.
    is_near = goes_on & is_step & has_moved & task.correct
    is_near &= (far <= stride.short * norms) & (2.0 * far <= progress.distance)
    return Found(
        sample=sample,
        counts=counts,
        is_nearer=is_step | ~(far >= progress.distance),
        point=point,
        w=w,
        boundary=boundary,
        progress=Progress(
            norm=norms,
            first=tf.where(steps > 0, progress.first, norms),
            distance=far,
            squared=squared,
            steps=steps,
            outcome=tf.cast(tf.where(is_near, NEAR, outcome), norms.dtype),
        ),
        classes=Classes(tf.where(is_step[:, None], gap, classes.gap), classes.squared),
    )


def _aim(
    task: Task, boundary: Boundary, classes: Classes, logits: Tensor, is_step: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Whether steps have reached their goals [R], the class to be left [R], the candidate to aim at [R], gaps [R, k].

    The aim is the class that seems nearest by the last known norms of the gradients. Where the goal is reached, it is
    the boundary that was crossed.
    """
    prediction = tf.argmax(logits, axis=1, output_type=tf.int32)
    reached = is_step & has_reached(logits, task.correct, task.label, boundary.source)
    source = tf.where(is_step & ~task.correct & ~reached, prediction, boundary.source)
    gap = tf.abs(logit_differences(logits, source, task.candidates))
    gap = tf.where(task.allowed, gap, tf.constant(float("inf"), gap.dtype))
    relative = Classes(gap, classes.squared).divided_by(task.expected)
    squared = tf.where(relative.squared > 0.0, relative.squared, relative.squared[:, :1])
    seems_nearest = tf.argmin(distance(relative.gap, squared), axis=1, output_type=tf.int32)
    return reached, source, tf.where(reached, boundary.candidate, seems_nearest), gap


def _where(mask: Tensor, g: Tensor) -> Tensor:
    """g [R] where the mask is set, and elsewhere 0, from which there is no step."""
    return tf.where(mask, g, tf.zeros_like(g))


def _step(norm: Norm, g: Tensor, squared: Tensor, w: Tensor, scale: float) -> Tensor:
    """The step [R, ...] beyond the linear boundary g = 0, given the squared dual norms of w; zero where g or w is."""
    step = -scale * expand_to(divide_by_squared_norm(g, squared), w) * norm.dual_map(w)
    # Where no step is taken, w may be NaN or infinite: at the end of a walk its gradient was never needed.
    return tf.where(expand_to(g != 0.0, w), step, tf.zeros_like(step))


def _path(
    classifier: Classifier,
    clean: CleanPass,
    task: Task,
    walks: Walks,
    estimate: Tensor,
    stride: Stride,
) -> Path:
    """What was found; a sample that is stuck counts as searched, for its attack can only fail.

    Walks that are near take their next step, and count as if it reached the boundary.
    """
    progress, norm = walks.progress, norm_for(classifier)
    searched = progress.done | progress.is_stuck
    g, sources, candidates = tf.unstack(walks.boundaries[: stride.at_most], axis=2)
    sources, candidates = (tf.cast(part, tf.int32) for part in (sources, candidates))
    targets = tf.gather(task.candidates[None] + tf.zeros_like(candidates)[..., None], candidates, batch_dims=2)
    samples = tf.range(tf.size(progress.steps))
    w, boundary = walks.here(progress.steps, samples)
    delta = walks.point - clean.x + _step(norm, _where(progress.is_near, boundary.g), progress.squared, w, stride.scale)
    has_steps = walks.w.shape[0] > 1
    return Path(
        x=clean.x,
        delta=delta,
        norm=tf.where(searched, norm.of(delta), estimate),
        prediction=task.prediction,
        correct=task.correct,
        source=boundary.source,
        target=tf.gather(task.candidates, boundary.candidate, batch_dims=1),
        iterations=tf.cast(progress.steps, tf.int32) + tf.cast(progress.is_near, tf.int32),
        success=progress.success,
        searched=searched,
        w=walks.w[: stride.at_most] if has_steps else None,
        g=g if has_steps else None,
        targets=targets if has_steps else None,
        sources=sources if has_steps else None,
        checks=[finite_images(clean.x), *clean.checks],
        estimated=task.correct & ~searched,
        normal=w,
    )
