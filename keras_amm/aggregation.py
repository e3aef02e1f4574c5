"""Aggregation functions: which samples of a batch the penalty counts (Section 3.3.1).

A choice of samples has no gradient, so an aggregation sees norms, labels and flags only.
"""

import builtins
import dataclasses
import math
from collections.abc import Callable

from keras import ops

from keras_amm import arguments
from keras_amm.typing import Tensor, TensorLike

__all__ = ["avg", "get", "min", "nearest"]

Aggregation = Callable[..., Tensor]


def avg(
    norm: TensorLike, labels: TensorLike, correct: TensorLike, success: TensorLike, *, top_fraction: float = 0.2
) -> Tensor:
    """Every sample whose attack succeeded.

    Args:
        norm: float tensor [B], the perturbation norms.
        labels: integer tensor [B], the ground truth.
        correct: boolean tensor [B], whether the sample is correctly classified.
        success: boolean tensor [B], whether the attack reached its goal.
        top_fraction: float, not used.

    Returns:
        Boolean tensor [B], the samples that the penalty counts.

    Example:
    >>> import numpy as np
    >>> mask = keras_amm.aggregation.avg(
    ...     np.array([0.5, 1.0]), np.array([0, 1]), np.array([True, True]), np.array([True, False]))
    >>> np.asarray(mask)
    array([ True, False])

    Reference: Equation 6.
    """
    del norm, labels, correct, top_fraction
    return ops.convert_to_tensor(success, dtype="bool")


def min(  # noqa: A001
    norm: TensorLike, labels: TensorLike, correct: TensorLike, success: TensorLike, *, top_fraction: float = 0.2
) -> Tensor:
    """The nearest sample of each class, if it is among the nearest of the batch.

    A correctly classified sample counts iff its norm is the smallest of its
    label and among the `max(1, floor(top_fraction * B))` smallest of all
    correctly classified samples. The smallest of all meets both, so at least
    one counts. Misclassified samples are mirrored: the largest norm of each
    label, among the largest of all. Samples whose attack failed take no part;
    of equal norms the first in the batch counts.

    Args:
        norm: float tensor [B], the perturbation norms.
        labels: integer tensor [B], the ground truth.
        correct: boolean tensor [B], whether the sample is correctly classified.
        success: boolean tensor [B], whether the attack reached its goal.
        top_fraction: float in (0, 1], the fraction of the batch.

    Returns:
        Boolean tensor [B], the samples that the penalty counts.

    Example:
    >>> import numpy as np
    >>> mask = keras_amm.aggregation.min(
    ...     np.array([0.5, 1.0, 0.7]), np.array([3, 3, 8]), np.ones(3, bool), np.ones(3, bool),
    ...     top_fraction=0.7)
    >>> np.asarray(mask)
    array([ True, False,  True])

    Reference: Section 3.3.1, and the authors' code for misclassified samples.
    """
    norm = ops.convert_to_tensor(norm)
    labels = ops.convert_to_tensor(labels)
    correct = ops.convert_to_tensor(correct, dtype="bool")
    success = ops.convert_to_tensor(success, dtype="bool")
    num_top = num_selected_per_side(ops.shape(norm)[0], top_fraction)
    right = ops.logical_and(correct, success)
    wrong = ops.logical_and(ops.logical_not(correct), success)
    return ops.logical_or(
        _first_of_each_label(norm, labels, right, num_top),
        _first_of_each_label(-norm, labels, wrong, num_top),
    )


def nearest(
    norm: TensorLike, labels: TensorLike, correct: TensorLike, success: TensorLike, *, top_fraction: float = 0.2
) -> Tensor:
    """The nearest part of the batch, whatever the classes: milder than MIN, since more samples share the pull.

    A correctly classified sample counts iff its norm is among the
    `max(1, floor(top_fraction * B))` smallest of all correctly classified samples.
    Misclassified samples are mirrored, as under MIN: the farthest from their labels count.

    Args:
        norm: float tensor [B], the perturbation norms.
        labels: integer tensor [B], not used.
        correct: boolean tensor [B], whether the sample is correctly classified.
        success: boolean tensor [B], whether the attack reached its goal.
        top_fraction: float in (0, 1], the fraction of the batch.

    Returns:
        Boolean tensor [B], the samples that the penalty counts.

    Example:
    >>> import numpy as np
    >>> mask = keras_amm.aggregation.nearest(
    ...     np.array([0.5, 1.0, 0.7]), np.array([3, 3, 3]), np.ones(3, bool), np.ones(3, bool), top_fraction=0.7)
    >>> np.asarray(mask)
    array([ True, False,  True])

    Reference: not in the paper.
    """
    del labels
    norm = ops.convert_to_tensor(norm)
    correct, success = ops.convert_to_tensor(correct, "bool"), ops.convert_to_tensor(success, "bool")
    num_top = num_selected_per_side(ops.shape(norm)[0], top_fraction)
    right = ops.logical_and(correct, success)
    wrong = ops.logical_and(ops.logical_not(correct), success)
    return ops.logical_or(_first(norm, right, num_top), _first(-norm, wrong, num_top))


def misclassified(
    rule: str, norm: Tensor, labels: Tensor, correct: Tensor, success: Tensor, top_fraction: float
) -> Tensor:
    """The misclassified samples that count by a rule, "all", "farthest" or "none", [B]."""
    wrong = ops.logical_and(ops.logical_not(correct), success)
    if rule == "none":
        return ops.zeros_like(wrong)
    if rule == "all":
        return wrong
    return _first_of_each_label(-norm, labels, wrong, num_selected_per_side(ops.shape(norm)[0], top_fraction))


