"""The first-order gradient of a margin, at the boundary point that DeepFool found."""

import tensorflow as tf

from keras_amm.execution.gradients import image_gradient, weight_gradients
from keras_amm.gradient.influence import Pull, unbounded
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import expand_to, inner, squared_norm, unit
from keras_amm.search.linearisation import logit_difference
from keras_amm.search.path import Path
from keras_amm.typing import Tensor, Variable

# If the cosine between the perturbation and the boundary's normal is below this, the path runs along the boundary, and
# the derivative of its length is arbitrarily large. Such samples get gradient 0.
_GRAZING = 1e-3


def differentiate(
    classifier: Classifier,
    path: Path,
    index: Tensor,
    factor: Tensor,
    weights: list[Variable],
    *,
    pull: Pull = unbounded,
) -> list[Tensor | None]:
    """The gradient of `sum_k factor_k * norm_k`, by the implicit function theorem; not in the paper.

    The boundary, where g = 0, moves with the weights theta. With the direction `u = delta / N` held fixed, its distance
    N from x changes by `dN/dtheta = - d/dtheta g(x*; theta) / <grad_x g(x*), u>`, where `x* = x + N u`.

    Args:
        classifier: the network.
        path: what `search` recorded for the batch.
        index: int32 [K], the selected samples.
        factor: float [K], the weight of each norm.
        weights: the variables to differentiate with respect to; those that g does not depend on get None.
        pull: changes the factors, given the slopes `<grad_x g(x*), u>`.
    """
    delta = tf.gather(path.delta, index)
    source, target = tf.gather(path.source, index), tf.gather(path.target, index)
    x = tf.gather(path.x, index) + delta
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([x, *classifier.sources])
        g = logit_difference(classifier(x), source, target)
    # Some searches have computed the normal already.
    w = image_gradient(tape, g, x) if path.normal is None else tf.gather(path.normal, index)
    # Where the image itself is at the boundary, one leaves it along the normal.
    is_zero = squared_norm(delta) == 0.0
    slope = inner(w, unit(tf.where(expand_to(is_zero, delta), w, delta)))
    is_steep = slope > _GRAZING * tf.sqrt(squared_norm(w))
    seed = -pull(factor, tf.where(is_steep, slope, tf.ones_like(slope)))
    seed = tf.where(is_steep, seed, tf.zeros_like(seed))
    return weight_gradients(tape, g, weights, output_gradients=seed)
