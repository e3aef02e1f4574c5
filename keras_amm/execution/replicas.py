"""The global batch of `tf.distribute`, of which each replica holds a part.

The margin penalty depends on the whole batch: MIN selects among all of its samples, and the penalty is a mean over
them. So replicas exchange a few numbers per sample (norms, labels, flags), never images. Each replica differentiates
its own samples, and the optimizer sums the gradients. They are also summed to know how long they are.
"""

import tensorflow as tf

from keras_amm.typing import Tensor

_UNSUPPORTED = (
    tf.distribute.ParameterServerStrategy,
    tf.distribute.experimental.ParameterServerStrategy,
    tf.distribute.experimental.CentralStorageStrategy,
    tf.distribute.TPUStrategy,
)


def require_supported_strategy(strategy: tf.distribute.Strategy) -> None:
    """Refuse a strategy that has no global batch, or that this library was never tried with.

    Raises:
        ValueError: it is a parameter server, central storage or TPU strategy.
    """
    if isinstance(strategy, _UNSUPPORTED):
        raise ValueError(
            "The margin penalty is computed over the global batch, so its replicas must train on it together. "
            "Expected: no strategy, or a MirroredStrategy, MultiWorkerMirroredStrategy or OneDeviceStrategy. "
            f"Received: {type(strategy).__name__}."
        )


def is_multi_worker(strategy: tf.distribute.Strategy) -> bool:
    """Whether the replicas are in several processes."""
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def are_several() -> bool:
    """Whether the code runs in one of several replicas, and so sees only a part of the batch."""
    is_whole = tf.distribute.in_cross_replica_context()
    return not is_whole and tf.distribute.get_strategy().num_replicas_in_sync > 1


def gather(values: Tensor) -> Tensor:
    """The values of the whole global batch [B, ...], in the order of the replicas; each passes its own, [b, ...]."""
    if not are_several():
        return values
    # Replicas can exchange numbers, but no booleans.
    numbers = tf.cast(values, tf.int32) if values.dtype == tf.bool else values
    return tf.cast(tf.distribute.get_replica_context().all_gather(numbers, axis=0), values.dtype)


def summed(values: list[Tensor]) -> list[Tensor]:
    """Tensors of the same shapes in all replicas, added up over these."""
    return tf.distribute.get_replica_context().all_reduce("sum", values) if values and are_several() else values


def own_part(values: Tensor, size: Tensor) -> Tensor:
    """This replica's part [b, ...] of values of the global batch [B, ...]; `size` is the scalar b."""
    if not are_several():
        return values
    # The last batch of an epoch may be divided into parts of different sizes.
    sizes = gather(tf.reshape(size, [1]))
    first = tf.reduce_sum(sizes[: tf.distribute.get_replica_context().replica_id_in_sync_group])
    return values[first : first + size]
