"""The mean and variance by which BatchNormalization normalises a training batch, kept for the margins of that batch.

The moving statistics lag behind weights that change fast. Margins taken by them would be those of another network than
the one that is being trained, and what the penalty changes in the weights would drive the two further apart.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

import keras
import tensorflow as tf

from keras_amm.network.kernels.replaced import replaced
from keras_amm.typing import Tensor

# Moving statistics, and what stands in for them.
Statistics: TypeAlias = list[tuple[keras.Variable, Tensor]]

_moments = keras.layers.BatchNormalization._moments


def has_batch_statistics(model: keras.Model) -> bool:
    """Whether a layer of the model normalises by the batch in training mode."""
    return any(_normalises_by_batch(layer) for layer in model._flatten_layers())


def _normalises_by_batch(layer: keras.Layer) -> bool:
    # With renormalisation, a layer normalises by its moving statistics while it is trained, too.
    return isinstance(layer, keras.layers.BatchNormalization) and layer.trainable and not layer.renorm


@contextlib.contextmanager
def recorded_statistics() -> Iterator[Statistics]:
    """Collect what each layer normalises by in a pass in training mode; complete after the block.

    A layer that is called several times has the mean of its statistics, as its moving ones have.

    Example:
    >>> layer = keras.layers.BatchNormalization()
    >>> with keras_amm.network.batch_statistics.recorded_statistics() as statistics:
    ...     y = layer(tf.constant([[1.0], [3.0]]), training=True)
    >>> [float(value[0]) for _, value in statistics]
    [2.0, 1.0]
    """
    found: dict[int, tuple[Any, list[tuple[Tensor, Tensor]]]] = {}

    def record(layer: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        moments = _moments(layer, *args, **kwargs)
        if _normalises_by_batch(layer):
            found.setdefault(id(layer), (layer, []))[1].append(moments)
        return moments

    statistics: Statistics = []
    with replaced(keras.layers.BatchNormalization, _moments=record):
        yield statistics
    for layer, moments in found.values():
        if all(_is_reachable(value) for pair in moments for value in pair):
            variables = (layer.moving_mean, layer.moving_variance)
            for variable, values in zip(variables, zip(*moments, strict=True), strict=True):
                statistics.append((variable, tf.add_n(list(values)) / len(values)))


def normalising_by(statistics: Statistics) -> contextlib.AbstractContextManager[Any]:
    """Let layers in inference mode read these in place of their moving statistics."""
    return keras.StatelessScope(statistics) if statistics else contextlib.nullcontext()


def _is_reachable(value: Tensor) -> bool:
    """Whether the tensor belongs to the graph that is traced now, not to one within it, as that of a `tf.map_fn`."""
    return tf.executing_eagerly() or value.graph is tf.compat.v1.get_default_graph()
