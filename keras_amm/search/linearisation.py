"""The nearest linear boundary of each sample: DeepFool's linearisation.

Linearising the network towards a class costs one gradient with respect to the image. At a sample's
first point this is done for all of its candidate classes (with screening, only for the likeliest). From
then on, the norms of the gradients are roughly known. With them, the logits alone show that most
classes are far beyond the nearest, and no gradient is spent on those.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.execution.gradients import image_gradient
from keras_amm.execution.loops import as_round
from keras_amm.execution.xla import in_xla
from keras_amm.network.classifier import Classifier
from keras_amm.network.labels import binary_class_indices, class_indices
from keras_amm.network.structures import only_entry
from keras_amm.search.geometry import distance
from keras_amm.search.norms import norm_for
from keras_amm.typing import Tensor, TensorLike

# After the first step, a class is linearised again only if its estimated distance (logit difference / last known
# gradient norm) is at most REACH times the smallest one. So the nearest class is missed only if its gradient grew over
# REACH times as much as the gradient of the class that seemed nearest.
REACH = 3.0


class CleanPass(NamedTuple):
    """The network's pass over unperturbed images, recorded so that it can be differentiated.

    Attributes:
        x: float tensor [B, ...], watched by the tape.
        logits: float tensor [B, C].
        checks: what `x` and the logits must satisfy.
        tape: persistent `tf.GradientTape` that recorded the pass.
        has_one_unit: whether the network's output is one unit z, whose logits are (0, z).
    """

    x: Tensor
    logits: Tensor
    checks: list[Check]
    tape: tf.GradientTape
    has_one_unit: bool = False

    def class_indices(self, y: TensorLike) -> tuple[Tensor, list[Check]]:
        """The class of each label, int32 [B], and the checks that the values of the labels must pass."""
        return binary_class_indices(y) if self.has_one_unit else class_indices(y, self.logits.shape[1])


class Goal(NamedTuple):
    """What the search of each sample is to reach, the same in all steps.

    Attributes:
        prediction: int32 tensor [B], the class predicted at the start.
        label: int32 tensor [B], the label; the prediction in a search without labels.
        correct: boolean tensor [B], whether these are equal.
        candidates: int32 tensor [B, k], the classes that a step may aim at.
        allowed: boolean tensor [B, k], False where a candidate repeats another one.
    """

    prediction: Tensor
    label: Tensor
    correct: Tensor
    candidates: Tensor
    allowed: Tensor


class NearestBoundary(NamedTuple):
    """The nearest linear boundary of each of b samples, among those towards k candidate classes.

    Attributes:
        w: float tensor [b, ...], the gradient of g with respect to the image.
        g: float tensor [b], the logit of the target class minus that of the source class.
        target: int32 tensor [b], the class beyond the boundary.
        squared: float tensor [b, k], the last known squared dual norms of the gradients towards all candidates.
    """

    w: Tensor
    g: Tensor
    target: Tensor
    squared: Tensor


def clean_pass(classifier: Classifier, x: Tensor) -> CleanPass:
    """Run the network over images [B, ...] and record it."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        output = classifier.output(x)
    return pass_of(classifier, x, output, tape)


def pass_of(classifier: Classifier, x: Tensor, output: Any, tape: tf.GradientTape) -> CleanPass:
    """The pass over images x [B, ...] that a persistent tape has recorded, by the network's output for them."""
    with tape:
        logits, checks = classifier.read(output)
    return CleanPass(x, logits, checks, tape, has_one_unit=only_entry(output).shape[1] == 1)


def goal_of(logits: Tensor, labels: Tensor | None, num_candidates: int) -> Goal:
    """The classes that may be reached from clean logits [B, C], among those of the largest logits.

    A correct sample is to leave its class; a misclassified one is to reach its label [B]. Without labels all leave.
    """
    _, ranked = tf.math.top_k(logits, min(num_candidates, logits.shape[1]))
    prediction = ranked[:, 0]
    label = prediction if labels is None else labels
    correct = tf.equal(prediction, label)
    # A misclassified sample aims at its label alone: all of its candidates are the label, and the first one is allowed.
    candidates = tf.where(correct[:, None], ranked[:, 1:], label[:, None])
    allowed = correct[:, None] | (tf.range(candidates.shape[1]) == 0)
    return Goal(prediction, label, correct, candidates, allowed)


