"""L-Softmax: the label's angle must be m times smaller than the others' (Liu et al., 2016)."""

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from .layers import features_of, head, replaced
from .method import Method, ObjectiveModel, cross_entropy, one_hot


def psi(cosine: Any, multiple: int) -> Any:
    """`(-1)^k cos(m theta) - 2 k` for theta in [k pi / m, (k + 1) pi / m]: falls all the way, below the cosine.

    Args:
        cosine: float tensor, cos(theta).
        multiple: int, m.

    Returns:
        The same shape.

    Example:
    >>> [round(float(psi(ops.cos(angle), 2)), 3) for angle in (0.0, math.pi / 2, math.pi)]
    [1.0, -1.0, -3.0]
    """
    # cos(m theta) as a polynomial of the cosine, whose derivative is finite where the angle's is not.
    before, now = ops.ones_like(cosine), cosine
    for _ in range(multiple - 1):
        before, now = now, 2.0 * cosine * now - before
    bounds = [math.cos(k * math.pi / multiple) for k in range(1, multiple)]
    k = sum((ops.cast(cosine < bound, cosine.dtype) for bound in bounds), ops.zeros_like(cosine))
    return (1.0 - 2.0 * (k % 2.0)) * now - 2.0 * k


@dataclasses.dataclass(frozen=True)
class LargeMarginSoftmax(Method):
    """L-Softmax: in the softmax, the label's logit `|W_y| |x| cos(theta_y)` becomes `|W_y| |x| psi(theta_y)`.

    The two are mixed as `(lambda cos + psi) / (1 + lambda)`, with `lambda = base (1 + gamma iteration)^(-power)`,
    since psi alone hardly learns from new weights. The last layer has no bias.

    Reference: Liu et al., "Large-margin softmax loss for convolutional neural networks" (ICML 2016), the loss of
    its Section 3.2 with `psi(theta) = (-1)^k cos(m theta) - 2 k`. m = 4 and the fall of lambda are those of the
    authors' MNIST example.

    Attributes:
        multiple: m.
        base: lambda at first.
        gamma: how fast it falls,
        power: and with which power.
        least: the lambda below which it does not fall.
    """

    multiple: int = 4
    base: float = 1000.0
    gamma: float = 2.5e-5
    power: float = 35.0
    least: float = 0.0

    def rebuild(self, network: keras.Model, num_train: int) -> keras.Model:
        """The network without the bias of its last layer."""
        last = head(network)
        new = keras.layers.Dense(last.units, use_bias=False, kernel_initializer="he_normal", name=last.name)
        return replaced(network, lambda layer: new if layer is last else layer)

    def wrap(self, network: keras.Model) -> keras.Model:
        """The model that trains with the margin."""
        features, kernel = features_of(network), head(network).kernel

        def objective(model: keras.Model, x: Any, y: Any, logits: Any) -> Any:
            iteration = ops.cast(model.optimizer.iterations, logits.dtype)
            mixing = ops.maximum(self.base * (1.0 + self.gamma * iteration) ** -self.power, self.least)
            return self.loss_of(features(x, training=True), kernel, y, logits, mixing)

        return ObjectiveModel(network, objective)

    def loss_of(self, features: Any, kernel: Any, labels: Any, logits: Any, mixing: Any) -> Any:
        """The mean loss of features [B, n], a kernel [n, C], labels [B], logits [B, C] and lambda."""
        is_label = one_hot(labels, logits)
        # The square root has no gradient at 0, where all features of an image are 0.
        lengths = ops.sqrt(ops.sum(ops.square(features), axis=1, keepdims=True) + 1e-12)
        norms = lengths * ops.norm(kernel, axis=0, keepdims=True)
        widened = norms * psi(ops.clip(logits / (norms + 1e-9), -1.0, 1.0), self.multiple)
        mixed = (mixing * logits + widened) / (1.0 + mixing)
        return ops.mean(cross_entropy(labels, ops.where(is_label > 0.0, mixed, logits)))
