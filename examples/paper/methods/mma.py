"""MMA: adversarial training at each image's own margin (Ding et al., 2018)."""

import dataclasses
from typing import Any

import keras
import tensorflow as tf

from .method import Method, ObjectiveModel, cross_entropy, one_hot


def soft_logit_margin(labels: Any, logits: Any) -> Any:
    """`log sum_(j != y) exp(f_j) - f_y` of each image, [B]: above 0 where it is misclassified, nearly."""
    is_label = one_hot(labels, logits)
    others = tf.reduce_logsumexp(tf.where(is_label > 0.0, logits.dtype.min, logits), axis=-1)
    return others - tf.reduce_sum(is_label * logits, axis=-1)


@dataclasses.dataclass(frozen=True)
class MaxMarginAdversarial(Method):
    """MMA for l2: the cross-entropy at the nearest boundary point of the correct images, and at the wrong ones.

    `1/3 mean_i L(x_i) + 2/3 (1/B) [sum L(x_i + delta_i) + sum_wrong L(x_i)]`, the first sum over correct images with
    `|delta_i|` below `largest`. delta, which has no gradient, is searched by AN-PGD: projected gradient ascent of the
    soft logit margin within a ball, then a bisection along its direction for where the margin is 0.

    Reference: Ding et al., "MMA training: direct input space margin maximization through adversarial training" (2018;
    ICLR 2020). The defaults are its code's for MNIST and l2 with d_max = 2. Its search begins at a random point, with
    the image's margin of the epoch before for a radius, and keeps pixels in [0, 1]; this one begins at the image with
    a fixed radius, and clips nothing, as DeepFool here.

    Attributes:
        largest: d_max, beyond which a margin is large enough.
        radius: of the ball of the gradient ascent.
        steps: of the gradient ascent.
        halvings: steps of the bisection.
        scale: a step's length, in units of the radius by the number of steps.
        clean: the weight of the clean loss, 1/3.
    """

    largest: float = 2.0
    radius: float = 1.0
    steps: int = 40
    halvings: int = 10
    scale: float = 2.5
    clean: float = 1.0 / 3.0

    def wrap(self, network: keras.Model) -> keras.Model:
        """The model that trains at the boundary."""

        def objective(model: keras.Model, x: Any, y: Any, logits: Any) -> Any:
            perturbation = tf.stop_gradient(self.search(network, x, y))
            is_correct = soft_logit_margin(y, logits) < 0.0
            norm = tf.norm(tf.reshape(perturbation, (tf.shape(x)[0], -1)), axis=1)
            moved = x + tf.where(_as_images(is_correct, x), perturbation, tf.zeros_like(x))
            counts = tf.cast(~is_correct | (norm < self.largest), x.dtype)
            margin_loss = tf.reduce_mean(counts * cross_entropy(y, network(moved, training=True)))
            return self.clean * tf.reduce_mean(cross_entropy(y, logits)) + (1.0 - self.clean) * margin_loss

        return ObjectiveModel(network, objective)

    def search(self, network: keras.Model, x: Any, y: Any) -> Any:
        """The perturbations to the boundary, of images [B, ...] and labels [B]; at most 1.05 d_max long."""
        direction = _unit(self._ascend(network, x, y))

        def halve(_: Any, low: Any, high: Any) -> tuple[Any, Any, Any]:
            middle = (low + high) / 2.0
            logits = network(x + _as_images(middle, x) * direction, training=False)
            is_short = soft_logit_margin(y, logits) < 0.0
            return _ + 1, tf.where(is_short, middle, low), tf.where(is_short, high, middle)

        low = tf.zeros_like(x[(slice(None), *[0] * (len(x.shape) - 1))])
        bounds = (0, low, tf.fill(tf.shape(low), 1.05 * self.largest))
        _, low, high = tf.while_loop(lambda i, *_: i < self.halvings, halve, bounds)
        return _as_images((low + high) / 2.0, x) * direction

    def _ascend(self, network: keras.Model, x: Any, y: Any) -> Any:
        """What the gradient ascent adds to the images, at most `radius` long."""

        def step(i: Any, moved: Any) -> tuple[Any, Any]:
            with tf.GradientTape() as tape:
                tape.watch(moved)
                margin = soft_logit_margin(y, network(x + moved, training=False))
            moved += self.scale * self.radius / self.steps * _unit(tape.gradient(margin, moved))
            length = tf.norm(tf.reshape(moved, (tf.shape(x)[0], -1)), axis=1)
            return i + 1, moved * _as_images(tf.minimum(1.0, self.radius / tf.maximum(length, 1e-12)), x)

        return tf.while_loop(lambda i, _: i < self.steps, step, (0, tf.zeros_like(x)))[1]


def _as_images(values: Any, x: Any) -> Any:
    """Values [B] in the shape [B, 1, ...] of images."""
    return tf.reshape(values, (-1, *[1] * (len(x.shape) - 1)))


def _unit(x: Any) -> Any:
    """Images [B, ...] divided by their norms; zeros stay zeros."""
    norm = tf.norm(tf.reshape(x, (tf.shape(x)[0], -1)), axis=1)
    return x / _as_images(tf.maximum(norm, 1e-12), x)
