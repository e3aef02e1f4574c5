"""DLSVM: a linear support vector machine in place of the softmax (Tang, 2013)."""

import dataclasses
from typing import Any, ClassVar

import keras
from keras import ops

from .layers import replaced
from .method import Method, one_hot


@keras.saving.register_keras_serializable(package="keras_amm_examples")
class SquaredHinge(keras.losses.Loss):
    """`C sum_k max(0, 1 - t_k f_k)^2`, t_k = 1 for the label and -1 for all other classes.

    Args:
        strength: float, the C of the support vector machine.
        **kwargs: arguments of `keras.losses.Loss`.
    """

    def __init__(self, strength: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.strength = strength

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Of labels [B] and scores [B, C], the loss of each image, [B]."""
        signs = 2.0 * one_hot(y_true, y_pred) - 1.0
        # Keras's own is the mean over the classes.
        return self.strength * y_pred.shape[-1] * keras.losses.squared_hinge(signs, y_pred)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, for serialisation."""
        return {**super().get_config(), "strength": self.strength}


@keras.saving.register_keras_serializable(package="keras_amm_examples")
class FadingNoise(keras.layers.Layer):
    """Adds Gaussian noise in training; `Fade` lowers its deviation, which is a weight."""

    def build(self, input_shape: Any) -> None:
        """Make the deviation, 0 at first."""
        del input_shape
        self.deviation = self.add_weight(shape=(), initializer="zeros", trainable=False, name="deviation")
        self.seed = keras.random.SeedGenerator()

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """Images with noise in training, as they are otherwise."""
        if not training:
            return inputs
        return inputs + self.deviation * keras.random.normal(ops.shape(inputs), dtype=inputs.dtype, seed=self.seed)


class Fade(keras.callbacks.Callback):
    """Lowers the noise's deviation linearly over the epochs; after the last one it would be 0.

    Args:
        layer: `FadingNoise`.
        first: float, the deviation of the first epoch.
    """

    def __init__(self, layer: FadingNoise, first: float) -> None:
        super().__init__()
        self.layer, self.first = layer, first

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Set the deviation of this epoch."""
        self.layer.deviation.assign(self.first * (1.0 - epoch / self.params["epochs"]))


@dataclasses.dataclass(frozen=True)
class DeepLinearSVM(Method):
    """DLSVM: the one-versus-rest L2-SVM, `1/2 |w|^2 + C sum_n max(0, 1 - w.x_n t_n)^2`, on the last hidden layer.

    The trainer's weight decay stands for the first term. Gaussian noise is added to the images in training, and its
    deviation falls linearly to 0 (Section 3 of that paper, which reduces MNIST to 70 principal components before it).

    Reference: Tang, "Deep learning using linear support vector machines" (2013), the L2-SVM of Section 2. C and the
    deviation, in units of the pixels' range, are ours: the paper's noise is that of principal components.

    Attributes:
        strength: C.
        noise: the deviation of the noise in the first epoch.
    """

    depends_on_epochs: ClassVar[bool] = True
    strength: float = 1.0
    noise: float = 0.3

    def rebuild(self, network: keras.Model, num_train: int) -> keras.Model:
        """The network with noise on its images."""
        copy = replaced(network, lambda layer: layer)
        inputs = keras.Input(network.input_shape[1:])
        return keras.Model(inputs, copy(FadingNoise(name="noise")(inputs)))

    @property
    def loss(self) -> keras.losses.Loss:
        """The squared hinge."""
        return SquaredHinge(self.strength)

    def callbacks(self, network: keras.Model) -> list[keras.callbacks.Callback]:
        """The end of the noise."""
        return [Fade(network.get_layer("noise"), self.noise)]