def _first(key: Tensor, eligible: Tensor, num_top: int | Tensor) -> Tensor:
    """Mask [B] of the `num_top` eligible samples with the smallest keys."""
    rank = _rank(ops.where(eligible, key, ops.full_like(key, float("inf"))))
    return ops.logical_and(eligible, ops.less(rank, ops.cast(num_top, rank.dtype)))


def _first_of_each_label(key: Tensor, labels: Tensor, eligible: Tensor, num_top: int | Tensor) -> Tensor:
    """Mask [B] of the eligible samples with the smallest key of their label and among the `num_top` smallest of all."""
    rank = _rank(ops.where(eligible, key, ops.full_like(key, float("inf"))))
    # Sort by label and, within a label, by rank: ranks are below the batch size, so labels times the batch size keep
    # the labels apart. The samples that are not eligible form a group of their own, -1.
    group = ops.where(eligible, ops.cast(labels, rank.dtype), -1)
    order = ops.argsort(group * ops.shape(rank)[0] + rank)
    sorted_group = ops.take(group, order, axis=0)
    # A sample is the first of its label where the sorted label differs from the one before.
    differs = sorted_group[1:] != sorted_group[:-1]
    starts_group = ops.concatenate([ops.ones_like(sorted_group[:1], dtype="bool"), differs], axis=0)
    # The argsort of an order undoes it.
    is_first = ops.take(starts_group, ops.argsort(order), axis=0)
    is_top = ops.less(rank, ops.cast(num_top, rank.dtype))
    return ops.logical_and(eligible, ops.logical_and(is_first, is_top))


def _rank(key: Tensor) -> Tensor:
    """Each element's place in ascending order [B]; of equal ones, the first in the batch comes first."""
    return ops.argsort(ops.argsort(key))


def num_selected_per_side(batch_size: int | Tensor, top_fraction: float) -> int | Tensor:
    """`max(1, floor(top_fraction * batch_size))`, the most samples that count among the correct, and among the wrong.

    Example:
    >>> keras_amm.aggregation.num_selected_per_side(100, 0.2)
    20
    """
    if isinstance(batch_size, int):
        return max(1, math.floor(top_fraction * batch_size))
    # In float64, as Python computes: in float32, 0.3 * 10 may be rounded to the other side of 3.
    top = ops.floor(top_fraction * ops.cast(batch_size, "float64"))
    return ops.maximum(ops.cast(top, "int32"), 1)


def _all(batch_size: int | Tensor, num_classes: int, top_fraction: float) -> int | Tensor:
    """The whole batch may be selected."""
    return batch_size


def _one_per_class_and_side(batch_size: int | Tensor, num_classes: int, top_fraction: float) -> int | Tensor:
    """At most one sample per class among the correct, and one among the wrong; never more than the top of either."""
    top = num_selected_per_side(batch_size, top_fraction)
    smaller = builtins.min if isinstance(batch_size, int) else ops.minimum
    return smaller(2 * smaller(num_classes, top), batch_size)


def _top_of_both_sides(batch_size: int | Tensor, num_classes: int, top_fraction: float) -> int | Tensor:
    """The top of the correct samples and the top of the wrong ones."""
    smaller = builtins.min if isinstance(batch_size, int) else ops.minimum
    return smaller(2 * num_selected_per_side(batch_size, top_fraction), batch_size)


@dataclasses.dataclass(frozen=True)
class AggregationEntry:
    """An aggregation and what the penalty must know about it; a user's callable takes the defaults.

    Attributes:
        identifier: the name, or a user's callable itself.
        function: the aggregation.
        max_selected: `(batch_size, num_classes, top_fraction)` -> the largest number of samples that it can select.
        counts_near_only: whether correct samples that are not among the nearest `top_fraction` of the batch never
            count, so that screening may leave them out.
        counts_all_correct: whether all correct samples count, and each by its own norm alone.
        counts_one_per_label: whether of the correct samples of a label only the nearest may count.
    """

    identifier: str | Aggregation
    function: Aggregation
    max_selected: Callable[[int | Tensor, int, float], int | Tensor] = _all
    counts_near_only: bool = False
    counts_all_correct: bool = False
    counts_one_per_label: bool = False


# A new aggregation needs a function above and an entry here.
ENTRIES = (
    AggregationEntry("avg", avg, counts_all_correct=True),
    AggregationEntry("min", min, _one_per_class_and_side, counts_near_only=True, counts_one_per_label=True),
    AggregationEntry("nearest", nearest, max_selected=_top_of_both_sides, counts_near_only=True),
)


def find_entry(identifier: str | Aggregation) -> AggregationEntry:
    """The entry of a name, of a built-in function, or of a user's callable."""
    return arguments.find_entry(
        "aggregation",
        identifier,
        ENTRIES,
        lambda function: AggregationEntry(function, function),
        "(norm, labels, correct, success, *, top_fraction)",
    )


def get(identifier: str | Aggregation) -> Aggregation:
    """Find an aggregation function by name, or pass a callable through.

    Args:
        identifier: `"min"`, `"avg"`, `"nearest"`, or a callable with the signature
            `(norm, labels, correct, success, *, top_fraction)` that returns
            a mask [B].

    Returns:
        The function.

    Raises:
        ValueError: the name is not known.

    Example:
    >>> keras_amm.aggregation.get("avg") is keras_amm.aggregation.avg
    True
    """
    return find_entry(identifier).function
