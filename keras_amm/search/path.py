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


class Step(NamedTuple):
    """One step of b samples: w [b, ...], g [b], target and source class [b]; or a `tf.TensorArray` of each, by step."""

    w: Tensor
    g: Tensor
    target: Tensor
    source: Tensor


def empty_record(x: Tensor, at_most: int) -> Step:
    """Arrays for up to `at_most` steps of the samples x [B, ...]."""
    return Step(
        w=array_of_steps(x.dtype, x.shape, at_most),
        g=array_of_steps(x.dtype, x.shape[:1], at_most),
        target=array_of_steps(tf.int32, x.shape[:1], at_most),
        source=array_of_steps(tf.int32, x.shape[:1], at_most),
    )


def with_step(record: Step, number: Tensor, step: Step, rows: Rows, x: Tensor) -> Step:
    """The record with the step of some rows of the samples x [B, ...]; the samples that took none have zeros in it."""
    per_sample = tf.zeros(tf.shape(x)[:1], tf.int32)
    nothing = Step(tf.zeros_like(x), tf.cast(per_sample, x.dtype), per_sample, per_sample)
    whole = rows.put(nothing, step)
    return Step(*(array.write(number, part) for array, part in zip(record, whole, strict=True)))
