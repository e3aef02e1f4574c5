"""The state of a best-first search: where each sample of a batch is on its walk, in few tensors.

Numbers that change together share a tensor, for on a small network the many operations that would update them one by
one take longer than the network does.
"""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution.xla import put_rows
from keras_amm.search.linearisation import logit_differences
from keras_amm.typing import Tensor

# What has become of a walk. One that is near its goal ends with its next step, and counts as if that reached it.
GOES_ON, FAILED, REACHED, NEAR = 0.0, 1.0, 2.0, 3.0


class Stride(NamedTuple):
    """How walks go on.

    Attributes:
        scale: a step goes to so many times the distance of the linear boundary.
        at_most: the number of steps after which a walk has failed.
        short: a walk is near its goal when the next step is no longer than this part of it.
    """

    scale: float
    at_most: int
    short: float


class Task(NamedTuple):
    """What each of B samples is to reach, with k candidate classes, of which those allowed count.

    Attributes:
        x: float [B, ...], where the walk begins.
        label: int32 [B].
        prediction: int32 [B], the class predicted at x.
        correct: boolean [B], whether these two are the same.
        candidates: int32 [B, k], of a correct sample the other classes, that of the largest logit first; of a
            misclassified one its label, and the others do not count.
        allowed: boolean [B, k], which candidates count.
        expected: float [B, k], up to a factor that all share, the norms that gradients towards them have in general.
    """

    x: Tensor
    label: Tensor
    prediction: Tensor
    correct: Tensor
    candidates: Tensor
    allowed: Tensor
    expected: Tensor


class Progress(NamedTuple):
    """How far b walks are, float tensors [b].

    Attributes:
        norm: the norm after the next step; of a walk that has ended, its norm; infinite before anything is computed.
        first: the norm after the first step, known before it is taken; infinite before anything is computed.
        distance: that of the nearest boundary known at the point; infinite before any is.
        squared: the squared dual norm of the gradient towards it.
        steps: the number of steps taken.
        outcome: `GOES_ON`, `FAILED`, `REACHED` or `NEAR`.
    """

    norm: Tensor
    first: Tensor
    distance: Tensor
    squared: Tensor
    steps: Tensor
    outcome: Tensor

    @property
    def has_started(self) -> Tensor:
        """Whether any gradient of the sample was computed, boolean [b]."""
        return self.first < float("inf")

    @property
    def done(self) -> Tensor:
        """Whether the walk has ended, boolean [b]."""
        return self.outcome > GOES_ON

    @property
    def success(self) -> Tensor:
        """Whether it has reached its goal, or is near it, boolean [b]."""
        return self.outcome >= REACHED

    @property
    def is_near(self) -> Tensor:
        """Whether it ends with the step that is left, boolean [b]."""
        return self.outcome >= NEAR

    @property
    def is_stuck(self) -> Tensor:
        """Whether no boundary known at the point has a gradient, so that no step can be taken, boolean [b]."""
        return ~self.done & self.has_started & (self.distance >= self.distance.dtype.max)

    @property
    def is_close(self) -> Tensor:
        """Whether a boundary is known, and the steps so far have halved the distance to it on average, boolean [b]."""
        half = tf.constant(0.5, self.steps.dtype)
        return self.has_started & ~self.is_stuck & (self.distance <= tf.pow(half, self.steps) * self.first)


class Classes(NamedTuple):
    """What b samples know of their k candidate classes, float tensors [b, k].

    Attributes:
        gap: the logit difference at the point; infinite if the class is not to be probed (any more).
        squared: the last known squared dual norm of its gradient; 0 where none is known.
    """

    gap: Tensor
    squared: Tensor

    def divided_by(self, expected: Tensor) -> "Classes":
        """Both in units of expected norms [b, k]; distances stay as they are."""
        return Classes(self.gap / expected, self.squared / tf.square(expected))


class Boundary(NamedTuple):
    """A boundary linearised at the points of b samples: g [b], the class to be left, and which candidate is beyond."""

    g: Tensor
    source: Tensor
    candidate: Tensor


