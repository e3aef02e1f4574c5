"""How long gradients are, by the class predicted and the class aimed at: what earlier batches tell a best-first search.

On one network the norms of gradients between the same two classes are alike, and those between others are not. A search
that knows this has less doubt about gradients that it has not computed, and computes fewer. What is kept is a table of
logarithms, in which only differences mean something: so it has no unit, and zeros, with which it begins, say nothing.
"""

import tensorflow as tf

from keras_amm.typing import Tensor

# Of networks with more classes, several share an entry, and the table says less.
_CLASSES = 128
SIZE = _CLASSES**2
# So many gradients between two classes move their entry half of the way.
_INERTIA = 20.0


def expected(table: Tensor, prediction: Tensor, candidates: Tensor) -> Tensor:
    """Up to a factor that all share, the norms of gradients to expect, float32 [B, k].

    Args:
        table: float32 [SIZE].
        prediction: int32 [B], the class to be left.
        candidates: int32 [B, k], the classes aimed at.
    """
    return tf.exp(tf.gather(table, _entries(prediction, candidates)))


def change(table: Tensor, prediction: Tensor, candidates: Tensor, squared: Tensor) -> Tensor:
    """What a batch's gradients change in the table, float32 [SIZE].

    Args:
        table: float32 [SIZE].
        prediction: int32 [B].
        candidates: int32 [B, k].
        squared: float [B, k], the squared norms of the gradients; 0 where they are not known. Those that are NaN or
            infinite do not count: the table would keep them for good.
    """
    known = (squared > 0.0) & tf.math.is_finite(squared)
    entries = _entries(prediction, candidates)
    counts = tf.cast(known, tf.float32)
    logs = 0.5 * tf.math.log(tf.cast(tf.where(known, squared, tf.ones_like(squared)), tf.float32))
    surprise = counts * (logs - tf.gather(table, entries))
    # All gradients of an image may be long, which says nothing of its classes.
    of_batch = tf.math.divide_no_nan(tf.reduce_sum(surprise), tf.reduce_sum(counts))
    of_image = (tf.reduce_sum(surprise, axis=1, keepdims=True) + of_batch) / (
        tf.reduce_sum(counts, axis=1, keepdims=True) + 1.0
    )
    number = tf.math.unsorted_segment_sum(counts, entries, SIZE)
    moves = counts * (surprise - of_image) / (tf.gather(number, entries) + _INERTIA)
    return tf.math.unsorted_segment_sum(moves, entries, SIZE)


def _entries(prediction: Tensor, candidates: Tensor) -> Tensor:
    """The places in the table, int32 [B, k]."""
    return (prediction % _CLASSES)[:, None] * _CLASSES + candidates % _CLASSES
