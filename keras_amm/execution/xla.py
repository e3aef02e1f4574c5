"""What differs under XLA, which compiles for fixed shapes and cannot raise errors.

If only some rows of a batch still matter, the others can be dropped. Under XLA they cannot, for then the shape would
depend on the values: the whole batch is computed there, and rows that do not matter are masked. The functions of this
module make that choice, so that their callers are written once.

A few other modules ask `in_xla` themselves: `search.linearisation` (XLA linearises towards all classes),
`network.classifier` and `network.kernels.convolution` (XLA needs other replacements of slow operations), and
`execution.checks` and `execution.guarded_update` (an assertion is lost under XLA, so a fault is kept in a variable).
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf
from tensorflow.python.ops import control_flow_util

from keras_amm.typing import Tensor, Variable


def in_xla() -> bool:
    """Whether the code is being traced for XLA: within `tf.function(jit_compile=True)`, at any depth."""
    return not tf.executing_eagerly() and bool(
        control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())
    )


class Rows:
    """The rows of a batch that a boolean mask [B] selects; None selects all rows.

    Example:
    >>> rows, batch = keras_amm.execution.xla.Rows(tf.constant([True, False, True])), tf.constant([1, 2, 3])
    >>> rows.take(batch).numpy()
    array([1, 3], dtype=int32)
    >>> rows.put(batch, 10 * rows.take(batch)).numpy()
    array([10,  2, 30], dtype=int32)
    """

    def __init__(self, mask: Tensor | None = None) -> None:
        self._mask = mask
        self._index = None if mask is None or in_xla() else tf.where(mask)
        self._rows = None if self._index is None else tf.squeeze(self._index, 1)

    def take(self, batch: Any) -> Any:
        """The selected rows of each tensor [B, ...] in a structure; under XLA all rows."""
        if self._rows is None:
            return batch
        return tf.nest.map_structure(lambda values: tf.gather(values, self._rows), batch)

    def put(self, batch: Any, new: Any) -> Any:
        """The structure `batch` with its selected rows replaced by `new`, which has the shape of `take(batch)`."""
        return tf.nest.map_structure(self._put, batch, new)

    def _put(self, old: Tensor, new: Tensor) -> Tensor:
        if self._index is not None:
            new = tf.tensor_scatter_nd_update(old, self._index, new)
        elif self._mask is not None:
            new = tf.where(tf.reshape(self._mask, [-1] + [1] * (new.shape.rank - 1)), new, old)
        return tf.ensure_shape(new, old.shape)


def indices(mask: Tensor, at_most: Any) -> Tensor:
    """The numbers of the rows that a mask [B] selects, int32 [K], the selected ones first.

    Under XLA there are always `at_most`, filled up with rows that are not selected; if no row is selected, there is one
    all the same, because networks refuse empty batches. Callers give such rows the factor 0.
    """
    if in_xla():
        return tf.math.top_k(tf.cast(mask, tf.int32), at_most).indices
    first = tf.range(tf.shape(mask)[0]) == 0
    return tf.cast(tf.squeeze(tf.where(tf.where(tf.reduce_any(mask), mask, first)), 1), tf.int32)


def choose(mask: Tensor, urgency: Tensor, at_most: Any) -> tuple[Tensor, Tensor | None]:
    """The numbers of rows that a mask [B] selects, int32 [K], at most so many, and which of them count, boolean [K].

    Under XLA there are always `at_most`, those of the least urgency [B], and rows that are not selected do not count.
    Elsewhere all count, for which None stands.
    """
    if in_xla():
        # Infinite and NaN come late, but before what is not selected.
        urgency = tf.where(urgency < urgency.dtype.max, urgency, 0.5 * urgency.dtype.max)
        found = tf.math.top_k(tf.where(mask, -urgency, -urgency.dtype.max), at_most).indices
        return found, tf.gather(mask, found)
    return tf.cast(tf.where(mask)[:at_most, 0], tf.int32), None


def put_rows(old: Tensor, index: Tensor, new: Tensor, counts: Tensor | None) -> Tensor:
    """`old` with the slices [K, ...] at index [K, d] replaced where they count [K]; None if all do."""
    if counts is not None and in_xla():
        # XLA leaves out what lies outside of the tensor.
        index = tf.where(counts[:, None], index, tf.shape(old)[: index.shape[1]])
    elif counts is not None:
        rows = tf.where(counts)
        index, new = tf.gather_nd(index, rows), tf.gather_nd(new, rows)
    return tf.ensure_shape(tf.tensor_scatter_nd_update(old, index, new), old.shape)


def largest(counts: Tensor, at_most: Any) -> Tensor:
    """The largest of some counts, at least 1; under XLA their upper bound, `at_most`."""
    return at_most if in_xla() else tf.maximum(tf.reduce_max(counts), 1)


def array_of_steps(dtype: Any, shape: Any, at_most: int) -> tf.TensorArray:
    """An array for one tensor of the given shape per step. It grows with them; under XLA its length is `at_most`."""
    static = in_xla()
    return tf.TensorArray(dtype, size=at_most if static else 0, dynamic_size=not static, element_shape=shape)


def sum_of_gradients(
    gradients: Callable[[Any], list[Tensor | None]], rows: Any, number: Tensor, weights: list[Variable], at_a_time: Any
) -> list[Tensor | None]:
    """The sum of the gradients of a structure of rows [Q, ...], of which the first `number` matter.

    Outside of XLA all rows go through `gradients` at once. Under XLA there may be many more rows than
    matter. They go through it `at_a_time` together, which must divide Q, until the rows that matter are done.
    """
    if not in_xla():
        return gradients(rows)

    def add_part(first: Tensor, total: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        index = first + tf.range(at_a_time)
        part = tf.nest.map_structure(lambda values: None if values is None else tf.gather(values, index), rows)
        found = gradients(part)
        return first + at_a_time, [
            t if f is None else t + tf.cast(f, t.dtype) for t, f in zip(total, found, strict=True)
        ]

    zeros = [tf.zeros(weight.shape, weight.dtype) for weight in weights]
    _, total = tf.while_loop(lambda first, _: first < number, add_part, (tf.constant(0), zeros))
    return total