class Walks(NamedTuple):
    """Where B samples are, packed.

    Attributes:
        point: float [B, ...].
        w: float [S, B, ...], for each point of a walk the gradient of its nearest boundary; S = 1 keeps the last alone.
        boundaries: float [S, B, 3], that `Boundary`.
        packed_progress: float [B, 6], a `Progress`.
        packed_classes: float [B, k, 2], a `Classes`.
    """

    point: Tensor
    w: Tensor
    boundaries: Tensor
    packed_progress: Tensor
    packed_classes: Tensor

    @property
    def progress(self) -> Progress:
        """How far the walks are."""
        return Progress(*tf.unstack(self.packed_progress, axis=1))

    @property
    def classes(self) -> Classes:
        """What is known of the candidate classes."""
        return Classes(*tf.unstack(self.packed_classes, axis=2))

    def here(self, steps: Tensor, samples: Tensor) -> tuple[Tensor, Boundary]:
        """w [b, ...] and the boundary of samples [b] that have taken so many steps [b]."""
        at = self._at(steps, samples)
        g, source, candidate = tf.unstack(tf.gather_nd(self.boundaries, at), axis=1)
        return tf.gather_nd(self.w, at), Boundary(g, tf.cast(source, tf.int32), tf.cast(candidate, tf.int32))

    def updated(self, found: "Found") -> "Walks":
        """The walks with what was found: of each sample the nearest boundary, if it is nearer than the one it knew."""
        wins = _is_nearest(found, tf.shape(self.point)[0])
        sample, at = found.sample[:, None], self._at(found.progress.steps, found.sample)
        classes = put_rows(self.packed_classes, sample, tf.stack(found.classes, axis=2), found.counts)
        # A class that was linearised at a point is not to be probed there again.
        infinity = tf.fill(tf.shape(found.progress.squared), tf.constant(float("inf"), self.point.dtype))
        linearised = tf.stack(Classes(infinity, found.progress.squared), axis=1)
        candidate = tf.stack([found.sample, found.boundary.candidate], axis=1)
        return Walks(
            point=put_rows(self.point, sample, found.point, wins),
            w=put_rows(self.w, at, found.w, wins),
            boundaries=put_rows(self.boundaries, at, _packed(found.boundary), wins),
            packed_progress=put_rows(self.packed_progress, sample, tf.stack(found.progress, axis=1), wins),
            packed_classes=put_rows(classes, candidate, linearised, found.counts),
        )

    def ended(self, samples: Tensor) -> "Walks":
        """The walks, of which those of `samples`, boolean [B], end with their next step, if they are close."""
        progress = self.progress
        ends = samples & ~progress.done & progress.is_close
        outcome = tf.where(ends, tf.constant(NEAR, progress.outcome.dtype), progress.outcome)
        return self._replace(packed_progress=tf.stack(progress._replace(outcome=outcome), axis=1))

    def _at(self, steps: Tensor, samples: Tensor) -> Tensor:
        slot = tf.minimum(tf.cast(steps, tf.int32), self.w.shape[0] - 1)
        return tf.stack([slot, samples], axis=1)


class Found(NamedTuple):
    """What R items have found, each of which linearises one boundary; those of one sample do so at the same point.

    Attributes:
        sample: int32 [R].
        counts: boolean [R], False for rows that only fill up a batch; None if all count.
        is_nearer: boolean [R], whether the boundary is nearer than the one that the sample knew at this point.
        point: float [R, ...].
        w: float [R, ...].
        boundary: the boundary.
        progress: what the progress of the sample is if this is its nearest boundary.
        classes: what it knows of its classes, but for the one that was linearised.
    """

    sample: Tensor
    counts: Tensor | None
    is_nearer: Tensor
    point: Tensor
    w: Tensor
    boundary: Boundary
    progress: Progress
    classes: Classes


def begin(task: Task, logits: Tensor, depth: int) -> Walks:
    """The walks before anything is computed but the clean logits [B, C]; `depth` is S."""
    dtype = task.x.dtype
    gap = tf.abs(logit_differences(logits, task.prediction, task.candidates))
    infinity = tf.constant(float("inf"), dtype)
    zero = tf.zeros_like(gap[:, 0])
    boundary = _packed(Boundary(zero, task.prediction, tf.zeros_like(task.prediction)))
    progress = Progress(infinity + zero, infinity + zero, infinity + zero, zero, zero, GOES_ON + zero)
    return Walks(
        point=task.x,
        w=tf.repeat(tf.zeros_like(task.x)[None], depth, axis=0),
        boundaries=tf.repeat(boundary[None], depth, axis=0),
        packed_progress=tf.stack(progress, axis=1),
        packed_classes=tf.stack(Classes(tf.where(task.allowed, gap, infinity), tf.zeros_like(gap)), axis=2),
    )


def _packed(boundary: Boundary) -> Tensor:
    """A boundary as float [b, 3]."""
    return tf.stack([tf.cast(part, boundary.g.dtype) for part in boundary], axis=1)


def _is_nearest(found: Found, size: Tensor) -> Tensor:
    """Which of the items have found the new nearest boundary of their samples [R]; the first of equally near ones."""
    distance = found.progress.distance
    # NaN counts as far, and is refused by a check of the norm.
    eligible = found.is_nearer if found.counts is None else found.is_nearer & found.counts
    distance = tf.where(eligible, tf.where(tf.math.is_nan(distance), distance.dtype.max, distance), float("inf"))
    number = tf.range(tf.size(distance))
    nearest = tf.gather(tf.math.unsorted_segment_min(distance, found.sample, size), found.sample)
    first = tf.math.unsorted_segment_min(tf.where(distance <= nearest, number, tf.size(number)), found.sample, size)
    return eligible & (number == tf.gather(first, found.sample))
