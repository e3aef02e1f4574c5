"""The first-order gradient of a margin, at the boundary point that DeepFool found."""

from typing import Any

import tensorflow as tf

from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import inner, squared_norm, unit
from keras_amm.search.linearisation import logit_differences
from keras_amm.search.loop import Path

# Below this cosine between the perturbation and the boundary's normal the path
# grazes the boundary, and its length has no useful derivative.
_GRAZING = 1e-3


def differentiate(classifier: Classifier, path: Path, index: Any, factor: Any, weights: list[Any]) -> list[Any]:
    """The gradient of `sum_k factor_k * norm_k`, by the implicit function theorem.

    The boundary `g(x + N u) = 0` moves with the weights, so along the fixed
    direction `u = delta / N` the distance changes by
    `dN/dtheta = - d/dtheta g(x*; theta) / <grad_x g(x*), u>`.

    Args:
        classifier: the network.
        path: what `search` recorded for the batch.
        index: int32 tensor [K], the selected samples.
        factor: float tensor [K], the weight of each norm, zero for none.
        weights: the variables to differentiate with respect to.

    Returns:
        A list of one tensor, or None where g does not depend on it, per variable.

    Example:
    >>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    >>> classifier = keras_amm.network.classifier.Classifier(model)
    >>> clean = keras_amm.search.linearisation.clean_pass(classifier, tf.ones((4, 2)))
    >>> path = keras_amm.DeepFool().path(classifier, clean, None)
    >>> gradients = keras_amm.gradient.boundary.differentiate(
    ...     classifier, path, tf.constant([0]), tf.constant([1.0]), model.trainable_variables)
    >>> gradients[0].shape
    TensorShape([2, 3])

    Reference: this library's own; not in the paper.
    """
    delta = tf.gather(path.delta, index)
    direction = unit(delta)
    source, target = tf.gather(path.source, index), tf.gather(path.target, index)
    x = tf.gather(path.x, index) + delta
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        g = logit_differences(classifier(x), source, target[:, None])[:, 0]
    w = tape.gradient(g, x, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    slope = inner(w, direction)
    is_steep = slope > _GRAZING * tf.sqrt(squared_norm(w))
    seed = tf.where(is_steep, -factor / tf.where(is_steep, slope, tf.ones_like(slope)), tf.zeros_like(slope))
    return tape.gradient(g, weights, output_gradients=seed)