def linearise_towards_all(
    classifier: Classifier, clean: CleanPass, source: Tensor, candidates: Tensor
) -> NearestBoundary:
    """Linearise from each image's class, source [B], towards all of its candidates [B, k] (Equation 3)."""
    with clean.tape:
        values = logit_differences(clean.logits, source, candidates)
        columns = tf.unstack(values, axis=1)
    gradients = _gradients(classifier, clean, values, columns)
    squared = tf.transpose(norm_for(classifier).dual_squared(gradients, lead=2))
    nearest = tf.argmin(distance(values, squared), axis=1, output_type=tf.int32)
    at = tf.stack([nearest, tf.range(tf.shape(nearest)[0])], axis=1)
    w = tf.gather_nd(gradients, at)
    g = tf.gather(values, nearest, batch_dims=1)
    return NearestBoundary(w, g, tf.gather(candidates, nearest, batch_dims=1), squared)


def linearise_towards_few(
    classifier: Classifier,
    x: Tensor,
    logits: Tensor,
    source: Tensor,
    candidates: Tensor,
    allowed: Tensor,
    squared: Tensor,
    *,
    at_a_time: Tensor | int,
) -> NearestBoundary:
    """Linearise towards the candidate classes that may be nearest, by the last known norms of the gradients.

    Args:
        classifier: the network.
        x: float tensor [b, ...], the images, at least one.
        logits: float tensor [b, C], the network's there.
        source: int32 tensor [b], the class of each image.
        candidates: int32 tensor [b, k].
        allowed: boolean tensor [b, k], the candidates that count.
        squared: float tensor [b, k], the last known squared dual norms of the gradients.
        at_a_time: int or scalar integer tensor, the most images that go through the network together.
    """
    pairs = _pairs_within_reach(distance(logit_differences(logits, source, candidates), squared), allowed)
    sample, target = pairs[:, 0], tf.gather_nd(candidates, pairs)
    w, g = _gradients_of_pairs(classifier, x, source, sample, target, at_a_time)
    norms = norm_for(classifier).dual_squared(w)
    squared = tf.tensor_scatter_nd_update(squared, pairs, norms)
    # What was not linearised is infinitely far.
    far = tf.fill(tf.shape(squared), tf.constant(float("inf"), norms.dtype))
    nearest = tf.argmin(tf.tensor_scatter_nd_update(far, pairs, distance(g, norms)), axis=1)
    number_of_pair = tf.scatter_nd(pairs, tf.range(tf.shape(sample)[0]), tf.shape(squared, pairs.dtype))
    at = tf.gather(number_of_pair, nearest, batch_dims=1)
    return NearestBoundary(tf.gather(w, at), tf.gather(g, at), tf.gather(target, at), squared)


def _pairs_within_reach(estimate: Tensor, allowed: Tensor) -> Tensor:
    """The pairs of sample and candidate number, int64 [P, 2], to linearise, by estimated distances [b, k]."""
    estimate = tf.where(allowed, estimate, tf.constant(float("inf"), estimate.dtype))
    has_gradient = estimate < estimate.dtype.max
    is_near = estimate <= REACH * tf.reduce_min(estimate, axis=1, keepdims=True)
    # Every sample needs one pair, even if none of its classes has a gradient, or its logits are NaN (which a check
    # refuses later).
    number = estimate.shape[1]
    seems_nearest = tf.one_hot(tf.argmin(estimate, axis=1), number, on_value=True, off_value=False, dtype=tf.bool)
    return tf.where(seems_nearest | (allowed & is_near & has_gradient))


