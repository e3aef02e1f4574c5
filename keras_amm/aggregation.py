"""Aggregation functions: which samples of a batch the penalty counts (Section 3.3.1).

An aggregation sees norms, labels and flags only, never a gradient: which
samples it selects is discrete.
"""

import math
from collections.abc import Callable
from typing import Any

from keras import ops

from keras_amm import identifiers

Aggregation = Callable[..., Any]


def avg(norm: Any, labels: Any, correct: Any, success: Any, *, top_fraction: float = 0.2) -> Any:
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


def min(norm: Any, labels: Any, correct: Any, success: Any, *, top_fraction: float = 0.2) -> Any:  # noqa: A001
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


def _first_of_each_label(key: Any, labels: Any, eligible: Any, num_top: Any) -> Any:
    """Mask of the eligible samples with their label's smallest key, ranked below `num_top`."""
    rank = _rank(ops.where(eligible, key, ops.full_like(key, float("inf"))))
    batch_size = ops.shape(rank)[0]
    group = ops.where(eligible, ops.cast(labels, rank.dtype), -1)
    order = ops.argsort(group * batch_size + rank)
    group = ops.take(group, order, axis=0)
    starts_group = ops.concatenate([ops.ones_like(group[:1], dtype="bool"), group[1:] != group[:-1]], axis=0)
    is_first = ops.take(starts_group, ops.argsort(order), axis=0)
    is_top = ops.less(rank, ops.cast(num_top, rank.dtype))
    return ops.logical_and(eligible, ops.logical_and(is_first, is_top))


def _rank(key: Any) -> Any:
    """Each element's place in ascending order, equal ones in the order they stand."""
    return ops.argsort(ops.argsort(key))


def num_selected_per_side(batch_size: Any, top_fraction: float) -> Any:
    """`max(1, floor(top_fraction * batch_size))`: at most so many correct samples count.

    Args:
        batch_size: int, or scalar integer tensor where it is not known in advance.
        top_fraction: float in (0, 1].

    Returns:
        An int, or a scalar integer tensor.

    Example:
    >>> keras_amm.aggregation.num_selected_per_side(100, 0.2)
    20

    Reference: Section 3.3.1 (b).
    """
    if isinstance(batch_size, int):
        return max(1, math.floor(top_fraction * batch_size))
    # float64, as Python computes it: float32 would floor 0.3 * 10 on either side
    top = ops.floor(top_fraction * ops.cast(batch_size, "float64"))
    return ops.maximum(ops.cast(top, "int32"), 1)


_BUILT_IN: dict[str, Aggregation] = {"avg": avg, "min": min}


def name_of(identifier: str | Aggregation) -> str | Aggregation:
    """The name of one of this module's functions; all else as it is.

    Args:
        identifier: a name or a callable.

    Returns:
        The name, or `identifier` itself.

    Example:
    >>> keras_amm.aggregation.name_of(keras_amm.aggregation.min)
    'min'
    """
    return identifiers.name_of(identifier, _BUILT_IN)


def get(identifier: str | Aggregation) -> Aggregation:
    """Find an aggregation function by name, or pass a callable through.

    Args:
        identifier: `"min"`, `"avg"`, or a callable with the signature
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
    return identifiers.find(identifier, _BUILT_IN, "aggregation", "(norm, labels, correct, success, *, top_fraction)")
