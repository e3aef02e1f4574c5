"""What a best-first search knows of norms that it has not computed: a lower bound, an estimate, and its doubt."""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution import replicas
from keras_amm.search.geometry import expand_to
from keras_amm.search.spreads import Spreads, spreads
from keras_amm.search.walks import Classes, Progress, Task, Walks
from keras_amm.search.work_list import Known, Standing, Wanted, nth_least
from keras_amm.typing import Tensor


class Reach(NamedTuple):
    """How far results may lie from what the batch shows: the greater, the more is computed, and the less is missed.

    Attributes:
        gradients: of the norms of gradients and walks, in standard deviations.
        again: of the norms of gradients that were known at an earlier point of the walk, as a factor.
        ranks: of the norms of walks whose rank alone matters, in standard deviations; 0 takes estimates for norms.
        short: a step that is no longer than this part of the whole walk, and not its first, is taken without another
            look at where it leads, and ends the walk; 0 looks at all.
        few: when no more items are needed than this part of the number of samples, and the walks of all are close to
            a boundary (`Progress.is_close`), the search ends: these walks, also of misclassified samples, take the step
            to the nearest boundary that they know without another look.
        part: where an aggregation counts all correct samples, those nearest are searched and count, as many as this
            part of the batch; None for all.
    """

    gradients: float
    again: float
    ranks: float
    short: float
    few: float
    part: float | None = None


def bounds(task: Task, walks: Walks, wanted: Wanted, reach: Reach, scale: float, early: Tensor) -> Known:
    """What is known of walks whose steps go to `scale` times the distance of a boundary; `early` is `is_early`."""
    progress, classes = walks.progress, walks.classes.divided_by(task.expected)
    seen = spreads(classes.squared, progress.first, progress.norm, progress.success & task.correct)
    at_first_point = progress.steps == 0.0
    of_classes, likely = (scale * distances for distances in _distances(progress, classes, early, seen, reach))
    # The next step may be towards a class that is nearer than the nearest boundary that is known.
    nearest = tf.reduce_min(of_classes, axis=1)
    instead = tf.where(progress.is_stuck, nearest, progress.norm - scale * progress.distance + nearest)
    lower = tf.minimum(progress.norm * seen.shrinkage.at(-reach.gradients), instead)
    lower = tf.where(progress.has_started, lower, of_classes[:, 0])
    first = seen.growth.at(0.0) * tf.minimum(progress.norm, tf.reduce_min(likely, axis=1))
    estimate = tf.where(at_first_point, tf.minimum(first, first.dtype.max), progress.norm)
    doubt = tf.where(
        progress.has_started, seen.growth.deviation, tf.norm([seen.growth.deviation, seen.runner_up.deviation])
    )
    factor = tf.exp(reach.ranks * doubt)
    low, high = tf.maximum(estimate / factor, lower), tf.math.multiply_no_nan(factor, estimate)
    lower, low, high = (tf.where(progress.done, progress.norm, norm) for norm in (lower, low, high))
    unit = tf.ones((), estimate.dtype) if wanted.unit is None else wanted.unit
    standing = Standing(
        label=task.label,
        counts=task.correct & (~progress.done | progress.success),
        done=progress.done,
        estimate=estimate / unit,
        low=low / unit,
        high=high / unit,
    )
    return Known(
        standing=standing,
        lower=lower / unit,
        of_classes=of_classes / expand_to(unit, of_classes),
        of_nearest=scale * progress.distance / unit,
        is_stuck=progress.is_stuck,
        estimate=estimate,
    )


def is_early(task: Task, classes: Classes, wanted: Wanted) -> Tensor:
    """Which correct samples seem nearest before anything is computed, as many as may be selected, boolean [B]."""
    if wanted.top is None:
        return task.correct
    gap = classes.divided_by(task.expected).gap[:, 0]
    gap = gap if wanted.unit is None else gap / wanted.unit
    gap = tf.where(task.correct, gap, tf.constant(float("inf"), gap.dtype))
    return task.correct & (gap <= nth_least(gap, tf.minimum(wanted.top, tf.size(gap))))


def _distances(
    progress: Progress, classes: Classes, early: Tensor, seen: Spreads, reach: Reach
) -> tuple[Tensor, Tensor]:
    """For each candidate [B, k] the least distance and the likely one, infinite where it is not to be probed.

    Of a sample that has not started the runner-up is. If it is early [B], likely to be searched to its end, so are
    classes that may be as near: they need not wait for the runner-up's gradient, which would be another call.
    """
    has_started = progress.has_started[:, None]
    is_known = (classes.squared > 0.0) & (progress.steps > 0.0)[:, None]
    norm = tf.sqrt(classes.squared)
    likely = tf.where(has_started, norm[:, :1] * seen.other.at(0.0), seen.runner_up.at(0.0))
    doubt = tf.where(has_started, seen.other.deviation, seen.runner_up.deviation)
    likely, factor = (
        tf.where(is_known, norm, likely),
        tf.where(is_known, tf.constant(reach.again, norm.dtype), tf.exp(reach.gradients * doubt)),
    )
    at_once = early[:, None] & (classes.gap < tf.exp(reach.gradients * seen.other.deviation) * classes.gap[:, :1])
    is_first = tf.range(classes.gap.shape[1]) == 0
    is_open = (classes.gap < float("inf")) & (has_started | is_first | at_once)
    infinity = tf.constant(float("inf"), norm.dtype)

    def distances(norm: Tensor) -> Tensor:
        # A sample without a gradient tells nothing of its other classes: they may be at no distance.
        has_gradient = norm > 0.0
        distance = classes.gap / tf.where(has_gradient, norm, tf.ones_like(norm))
        return tf.where(is_open, tf.where(has_gradient, distance, tf.zeros_like(norm)), infinity)

    return distances(likely * factor), distances(likely)


def of_other_replicas(standing: Standing) -> Standing:
    """The standing of the global batch, of which only the samples of other replicas count.

    Their walks are not known here, so the upper end of a likely norm stands for the estimate.
    """
    size = tf.size(standing.label)
    everyone = Standing(*(replicas.gather(values) for values in standing))
    number = tf.range(tf.size(everyone.label))
    own = replicas.own_part(number, size)
    is_own = (number >= own[0]) & (number < own[0] + size)
    return everyone._replace(estimate=everyone.high, counts=everyone.counts & ~is_own)


def joined(own: Standing, others: Standing | None) -> Standing:
    """The samples of this replica, followed by those of others."""
    return own if others is None else Standing(*(tf.concat(pair, axis=0) for pair in zip(own, others, strict=True)))