def linearise_again(
    classifier: Classifier,
    x: Tensor,
    logits: Tensor,
    source: Tensor,
    candidates: Tensor,
    allowed: Tensor,
    squared: Tensor,
    *,
    at_a_time: Tensor | int,
) -> NearestBoundary:
    """Linearise at a later point of the walk, towards few classes; under XLA, where shapes are fixed, towards all.

    It takes the arguments of `linearise_towards_few`.
    """
    if in_xla():
        return linearise_towards_all(classifier, clean_pass(classifier, x), source, candidates)
    return linearise_towards_few(classifier, x, logits, source, candidates, allowed, squared, at_a_time=at_a_time)


def logit_differences(logits: Tensor, source: Tensor, candidates: Tensor) -> Tensor:
    """The logits of the candidates [B, k] minus the logit of the source class [B], [B, k]; the logits are [B, C]."""
    return _logits_of(logits, candidates) - _logits_of(logits, source[:, None])


def logit_difference(logits: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """g [B], the logit of the target class [B] minus that of the source class [B]; the logits are [B, C]."""
    return _logits_of(logits, target) - _logits_of(logits, source)


def _logits_of(logits: Tensor, classes: Tensor) -> Tensor:
    """The logits [B, ...] of classes [B, ...], which may be several of each image; the logits are [B, C].

    As `tf.gather(logits, classes, batch_dims=1)`, whose gradient takes some thirty operations in place of two.
    """
    rows = tf.range(tf.shape(classes)[0], dtype=classes.dtype)
    if classes.shape.rank == 2:
        rows = tf.broadcast_to(tf.expand_dims(rows, 1), tf.shape(classes))
    return tf.gather_nd(logits, tf.stack([rows, classes], axis=-1))


def _gradients(classifier: Classifier, clean: CleanPass, values: Tensor, columns: list[Tensor]) -> Tensor:
    """The gradients of k logit differences, [k, B, ...]."""
    number = len(columns)
    if number == 1 or not classifier.is_dense or tf.executing_eagerly():
        # One pass per candidate: with convolutions faster than a vectorised Jacobian, lighter in memory, and possible
        # for any layer. In eager mode a vectorised one would be traced again by every call.
        return tf.stack([image_gradient(clean.tape, column, clean.x) for column in columns])

    def gradient(k: Tensor) -> Tensor:
        seed = tf.repeat(tf.one_hot([k], number, dtype=values.dtype), tf.shape(values)[0], axis=0)
        return image_gradient(clean.tape, values, clean.x, output_gradients=seed)

    return tf.vectorized_map(gradient, tf.range(number))


def _gradients_of_pairs(
    classifier: Classifier, x: Tensor, source: Tensor, sample: Tensor, target: Tensor, at_a_time: Tensor | int
) -> tuple[Tensor, Tensor]:
    """The gradient [P, ...] and value [P] of P logit differences, from samples [P] (repeated or not) to targets [P]."""
    number = tf.shape(sample)[0]

    def of_part(i: Tensor) -> tuple[Tensor, Tensor]:
        here, there = (all_[i * at_a_time : (i + 1) * at_a_time] for all_ in (sample, target))
        clean = clean_pass(classifier, tf.gather(x, here))
        with clean.tape:
            g = logit_difference(clean.logits, tf.gather(source, here), there)
        return image_gradient(clean.tape, g, clean.x), g

    of_part = as_round(of_part)

    def part(i: Tensor, *found: Tensor) -> tuple[Any, ...]:
        return i + 1, *(array.write(i, each) for array, each in zip(found, of_part(i), strict=True))

    arrays = [
        tf.TensorArray(x.dtype, size=0, dynamic_size=True, infer_shape=False, element_shape=shape)
        for shape in (tf.TensorShape([None, *x.shape[1:]]), tf.TensorShape([None]))
    ]
    _, *found = tf.while_loop(
        lambda i, *_: i * at_a_time < number, part, (tf.constant(0), *arrays), parallel_iterations=1
    )
    w, g = (array.concat() for array in found)
    return w, g
