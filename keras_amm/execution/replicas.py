"""The global batch of `tf.distribute`, of which each replica holds a part.

MIN selects among the whole batch, and the penalty is a mean over it. So
replicas exchange a few numbers per sample (norms, labels, flags), never images;
each differentiates its own samples, and the optimizer sums the gradients.
"""

from typing import Any

import tensorflow as tf

_UNSUPPORTED = (
    tf.distribute.ParameterServerStrategy,
    tf.distribute.experimental.ParameterServerStrategy,
    tf.distribute.experimental.CentralStorageStrategy,
    tf.distribute.TPUStrategy,
)


def require_supported_strategy(strategy: Any) -> None:
    """Refuse a strategy under which there is no global batch, or under which none was ever tried.

    Args:
        strategy: `tf.distribute.Strategy`.

    Raises:
        ValueError: it is a parameter server, central storage or TPU strategy.

    Example:
    >>> keras_amm.execution.replicas.require_supported_strategy(tf.distribute.get_strategy())
    """
    if isinstance(strategy, _UNSUPPORTED):
        raise ValueError(
            "The margin penalty is computed over the global batch, so its replicas must train on it together. "
            "Expected: no strategy, or a MirroredStrategy, MultiWorkerMirroredStrategy or OneDeviceStrategy. "
            f"Received: {type(strategy).__name__}."
        )


def is_multi_worker(strategy: Any) -> bool:
    """Whether the replicas are in several processes.

    Args:
        strategy: `tf.distribute.Strategy`.

    Returns:
        Bool.

    Example:
    >>> keras_amm.execution.replicas.is_multi_worker(tf.distribute.get_strategy())
    False
    """
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def are_several() -> bool:
    """Whether what runs now is one replica of several, and sees a part of the batch.

    Returns:
        Bool; False outside of replicas, where a batch is whole.

    Example:
    >>> keras_amm.execution.replicas.are_several()
    False
    """
    is_whole = tf.distribute.in_cross_replica_context()
    return not is_whole and tf.distribute.get_strategy().num_replicas_in_sync > 1


def gather(values: Any) -> Any:
    """Per-sample values of the global batch.

    Args:
        values: tensor [b, ...], those of this replica's samples.

    Returns:
        Tensor [B, ...], those of all replicas in their order; `values` itself where there is one replica.

    Example:
    >>> keras_amm.execution.replicas.gather(tf.constant([1, 2])).numpy()
    array([1, 2], dtype=int32)
    """
    if not are_several():
        return values
    # Collective operations know no booleans.
    numbers = tf.cast(values, tf.int32) if values.dtype == tf.bool else values
    return tf.cast(tf.distribute.get_replica_context().all_gather(numbers, axis=0), values.dtype)


def own_part(values: Any, size: Any) -> Any:
    """This replica's part of the global batch's values.

    Args:
        values: tensor [B, ...].
        size: int32 scalar, the number b of this replica's samples.

    Returns:
        Tensor [b, ...]; `values` itself where there is one replica.

    Example:
    >>> keras_amm.execution.replicas.own_part(tf.constant([1, 2]), 2).numpy()
    array([1, 2], dtype=int32)
    """
    if not are_several():
        return values
    # The last batch may divide unevenly.
    sizes = gather(tf.reshape(size, [1]))
    first = tf.reduce_sum(sizes[: tf.distribute.get_replica_context().replica_id_in_sync_group])
    return values[first : first + size]
