"""DropConnect: random weights, not units, are dropped (Wan et al., 2013)."""

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from .layers import hidden_dense, replaced
from .method import Method


@keras.saving.register_keras_serializable(package="keras_amm_examples")
class DropConnectReLU(keras.layers.Dense):
    """`relu((M * W) v)`: a dense layer of ReLUs of which each example keeps every weight and bias with probability p.

    In inference a unit's input is taken for a Gaussian of the same moments, mean `p W v` and variance
    `p (1 - p) (W * W)(v * v)`, and the output is the mean of its ReLU. The paper draws samples of this Gaussian and
    averages; their limit, here, is deterministic, as an attack needs it.

    Args:
        units: int.
        keep: float in (0, 1], p.
        shared: bool, whether the examples of a batch share one mask.
        **kwargs: arguments of `keras.layers.Dense`, without an activation.
    """

    def __init__(self, units: int, keep: float = 0.5, shared: bool = False, **kwargs: Any) -> None:
        super().__init__(units, **kwargs)
        self.keep, self.shared = keep, shared
        self.seed = keras.random.SeedGenerator()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Of [B, n] the units' outputs, [B, units]."""
        weights = ops.concatenate([self.kernel, self.bias[None]], axis=0)
        inputs = ops.concatenate([inputs, ops.ones_like(inputs[:, :1])], axis=1)
        if training:
            number = 1 if self.shared else ops.shape(inputs)[0]
            drawn = keras.random.uniform((number, *weights.shape), seed=self.seed)
            kept = ops.cast(drawn < self.keep, inputs.dtype) * weights
            return ops.relu(ops.matmul(inputs, kept[0]) if self.shared else ops.einsum("bi,biu->bu", inputs, kept))
        mean = self.keep * ops.matmul(inputs, weights)
        variance = self.keep * (1.0 - self.keep) * ops.matmul(ops.square(inputs), ops.square(weights))
        return mean_relu(mean, ops.sqrt(variance + 1e-12))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation."""
        return {**super().get_config(), "keep": self.keep, "shared": self.shared}


def mean_relu(mean: Any, deviation: Any) -> Any:
    """The mean of the ReLU of a Gaussian: `m Phi(m / s) + s phi(m / s)`."""
    z = mean / deviation
    below, density = 0.5 * (1.0 + ops.erf(z / math.sqrt(2.0))), ops.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return mean * below + deviation * density


@dataclasses.dataclass(frozen=True)
class DropConnect(Method):
    """DropConnect on the hidden dense layers: `r = a((M * W) v)`, M drawn for each example.

    Reference: Wan et al., "Regularization of neural networks using DropConnect" (ICML 2013): its layer
    `r = a((M * W) v)`, trained by its Algorithm 1, and the moments of inference by its Algorithm 2. p = 0.5 is the
    paper's.

    Attributes:
        keep: p, the probability that a weight is kept.
        shared: 1 for one mask per batch in place of one per example, which takes a small part of the time.
    """

    keep: float = 0.5
    shared: bool = False

    def rebuild(self, network: keras.Model, num_train: int) -> keras.Model:
        """The network whose hidden dense layers drop weights."""
        hidden = hidden_dense(network)
        if not hidden:
            raise ValueError("DropConnect needs a network with hidden dense layers. Received: one without.")

        def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
            if layer not in hidden:
                return layer
            if layer.activation is not keras.activations.relu:
                raise ValueError(f"Expected hidden dense layers of ReLUs. Received: activation={layer.activation}.")
            return DropConnectReLU(layer.units, self.keep, self.shared, kernel_initializer="he_normal", name=layer.name)

        return replaced(network, replace)
