"""EM-Softmax: an ensemble of diverse classifiers, each with a soft margin (Wang et al., 2018)."""

import dataclasses
import itertools
from typing import Any

import keras
from keras import ops

from .layers import features_of, head
from .method import Method, ObjectiveModel, cross_entropy, one_hot


def soft_margin_cross_entropy(labels: Any, logits: Any, margin: float) -> Any:
    """The cross-entropy of each image, [B], the label's logit lowered by the margin."""
    return cross_entropy(labels, logits - margin * one_hot(labels, logits))


def dependence(one: Any, other: Any) -> Any:
    """The Hilbert-Schmidt independence criterion of two classifiers, whose classes are the samples.

    `tr(K H L H) / (C - 1)^2`, with the inner products K and L of their classes' weights, and H = I - 1/C.

    Args:
        one: float tensor [n, C], a kernel.
        other: float tensor [n, C].

    Returns:
        A scalar.
    """
    classes = one.shape[-1]
    # H from both sides takes the mean of the classes from each kernel, and tr(A'A B'B) is the squared norm of A B'.
    centred = [kernel - ops.mean(kernel, axis=1, keepdims=True) for kernel in (one, other)]
    return ops.sum(ops.square(ops.matmul(centred[0], ops.transpose(centred[1])))) / (classes - 1) ** 2


@dataclasses.dataclass(frozen=True)
class EnsembleSoftMargin(Method):
    """EM-Softmax: several last layers, each with `-log(e^(f_y - m) / (e^(f_y - m) + sum_j e^f_j))`, and their HSIC.

    `sum_v L_v + mu sum_(v < u) HSIC(W_v, W_u)`, L_v the mean over the images. The logits are the mean of the layers'.
    All layers are on the features of one network; the number in the paper's tables is of an ensemble of two networks.

    Reference: Wang et al., "Ensemble soft-margin softmax loss for image classification" (IJCAI 2018). Its margin and
    the weight of HSIC could not be looked up: those here are ours.

    Attributes:
        classifiers: the number of last layers.
        margin: m.
        diversity: mu.
    """

    classifiers: int = 2
    margin: float = 1.0
    diversity: float = 0.1

    def rebuild(self, network: keras.Model, num_train: int) -> keras.Model:
        """The network with several last layers; the first has the weights of its own."""
        last, features = head(network), features_of(network)
        heads = [
            keras.layers.Dense(last.units, kernel_initializer="he_normal", name=f"classifier_{number}")
            for number in range(self.classifiers)
        ]
        logits = [layer(features.output) for layer in heads]
        heads[0].set_weights(last.get_weights())
        return keras.Model(features.input, keras.layers.Average()(logits) if len(logits) > 1 else logits[0])

    def wrap(self, network: keras.Model) -> keras.Model:
        """The model that trains the classifiers apart."""
        heads = [network.get_layer(f"classifier_{number}") for number in range(self.classifiers)]
        features = keras.Model(network.input, heads[0].input)

        def objective(model: keras.Model, x: Any, y: Any, logits: Any) -> Any:
            hidden = features(x, training=True)
            losses = sum(ops.mean(soft_margin_cross_entropy(y, layer(hidden), self.margin)) for layer in heads)
            pairs = itertools.combinations([layer.kernel for layer in heads], 2)
            return losses + self.diversity * sum(dependence(*pair) for pair in pairs)

        return ObjectiveModel(network, objective)
