"""The path of a search: what it found, and the steps that it took."""

from typing import NamedTuple

import tensorflow as tf

from keras_amm.execution.checks import Check
from keras_amm.execution.xla import Rows, array_of_steps
from keras_amm.typing import Tensor


class Path(NamedTuple):
    """What a search found, and the steps that it took: S steps at most, batch size B.

    Attributes:
        x: float tensor [B, ...], where the search started.
        delta: float tensor [B, ...], the perturbation.
        norm: float tensor [B], its norm; an estimate where the sample was not searched.
        prediction: int32 tensor [B], the class predicted at `x`.
        correct: boolean tensor [B], whether that is the label; all True in a
            search without labels.
        source: int32 tensor [B], the class on this side of the boundary aimed at last.
        target: int32 tensor [B], the class beyond it.
        iterations: int32 tensor [B], the number of steps taken.
        success: boolean tensor [B], whether the goal was reached, or only the last step was not looked at.
        searched: boolean tensor [B], False for samples that were screened out, or whose
            walk was given up since they are far; of these only the norm means something.
        w: float tensor [S, B, ...], per step the gradient of g with respect to the point. It is None if
            the path was not kept, and so are the next three.
        g: float tensor [S, B], per step the logit of the target minus that of the source.
        targets: int32 tensor [S, B], per step the class it aimed at.
        sources: int32 tensor [S, B], per step the class it led away from.
        checks: what must hold for these values to mean anything.
        estimated: boolean tensor [B], samples that were not searched and whose norm, an estimate, takes part in the
            ranks of the others; None if there are none.
        normal: float tensor [B, ...], the gradient of g at the end of the path, or one step before; None if it
            is not known.
        gradient_norms: float32 tensor, by which the search changes what is known of the norms of gradients; or None.
    """

    x: Tensor
    delta: Tensor
    norm: Tensor
    prediction: Tensor
    correct: Tensor
    source: Tensor
    target: Tensor
    iterations: Tensor
    success: Tensor
    searched: Tensor
    w: Tensor
    g: Tensor
    targets: Tensor
    sources: Tensor
    checks: list[Check]
    estimated: Tensor | None = None
    normal: Tensor | None = None
    gradient_norms: Tensor | None = None


class Step(NamedTuple):
    """One step of b samples: w [b, ...], g [b], target and source class [b], as in `Path`."""

    w: Tensor
    g: Tensor
    target: Tensor
    source: Tensor


class Record(NamedTuple):
    """The steps of all samples [B, ...], one `tf.TensorArray` for each field of `Step`."""

    w: tf.TensorArray
    g: tf.TensorArray
    target: tf.TensorArray
    source: tf.TensorArray


def empty_record(x: Tensor, at_most: int) -> Record:
    """Arrays for up to `at_most` steps of the samples x [B, ...]."""
    return Record(
        w=array_of_steps(x.dtype, x.shape, at_most),
        g=array_of_steps(x.dtype, x.shape[:1], at_most),
        target=array_of_steps(tf.int32, x.shape[:1], at_most),
        source=array_of_steps(tf.int32, x.shape[:1], at_most),
    )


def with_step(record: Record, number: Tensor, step: Step, rows: Rows, x: Tensor) -> Record:
    """The record with a step of some rows of the samples x [B, ...]; other samples have zeros there."""
    per_sample = tf.zeros(tf.shape(x)[:1], tf.int32)
    nothing = Step(tf.zeros_like(x), tf.cast(per_sample, x.dtype), per_sample, per_sample)
    whole = rows.put(nothing, step)
    return Record(*(array.write(number, part) for array, part in zip(record, whole, strict=True)))
