"""Jacobian regularisation: a small derivative of the logits with respect to the image (Sokolic et al., 2017)."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from .method import Method, ObjectiveModel, cross_entropy


def squared_jacobian(network: keras.Model, x: Any) -> Any:
    """The squared Frobenius norm of each image's Jacobian, [B], of images [B, ...]."""
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        logits = tf.unstack(network(x, training=True), axis=-1)
    rows = [tape.gradient(logit, x) for logit in logits]
    return tf.add_n([tf.reduce_sum(tf.square(row), axis=range(1, len(x.shape))) for row in rows])


@dataclasses.dataclass(frozen=True)
class JacobianRegularization(Method):
    """The cross-entropy and `strength / B sum_i |J(x_i)|_F^2`, J the Jacobian of the logits.

    Reference: Sokolic et al., "Robust large margin deep neural networks" (IEEE Transactions on Signal Processing 65,
    2017), which bounds the margin by the spectral norm of the Jacobian and penalises its Frobenius norm. The weight is
    ours.

    Attributes:
        strength: the weight of the penalty.
    """

    strength: float = 0.01

    def wrap(self, network: keras.Model) -> keras.Model:
        """The model that trains with the penalty."""

        def objective(model: keras.Model, x: Any, y: Any, logits: Any) -> Any:
            penalty = tf.reduce_mean(squared_jacobian(network, x))
            return tf.reduce_mean(cross_entropy(y, logits)) + self.strength * penalty

        return ObjectiveModel(network, objective)
