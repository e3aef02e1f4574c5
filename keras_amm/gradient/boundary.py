"""The first-order gradient of a margin, at the boundary point that DeepFool found.

The boundary, where g = 0, moves with the weights theta. At a boundary point x* = x + N u, the implicit function theorem
gives how far it moves along a direction, and so how a distance changes:

    dN/dtheta = - d/dtheta g(x*; theta) / <grad_x g(x*), u>

With u the unit normal, `grad_x g / ||grad_x g||`, this is the gradient of the distance at a boundary point in Atzmon
et al. ("Controlling Neural Level Sets", NeurIPS 2019), in MMA (Ding et al., ICLR 2020, Proposition 2.1) and in DyART
(Xu et al., ICLR 2023): they divide by the length of the normal. Here u is the ray from the image to the point that the
search found, held fixed, so the divisor is the component of the normal along the ray. The result is larger by 1/cos,
where cos is the cosine between ray and normal. It is exact for the length of the ray, the norm that is reported. At the
nearest point of the boundary the ray is the normal, cos is 1, and all of these agree.

The farther the point found is from the nearest one, the smaller cos is, and the less the length of the ray says of the
distance. So cos counts as no less than `FLOOR`.

In the l-infinity norm, the length of the ray is that norm's, that of the normal is the dual norm's, and cos is the
quotient `<grad_x g, u> / ||grad_x g||_1`, which is 1 at the nearest point there as well.
"""

import tensorflow as tf

from keras_amm.execution.gradients import image_gradient, weight_gradients
from keras_amm.gradient.influence import Pull, unbounded
from keras_amm.network.classifier import Classifier
from keras_amm.search.geometry import expand_to, inner
from keras_amm.search.linearisation import logit_difference
from keras_amm.search.norms import norm_for
from keras_amm.search.path import Path
from keras_amm.typing import Tensor, Variable

# So no sample is pulled over three and a third times as hard as if its ray were the normal. Of four networks trained on
# MNIST, plain and with AMM, no image of 1,000 has a smaller cosine: their gradients are exact.
FLOOR = 0.3
# Below this, the ray runs along the boundary or leaves the target's side: it says nothing, and the gradient is 0.
_GRAZING = 1e-3


def differentiate(
    classifier: Classifier,
    path: Path,
    index: Tensor,
    factor: Tensor,
    weights: list[Variable],
    *,
    pull: Pull = unbounded,
) -> tuple[list[Tensor | None], Tensor]:
    """The gradient of `sum_k factor_k * norm_k`, and the cosines [K] between rays and normals.

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
    norm = norm_for(classifier)
    is_zero = norm.of(delta) == 0.0
    slope = inner(w, norm.unit(tf.where(expand_to(is_zero, delta), norm.dual_map(w), delta)))
    length = tf.sqrt(norm.dual_squared(w))
    is_steep = slope > _GRAZING * length
    seed = -pull(factor, tf.where(is_steep, tf.maximum(slope, FLOOR * length), tf.ones_like(slope)))
    seed = tf.where(is_steep, seed, tf.zeros_like(seed))
    return weight_gradients(tape, g, weights, output_gradients=seed), tf.math.divide_no_nan(slope, length)
