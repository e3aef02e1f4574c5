"""What a method may change in a training: the network, the training images, the loss, and callbacks."""

import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

import keras

from ..data.data_sets import DataSet

# (model, images, labels, logits) -> scalar.
Objective = Callable[[keras.Model, Any, Any, Any], Any]


@dataclasses.dataclass(frozen=True)
class Method:
    """One way of training; its attributes are its hyperparameters, numbers with defaults. This one changes nothing."""

    # Whether what happens in an epoch depends on how many there are, so that a finished training cannot be made longer.
    depends_on_epochs: ClassVar[bool] = False

    def rebuild(self, network: keras.Model, num_train: int) -> keras.Model:
        """The network with the method's layers in place of its own.

        Args:
            network: Functional `keras.Model` with logits as output.
            num_train: int, training images.

        Returns:
            `keras.Model` with logits as output, deterministic in inference; its weights are the network's where it has
            the same ones.
        """
        del num_train
        return network

    def disturb(self, data: DataSet, seed: int) -> DataSet:
        """The data with other training images or labels."""
        del seed
        return data

    def wrap(self, network: keras.Model) -> keras.Model:
        """The model to fit, which trains the rebuilt network."""
        return network

    @property
    def loss(self) -> keras.losses.Loss:
        """The loss that the model is compiled with."""
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def callbacks(self, network: keras.Model) -> list[keras.callbacks.Callback]:
        """What acts on the rebuilt network while it is trained."""
        del network
        return []


class ObjectiveModel(keras.Model):
    """A network that is trained on an objective of images, labels and logits, and evaluated by the compiled loss.

    Args:
        network: `keras.Model` with logits as output; it shares its weights.
        objective: function (model, images, labels, logits) -> scalar; the layers' own losses are added to it.
    """

    def __init__(self, network: keras.Model, objective: Objective) -> None:
        super().__init__()
        self.network = network
        self._objective = objective

    def build(self, input_shape: Any) -> None:
        """The network is built already."""
        del input_shape
        self.built = True

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The network's logits."""
        return self.network(inputs, training=training)

    def compute_loss(
        self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None, training: bool = True
    ) -> Any:
        """The objective in training; in evaluation the compiled loss."""
        if not training:
            return super().compute_loss(x, y, y_pred, sample_weight, training=False)
        return self._objective(self, x, y, y_pred) + sum(self.losses)


def cross_entropy(labels: Any, logits: Any) -> Any:
    """The cross-entropy of each image, [B], of labels [B] and logits [B, C]."""
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)


def one_hot(labels: Any, logits: Any) -> Any:
    """Labels [B] as [B, C] in the logits' dtype."""
    flat = keras.ops.reshape(keras.ops.cast(labels, "int32"), (-1,))
    return keras.ops.one_hot(flat, logits.shape[-1], dtype=logits.dtype)
