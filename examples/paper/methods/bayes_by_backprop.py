"""Bayes by Backprop: a distribution of weights, learnt by gradients (Blundell et al., 2015)."""

import dataclasses
import math
from typing import Any

import keras
from keras import ops

from .layers import replaced
from .method import Method


def log_normal(x: Any, mean: Any, deviation: Any) -> Any:
    """The logarithm of a normal density, element by element."""
    return -0.5 * ops.square((x - mean) / deviation) - ops.log(deviation) - 0.5 * math.log(2.0 * math.pi)


def log_prior(w: Any, portion: float, wide: float, narrow: float) -> Any:
    """The logarithm of a mixture of two normal densities around 0, element by element."""
    wide_part = math.log(portion) + log_normal(w, 0.0, ops.full_like(w, wide))
    return ops.logaddexp(wide_part, math.log(1.0 - portion) + log_normal(w, 0.0, ops.full_like(w, narrow)))


@keras.saving.register_keras_serializable(package="keras_amm_examples")
class BayesianDense(keras.layers.Layer):
    """A dense layer with `w = mu + log(1 + exp(rho)) eps` in training, one draw a batch, and mu in inference.

    In training it adds the complexity `(log q(w) - log P(w)) / N` to the loss. `kernel` and `bias` are mu.

    Args:
        units: int.
        images: int, N, the images of an epoch.
        activation: name of a Keras activation, or None.
        portion: float, pi of the prior, the part of the wider normal distribution.
        wide: float, its deviation.
        narrow: float, the other's.
        rho: float, where rho begins.
        **kwargs: arguments of `keras.layers.Layer`.
    """

    def __init__(
        self,
        units: int,
        images: int,
        activation: Any,
        portion: float,
        wide: float,
        narrow: float,
        rho: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units, self.images, self.activation = units, images, keras.activations.get(activation)
        self.prior, self.rho = {"portion": portion, "wide": wide, "narrow": narrow}, rho
        self.seed = keras.random.SeedGenerator()

    def build(self, input_shape: Any) -> None:
        """Make the means and their rho."""
        shape = (input_shape[-1], self.units)
        self.kernel = self.add_weight(shape=shape, initializer="he_normal", name="kernel")
        self.bias = self.add_weight(shape=(self.units,), initializer="zeros", name="bias")
        # How far rho has moved: the trainer's weight decay, which the method has not, then does not draw it to 0, where
        # the deviation is 0.7.
        self.kernel_rho = self.add_weight(shape=shape, initializer="zeros", name="kernel_rho")
        self.bias_rho = self.add_weight(shape=(self.units,), initializer="zeros", name="bias_rho")

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Of [B, n] the output [B, units], by drawn weights in training, by their means otherwise."""
        kernel, bias = self.kernel, self.bias
        if training:
            kernel, bias = self._draw(kernel, self.kernel_rho), self._draw(bias, self.bias_rho)
        return self.activation(ops.matmul(inputs, kernel) + bias)

    def _draw(self, mean: Any, rho: Any) -> Any:
        deviation = ops.softplus(self.rho + rho)
        drawn = mean + deviation * keras.random.normal(mean.shape, seed=self.seed)
        self.add_loss(self.complexity(drawn, mean, deviation))
        return drawn

    def complexity(self, drawn: Any, mean: Any, deviation: Any) -> Any:
        """`(log q(w | mu, sigma) - log P(w)) / N`, a scalar."""
        return ops.sum(log_normal(drawn, mean, deviation) - log_prior(drawn, **self.prior)) / self.images

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation."""
        activation = keras.activations.serialize(self.activation)
        own = {"units": self.units, "images": self.images, "activation": activation, "rho": self.rho, **self.prior}
        return {**super().get_config(), **own}


@dataclasses.dataclass(frozen=True)
class BayesByBackprop(Method):
    """Bayes by Backprop: `KL(q(w | theta) || P(w)) - E log P(D | w)`, for the dense layers' weights.

    Of one batch of M the complexity counts for 1 / M; by one draw of the weights. The prior is a mixture of two
    normal distributions. Margins and errors are those of the mean weights; the paper averages over draws.

    The trainer's weight decay acts on mu as a second prior, and on rho as a pull to where it began.

    Reference: Blundell et al., "Weight uncertainty in neural networks" (ICML 2015), the cost of Section 3.4 and the
    scale mixture prior of 3.3. The prior's values are among those that it searches; where rho begins is ours.

    Attributes:
        portion: pi of the prior.
        wide: the first deviation of the prior.
        narrow: the second.
        rho: where rho begins; the deviation is log(1 + exp(rho)).
    """

    portion: float = 0.5
    wide: float = 1.0
    narrow: float = math.exp(-6.0)
    rho: float = -5.0

    def rebuild(self, network: keras.Model, num_train: int) -> keras.Model:
        """The network with a distribution for the weights of its dense layers."""

        def replace(layer: keras.layers.Layer) -> keras.layers.Layer:
            if not isinstance(layer, keras.layers.Dense):
                return layer
            own = {"activation": layer.activation, "images": num_train, **dataclasses.asdict(self)}
            return BayesianDense(layer.units, name=layer.name, **own)

        return replaced(network, replace)
